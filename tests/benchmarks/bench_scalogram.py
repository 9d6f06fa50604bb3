"""The scalogram side by side with its peers, interleaved in one process per number of threads.

    pip install -e '.[fast,bench]'
    python tests/benchmarks/bench_scalogram.py            # both thread counts, writes results/scalogram.json
    python tests/benchmarks/chart_scalogram.py            # draws results/scalogram.svg from it

Task: the 151 scales (12 voices, 19145 to 3.3 Hz) of one second at 44.1 kHz. The peers give their magnitudes at full
resolution, 151 x 44100, ours the 151 x 224 column means that are wanted; the peers are not charged for taking means.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).with_name("results")
RATE_HZ = 44_100
PACKAGES = ("numpy", "scipy", "ducc0", "fcwt", "ssqueezepy", "PyWavelets", "librosa", "numba", "pyfftw")

Run = Callable[[Any], Any]


def fcwt_run(hertz: Any, n_threads: int) -> Run:
    import fcwt
    import numpy as np

    morlet = fcwt.Morlet(1.233)  # the same relative bandwidth
    scales = fcwt.Scales(morlet, fcwt.FCWT_LOGSCALES, RATE_HZ, float(hertz[-1]), float(hertz[0]), len(hertz))
    optimised, normalised = False, True
    transform = fcwt.FCWT(morlet, n_threads, optimised, normalised)
    waves = np.zeros((len(hertz), RATE_HZ), np.complex64)

    def run(samples: Any, _kept: Any = morlet) -> Any:  # fCWT keeps a bare pointer to its wavelet
        transform.cwt(samples, scales, waves)
        return np.abs(waves)

    return run


def ssqueezepy_run(hertz: Any, *, vectorized: bool) -> Run:
    import numpy as np
    import ssqueezepy

    from mird.kernels.frontend import FrontEnd
    from mird.kernels.morse import Morse

    wavelet = ssqueezepy.Wavelet(("gmw", {"gamma": 3, "beta": 20}), dtype="float32")
    scales = Morse().scales(RATE_HZ, FrontEnd.voices)[: len(hertz)].astype(np.float32)
    options = {"scales": scales, "fs": RATE_HZ, "padtype": "reflect", "l1_norm": True, "astensor": False}

    def run(samples: Any) -> Any:
        return np.abs(ssqueezepy.cwt(samples, wavelet, vectorized=vectorized, cache_wavelet=vectorized, **options)[0])

    return run


def pywavelets_run(hertz: Any, _n_threads: int) -> Run:
    import numpy as np
    import pywt

    name = "cmor3.04-1.0"  # the same relative bandwidth
    scales = RATE_HZ * pywt.central_frequency(name, 12) / hertz
    return lambda samples: np.abs(pywt.cwt(samples, scales, name, sampling_period=1 / RATE_HZ, method="fft")[0])


def scipy_full_run(hertz: Any, n_threads: int) -> Run:
    import numpy as np
    import scipy.fft

    from mird.kernels.morse import Morse

    morse, half = Morse(), RATE_HZ // 2
    w = np.pi * np.arange(RATE_HZ + 1) / RATE_HZ
    bank = np.stack([morse.response(w * scale) for scale in morse.peak * RATE_HZ / (2 * np.pi * hertz)])
    bank = bank.astype(np.float32)

    def run(samples: Any) -> Any:
        bands = np.zeros((len(hertz), 2 * RATE_HZ), np.complex64)
        bands[:, : RATE_HZ + 1] = scipy.fft.rfft(np.pad(samples, (half, half), mode="symmetric")) * bank
        waves = scipy.fft.ifft(bands, axis=1, workers=n_threads, overwrite_x=True)
        return np.abs(waves[:, half : half + RATE_HZ])

    return run


def librosa_run(_hertz: Any, _n_threads: int) -> Run:
    import librosa
    import numpy as np

    options: dict[str, Any] = {"sr": RATE_HZ, "hop_length": 256, "fmin": 27.5, "n_bins": 114, "bins_per_octave": 12}
    return lambda samples: np.abs(librosa.vqt(samples, **options))


PEERS: dict[str, Callable[[Any, int], Run]] = {
    "fCWT": fcwt_run,
    "ssqueezepy, vectorized, cached": lambda hertz, _: ssqueezepy_run(hertz, vectorized=True),
    "ssqueezepy, default": lambda hertz, _: ssqueezepy_run(hertz, vectorized=False),
    "PyWavelets, FFT": pywavelets_run,
    "SciPy, full length": scipy_full_run,
    "librosa VQT, 114 bins": librosa_run,
}


def elapsed_ms(run: Run, samples: Any) -> float:
    begun = time.perf_counter()
    run(samples)
    return 1e3 * (time.perf_counter() - begun)


def measure(n_threads: int, n_rounds: int) -> dict[str, Any]:
    """All peers and ours, one after the other, round after round."""
    import numpy as np

    from mird.kernels.frontend import FrontEnd
    from mird.kernels.scalogram import CPU_BACKENDS, installed_backends, open_scalogram

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(RATE_HZ)).astype(np.float32)
    names = [name for name in CPU_BACKENDS if name in installed_backends()]
    ours = {name: open_scalogram(FrontEnd.paper(), name, n_threads) for name in names}
    hertz = ours["scipy"].frequencies_hz
    peers, missing = {}, {}
    for name, factory in PEERS.items():
        try:
            peers[name] = factory(hertz, n_threads)
            peers[name](samples)
        except ImportError as error:
            missing[name] = str(error)
    times: dict[str, list[float]] = {name: [] for name in [*peers, *(f"mird {name}" for name in ours)]}
    ratios: dict[str, dict[str, list[float]]] = {peer: {name: [] for name in ours} for peer in peers}
    window = samples[None]
    for _ in range(n_rounds):
        for peer, run in peers.items():
            spent = elapsed_ms(run, samples)
            times[peer].append(spent)
            for name, transform in ours.items():
                transform(window)
                own = median(elapsed_ms(transform, window) for _ in range(5))
                times[f"mird {name}"].append(own)
                ratios[peer][name].append(spent / own)
    channels: dict[str, dict[str, float]] = {}
    for n in (1, 8, 32):
        windows = np.tile(window, (n, 1))
        spent_n: dict[str, list[float]] = {name: [] for name in ours}
        for _ in range(2 * n_rounds):
            for name, transform in ours.items():
                transform(windows)
                spent_n[name].append(elapsed_ms(transform, windows) / n)
        channels[str(n)] = {name: round(median(spent), 3) for name, spent in spent_n.items()}
    least = {name: min(spent) for name, spent in times.items()}
    return {
        "n_threads": n_threads,
        "median_ms": {name: round(median(spent), 2) for name, spent in times.items()},
        "least_ms": {name: round(ms, 2) for name, ms in least.items()},
        "times_faster_at_best": {
            peer: {name: round(least[peer] / least[f"mird {name}"], 1) for name in ours} for peer in peers
        },
        "times_faster": {peer: {name: round(median(r), 1) for name, r in of.items()} for peer, of in ratios.items()},
        "ms_per_channel": channels,
        "missing": missing,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "n_cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "scalogram.json")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.rounds)))
        return
    runs: list[dict[str, Any]] = []
    for n_threads in options.threads:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, str(n_threads)), "SSQ_PARALLEL": str(int(n_threads > 1))}
        command = [sys.executable, __file__, "--child", str(n_threads), "--rounds", str(options.rounds)]
        child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        run = json.loads(child.stdout.splitlines()[-1])
        runs.append(run)
        print(f"{n_threads} thread(s)" + (f", missing: {run['missing']}" if run["missing"] else ""))
        for name, ms in sorted(run["median_ms"].items(), key=lambda item: -item[1]):
            middle, best = (run[key].get(name, {}) for key in ("times_faster", "times_faster_at_best"))
            ratios = ", ".join(f"{middle[own]} x {own} ({best[own]} at best)" for own in middle)
            print(f"  {name:32s} {ms:8.2f} ms, at best {run['least_ms'][name]:8.2f}   {ratios}")
        for n, per_channel in run["ms_per_channel"].items():
            print(f"  {n:>2s} channels, ms each: {per_channel}")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
