"""A hop on an NVIDIA GPU, from samples to scores, by every back end that is there: agreement first, then times.

    pip install -e '.[tensorrt-rtx]'
    python tests/benchmarks/bench_recognizer_gpu.py              # writes results/recognizer_gpu.json
    python tests/benchmarks/bench_recognizer_gpu.py --soak 600   # ten minutes of enrolments and forgets for each

`hop_ms` is what the daemon's processing thread waits for one call, `host_share` the share of a core that it uses at a
hop of 20 ms, `stages_us` the time of each stage alone, between events, `floors_us` what its bytes and operations need
at least. With MIRD_RECORDINGS and soundfile the agreement is that of 1,000 recorded clips, five of each class being the
shots; else of made ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from mird.kernels.back_ends import BackEnd, open_on_device, survey
from mird.kernels.encoder import EncoderCard, open_encoder
from mird.kernels.encoder_graph import float_graph, load_graph
from mird.kernels.image import picture
from mird.kernels.recognizer import Recognizer
from mird.kernels.recognizer_device import DeviceRecognizer
from mird.kernels.scalogram import open_scalogram
from mird.kernels.scalogram_plan import make_plan
from mird.kernels.scalogram_tables import make_tables
from mird.kernels.similarity import Prototypes, prototypes

RESULTS = Path(__file__).with_name("results")
SHIPPED = Path(__file__).parents[2] / "configs" / "models" / "default.onnx"
N_CLIPS, N_SHOTS, CHANNELS = 1000, 5, (1, 8, 64)
HOP_S = 0.02

Samples = NDArray[np.float32]


def made_sounds(card: EncoderCard, n: int) -> tuple[Samples, list[str]]:
    """Notes of 20 timbres."""
    rng = np.random.default_rng(31)
    t = np.arange(card.front_end.window) / card.front_end.rate_hz
    shapes = rng.uniform(0, 1, (20, 24))
    windows, labels = [], []
    for number in range(n):
        timbre, f = number % 20, rng.uniform(80, 900)
        audible = [(h, share) for h, share in enumerate(shapes[timbre], 1) if h * f < 20_000]
        note = np.sum([share * np.sin(2 * np.pi * f * h * t + h * h) for h, share in audible], axis=0)
        windows.append(0.05 * note * np.exp(-(timbre % 5) * t) + 1e-4 * rng.standard_normal(len(t)))
        labels.append(str(timbre))
    return np.stack(windows).astype(np.float32), labels


def recorded_sounds(card: EncoderCard, n: int) -> tuple[Samples, list[str]] | None:
    """Clips of the manifest in the folder that MIRD_RECORDINGS names, spread over all of it; None without it."""
    folder = os.environ.get("MIRD_RECORDINGS")
    try:
        import soundfile
    except ImportError:
        return None
    if not folder or not (Path(folder) / "manifest.csv").is_file():
        return None
    with (Path(folder) / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = [rows[int(each)] for each in np.linspace(0, len(rows) - 1, n)]
    windows, labels = np.zeros((n, card.front_end.window), np.float32), []
    for window, row in zip(windows, chosen, strict=True):
        samples, rate_hz = soundfile.read(Path(folder) / row["path"], dtype="float32", always_2d=True)
        assert rate_hz == card.front_end.rate_hz, row["path"]
        window[: len(samples)] = samples[: len(window), 0]
        labels.append(row["class"])
    return windows, labels


def support_of(embeddings: Samples, labels: list[str]) -> Prototypes:
    """The mean of the first few of each class."""
    names = tuple(sorted(set(labels)))
    rows = [row for name in names for row in [i for i, label in enumerate(labels) if label == name][:N_SHOTS]]
    owner = np.array([names.index(labels[row]) for row in rows])
    return prototypes(names, embeddings[rows], owner)


def agreement(
    found: DeviceRecognizer, cpu: Recognizer, wanted: Mapping[str, Samples], windows: Samples, labels: list[str]
) -> dict[str, Any]:
    """With the CPU's embeddings: those of the file as it is, and those of the same network in float32."""
    result: dict[str, Any] = {"n": len(windows)}
    for name, embeddings in wanted.items():
        support = support_of(embeddings, labels)
        ours, scores = found.recognise(windows, support)
        cosines = (ours.astype(np.float64) * embeddings).sum(axis=1)
        reference = cpu.compare(embeddings, support)
        result[name] = {
            "least_cosine": float(cosines.min()),
            "p1_cosine": float(np.quantile(cosines, 0.01)),
            "median_cosine": float(np.median(cosines)),
            "other_top1": float((scores.argmax(axis=1) != reference.argmax(axis=1)).mean()),
            "score_difference_p99": float(np.quantile(np.abs(scores - reference).max(axis=1), 0.99)),
        }
    return result


def times(recognizer: DeviceRecognizer, windows: Samples, support: Prototypes, n_rounds: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for n in CHANNELS:
        taken = []
        for number in range(n_rounds):
            part = windows[(number * n) % (len(windows) - n) :][:n]
            begun = time.perf_counter()
            recognizer.recognise(part, support)
            taken.append(1e3 * (time.perf_counter() - begun))
        settled = taken[n_rounds // 4 :]
        p50, p99 = np.quantile(settled, (0.5, 0.99)).tolist()
        result[str(n)] = {"p50": p50, "p99": p99, "most": max(settled)}
    return result


def stages(recognizer: DeviceRecognizer) -> dict[str, dict[str, float]]:
    """Median microseconds of each stage by itself, recorded as a graph."""
    import cupy

    device: Any = recognizer._device
    result: dict[str, dict[str, float]] = {}
    for n in CHANNELS:
        steps = recognizer._lanes[n].steps
        result[str(n)] = {}
        for name, step, stage in zip(
            ("copy", "scalogram", "encoder", "similarity", "best"), steps, (None, *recognizer._stages), strict=False
        ):
            launch = device.record(step, stage.capture if stage is not None else None)
            begun, ended, taken = cupy.cuda.Event(), cupy.cuda.Event(), []
            for _ in range(200):
                begun.record(device.stream)
                launch()
                ended.record(device.stream)
                ended.synchronize()
                taken.append(1e3 * cupy.cuda.get_elapsed_time(begun, ended))
            result[str(n)][name] = round(float(np.median(taken[50:])), 1)
    return result


def ceilings() -> dict[str, float]:
    """What this GPU does at most: bytes a second of a large copy, read and written; float16 operations a second."""
    import cupy

    begun, ended = cupy.cuda.Event(), cupy.cuda.Event()

    def best_s(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(12):
            begun.record()
            work()
            ended.record()
            ended.synchronize()
            taken.append(1e-3 * float(cupy.cuda.get_elapsed_time(begun, ended)))
        return min(taken)

    source, target = cupy.ones(1 << 28, np.float32), cupy.empty(1 << 28, np.float32)
    copied_s = best_s(lambda: cupy.copyto(target, source))
    a = cupy.asarray(np.random.default_rng(0).standard_normal((8192, 8192), dtype=np.float32).astype(np.float16))
    multiplied_s = best_s(lambda: cupy.matmul(a, a))
    return {"bytes_per_s": 2 * source.nbytes / copied_s, "flop_per_s": 2 * 8192**3 / multiplied_s}


def encoder_work() -> tuple[float, float]:
    """Operations for one picture, and bytes of the weights in float16."""
    graph = onnx.shape_inference.infer_shapes(float_graph(load_graph(SHIPPED))).graph
    shapes = {each.name: [d.dim_value or 1 for d in each.type.tensor_type.shape.dim] for each in graph.value_info}
    weights = {each.name: list(each.dims) for each in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    n_operations = sum(
        2 * np.prod(shapes[node.output[0]]) * np.prod(weights[node.input[1]]) / shapes[node.output[0]][1]
        for node in layers
    )
    return float(n_operations), float(sum(2 * np.prod(weights[node.input[1]]) for node in layers))


def floors(rates: dict[str, float], card: EncoderCard, n_classes: int) -> dict[str, dict[str, float]]:
    """Microseconds that bytes and operations need at least, for each stage."""
    tables = make_tables(make_plan(card.front_end), card.front_end)
    n_operations, n_bytes = encoder_work()
    result = {}
    for n in CHANNELS:
        waves = 8.0 * n * tables.n_waves * 4  # written and read, before and after the FFTs
        compared = 4.0 * (n_classes + len(card.background)) * len(card.head.gamma)
        result[str(n)] = {
            "scalogram": 1e6 * waves / rates["bytes_per_s"],
            "encoder": 1e6 * max(n * n_operations / rates["flop_per_s"], n_bytes / rates["bytes_per_s"]),
            "similarity": 1e6 * compared / rates["bytes_per_s"],
        }
    return {n: {name: round(each, 2) for name, each in found.items()} for n, found in result.items()}


def host_share(recognizer: DeviceRecognizer, windows: Samples, support: Prototypes, seconds: float) -> float:
    """Share of a core that one channel at a hop of 20 ms takes."""
    begun, used = time.monotonic(), time.process_time()
    for number in range(int(seconds / HOP_S)):
        recognizer.recognise(windows[number % len(windows)][None], support)
        time.sleep(max(0.0, begun + (number + 1) * HOP_S - time.monotonic()))
    return (time.process_time() - used) / (time.monotonic() - begun)


def soak(recognizer: DeviceRecognizer, windows: Samples, labels: list[str], seconds: float) -> dict[str, Any]:
    """Random enrolments and forgets at a hop of 20 ms."""
    import cupy

    embeddings = recognizer.embed(windows)
    whole, rng = support_of(embeddings, labels), np.random.default_rng(1)
    support, taken = whole, []
    free = cupy.cuda.runtime.memGetInfo()[0]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if rng.random() < 0.2:
            kept = np.sort(rng.permutation(len(whole.names))[: rng.integers(1, len(whole.names) + 1)])
            support = whole.only(kept.tolist())
        begun = time.perf_counter()
        recognizer.recognise(windows[rng.integers(0, len(windows))][None], support)
        taken.append(1e3 * (time.perf_counter() - begun))
        time.sleep(max(0.0, HOP_S - (time.perf_counter() - begun)))
    grown = free - cupy.cuda.runtime.memGetInfo()[0]
    return {"seconds": seconds, "hops": len(taken), "most_ms": max(taken), "grown_bytes": int(grown)}


def opened(back_end: BackEnd, folder: Path, card: EncoderCard, windows: Samples, precision: Any) -> DeviceRecognizer:
    if back_end.needs_compiling:
        from mird.training.compile_engine import CompileRequest, compile_engine

        pictures = picture(open_scalogram(card.front_end)(windows[:32]), card.front_end)
        request = CompileRequest(SHIPPED, precision, back_end.name, None, folder)  # type: ignore[arg-type]
        compile_engine(request, lambda: pictures, lambda *_: None)
    return open_on_device(back_end, SHIPPED, folder, card, precision=precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--soak", type=float, default=15.0, metavar="S", help="seconds of enrolments (default 15)")
    parser.add_argument("--out", type=Path, default=RESULTS / "recognizer_gpu.json")
    options = parser.parse_args()
    encoder = open_encoder(SHIPPED, threads=max(1, (os.cpu_count() or 2) // 2))
    card, cpu = encoder.card, Recognizer(encoder)
    recorded = recorded_sounds(card, N_CLIPS)
    windows, labels = recorded or made_sounds(card, N_CLIPS)
    in_float32 = onnxruntime.InferenceSession(float_graph(load_graph(SHIPPED)).SerializeToString())
    scalogram = open_scalogram(card.front_end)
    file, exact = [], []
    for first in range(0, len(windows), 50):
        pictures = picture(scalogram(windows[first : first + 50]), card.front_end)
        file.append(encoder(pictures))
        exact.append(in_float32.run(None, {in_float32.get_inputs()[0].name: pictures})[0])
    wanted = {"to_file": np.concatenate(file), "to_float32": np.concatenate(exact)}
    rates = ceilings()
    result: dict[str, Any] = {
        "sounds": "recorded" if recorded else "made",
        "ceilings": rates,
        "floors_us": floors(rates, card, len(set(labels))),
        "back_ends": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float16", "int8"):
            for back_end in survey(SHIPPED, Path(folder), device="cuda", precision=precision):
                if not back_end.on_device:
                    continue
                name = f"{back_end.name} {precision}"
                if not back_end.usable:
                    result["back_ends"][name] = {"not_run": back_end.reason}
                    continue
                try:
                    recognizer = opened(back_end, Path(folder), card, windows, precision)
                    support = support_of(recognizer.embed(windows), labels)
                    result["back_ends"][name] = {
                        "agreement": agreement(recognizer, cpu, wanted, windows, labels),
                        "hop_ms": times(recognizer, windows, support, options.rounds),
                        "host_share": host_share(recognizer, windows, support, 5.0),
                        "soak": soak(recognizer, windows, labels, options.soak),
                        "stages_us": stages(recognizer),
                    }
                except Exception as error:  # noqa: BLE001 - the others are measured all the same
                    result["back_ends"][name] = {"failed": " ".join(str(error).split())[:300]}
                options.out.parent.mkdir(exist_ok=True)
                options.out.write_text(json.dumps(result, indent=1) + "\n")
                print(name, json.dumps(result["back_ends"][name]))


if __name__ == "__main__":
    main()
