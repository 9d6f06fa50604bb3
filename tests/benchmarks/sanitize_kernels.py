"""Runs each raw kernel once, for compute-sanitizer: `compute-sanitizer python tests/benchmarks/sanitize_kernels.py`."""

from __future__ import annotations

import numpy as np

from mird.kernels.best_cupy import CupyBest
from mird.kernels.device_cuda import CudaDevice
from mird.kernels.encoder import EncoderCard
from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_cupy import CupyPictures
from mird.kernels.similarity import Head, Prototypes, averaging
from mird.kernels.similarity_cupy import CupyComparison
from mird.kernels.support_resident import ResidentSupport


def main() -> None:
    device, rng = CudaDevice(), np.random.default_rng(1)
    odd = FrontEnd(window=4_411, n_scales=50, n_columns=21, n_rows=70, magnitude="linear", colour="parula")
    for front_end, n in ((FrontEnd(), 2), (odd, 3)):
        for dtype in (np.float16, np.float32):
            host = device.pinned((n, front_end.window), np.float32)
            host[...] = rng.standard_normal(host.shape)
            windows = device.empty(host.shape, np.float32)
            pictures, enqueue = CupyPictures(front_end, device, np.dtype(dtype)).bind(n, windows)
            with device.stream:
                device.upload(host, windows)
                enqueue()
            device.wait(60)
            print(front_end.window, dtype.__name__, float(pictures.astype(np.float32).mean()))
    for n_dims, n_classes, n_background, power in ((256, 40, 18, 1), (256, 40, 18, 2), (77, 3, 0, 2)):
        vectors = rng.standard_normal((n_classes, n_dims)).astype(np.float32)
        background = rng.standard_normal((n_background, n_dims)).astype(np.float32)
        head = Head(-rng.random(n_dims).astype(np.float32), 4.0, 1.5, power=power)
        support = ResidentSupport(device, n_dims)
        support.hold(Prototypes(tuple(map(str, range(n_classes))), vectors, averaging(np.arange(1, n_classes + 1))))
        host = device.pinned((2, n_dims), np.float32)
        queries = device.empty(host.shape, np.float32)
        comparison = CupyComparison(EncoderCard("", FrontEnd(), "", head, 0.5, background), device, support)
        odds, enqueue = comparison.bind(2, queries)
        pairs, enqueue_best = CupyBest(device, support, 32).bind(2, odds)
        with device.stream:
            device.upload(host, queries)
            enqueue()
            enqueue_best()
        device.wait(60)
        print(n_dims, odds.get()[:, :n_classes].mean(), pairs.get()[:, 0])


if __name__ == "__main__":
    main()
