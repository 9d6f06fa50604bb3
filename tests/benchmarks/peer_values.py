"""Agreement of the filters and of the full-length transform with ssqueezepy and clouddrift, where those are exact.

    pip install -e '.[bench]' clouddrift
    python tests/benchmarks/peer_values.py                # writes results/peer_values.json

Both are compared with the reference that the tests hold the scalogram to (``tests/kernels/conftest.py``).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mird.kernels.morse import Morse

RESULTS = Path(__file__).with_name("results")
ROWS, SAMPLES = [0, 12, 40, 60, 90], [0, 100, 4096, 8191]


def reference_module() -> Any:
    path = Path(__file__).parents[1] / "kernels" / "conftest.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    warnings.simplefilter("ignore")
    import clouddrift.wavelet
    import ssqueezepy

    reference, morse, n = reference_module(), Morse(), 8_192
    t = np.arange(n)
    samples = np.cos(1.5e-4 * t * t) + 0.3 * np.sin(0.05 * t) + 0.1 * (t % 700 < 5)
    scales = morse.scales(n, 12)
    wanted = np.abs(reference.reference_coefficients(samples, 12, 0))
    wavelet = ssqueezepy.Wavelet(("gmw", {"gamma": 3, "beta": 20}), dtype="float64")
    options = {"scales": scales, "padtype": "symmetric", "l1_norm": True, "astensor": False}
    theirs = np.abs(ssqueezepy.cwt(samples, wavelet, **options)[0])
    w = 2 * np.pi * np.arange(2048) / 4096
    filters = []
    for scale in (1.5, 7.0, 40.0, 150.0):
        _, bank = clouddrift.wavelet.morse_wavelet(
            4096, 3, 20, np.array([morse.peak / scale]), normalization="bandpass"
        )
        filters.append(float(np.abs(np.abs(bank[0, 0])[:2048] - morse.response(w * scale)).max()))
    mirrored = clouddrift.wavelet.morse_wavelet_transform(samples, 3, 20, morse.peak / scales, boundary="mirror")
    mirrored = np.abs(np.asarray(mirrored).reshape(len(scales), n))
    middle = slice(20, 60)
    gain = float(np.median(mirrored[middle] / wanted[middle]))
    result = {
        "ssqueezepy": importlib.metadata.version("ssqueezepy"),
        "clouddrift": importlib.metadata.version("clouddrift"),
        "ssqueezepy transform, symmetric padding, relative L2": float(
            np.linalg.norm(theirs - wanted) / np.linalg.norm(wanted)
        ),
        "ssqueezepy magnitudes, rows 0 12 40 60 90, samples 0 100 4096 8191": theirs[ROWS][:, SAMPLES].tolist(),
        "clouddrift filters, largest difference (peak 2)": max(filters),
        "clouddrift peak frequency, difference": float(abs(clouddrift.wavelet.morse_freq(3, 20)[0] - morse.peak)),
        "clouddrift transform, mirror, rows 20 to 59, relative L2": float(
            np.linalg.norm(mirrored[middle] / gain - wanted[middle]) / np.linalg.norm(wanted[middle])
        ),
    }
    print(json.dumps(result, indent=1))
    (RESULTS / "peer_values.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
