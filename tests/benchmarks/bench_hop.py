"""What a hop costs and how late an answer is: the shipped engine alone, and a real daemon that hears the demonstration.

usage: python tests/benchmarks/bench_hop.py [--minutes 2] [--out tests/benchmarks/results/hop.json]

The daemon is the installed command in a process of its own, with the demonstration as its source in real time, again
and again; this process subscribes as any client does. Targets are those of two CPU cores with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from mird.clients.subscriber import Subscriber
from mird.daemon.assembly import DEMONSTRATION, open_engine, open_store
from mird.daemon.messages import Frame, Heartbeat
from mird.daemon.paths import shipped
from mird.daemon.settings import Settings
from mird.kernels.recognizer import Recognizer

HOP_TARGETS_MS = (30.0, 50.0)  # median, p99, one channel
LATENCY_P99_TARGET_MS = 100.0
FIRST_FRAME_TARGET_S = 3.0
RESIDENT_TARGET_MB = 500.0
SETTLED_S = 20.0
"""From then on memory is said to grow, or not."""
N_HOPS = 300
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """What this was measured on, and how busy it was."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    names = ("numpy", "scipy", "onnxruntime")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def bench_hops(n_channels: int) -> dict[str, float]:
    """One hop from windows to scores, with the shipped engine and support set: wall time and CPU time, in ms."""
    settings = Settings()
    encoder = open_engine(settings)
    recognizer, known = Recognizer(encoder), open_store(settings, encoder).snapshot.prototypes
    samples, _ = soundfile.read(shipped(DEMONSTRATION), dtype="float32")
    window = recognizer.card.front_end.window
    starts = np.linspace(0, len(samples) - window, N_HOPS * n_channels).astype(int)
    wall_ms, cpu_ms = [], []
    for hop in range(N_HOPS):
        chosen = starts[hop::N_HOPS]
        windows = np.stack([samples[start : start + window] for start in chosen])
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        recognizer.score(windows, known)
        wall_ms.append(1e3 * (time.perf_counter() - began_s))
        cpu_ms.append(1e3 * (time.process_time() - began_cpu_s))
    wall_ms, cpu_ms = wall_ms[10:], cpu_ms[10:]
    return {
        "n_channels": n_channels,
        "median_ms": float(np.median(wall_ms)),
        "p99_ms": float(np.percentile(wall_ms, 99)),
        "cpu_median_ms": float(np.median(cpu_ms)),
    }


@contextmanager
def daemon(folder: Path, hop_ms: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A daemon in real time, and the address that it publishes at."""
    address = f"ipc://{folder}/publish-{hop_ms}"
    command: list[str | Path] = [Path(sys.executable).with_name("mird"), "run", "--quiet", "--loop"]
    command += ["--source", f"file:{shipped(DEMONSTRATION)}", "--hop-ms", str(hop_ms), "--publish", address]
    command += ["--control", f"ipc://{folder}/control-{hop_ms}", "--log-level", "error"]
    environment = os.environ | {"XDG_DATA_HOME": str(folder)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as process:
        try:
            yield process, address
        finally:
            process.send_signal(signal.SIGTERM)


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Time that a process has had on all cores."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def bench_daemon(folder: Path, hop_ms: int, seconds: float) -> dict[str, Any]:
    """A daemon for some time: latencies of all its frames, its memory and its share of a core."""
    began_s = time.monotonic()
    latencies_ms: list[float] = []
    arrivals_ms: list[float] = []
    memory: list[tuple[float, float]] = []
    counters: dict[str, int] = {}
    with daemon(folder, hop_ms) as (process, address), Subscriber(address, ("frame", "hb")) as subscriber:
        first_s = began_cpu_s = began_live_s = 0.0
        while not first_s or time.monotonic() - began_live_s < seconds:
            message = subscriber.recv(1.0)
            if process.poll() is not None:
                raise SystemExit("the daemon has ended; see above")
            if isinstance(message, Frame):
                if not first_s:
                    began_live_s = time.monotonic()
                    first_s, began_cpu_s = began_live_s - began_s, cpu_s(process)
                latencies_ms.append((message.t_utc_ns - message.capture_utc_ns) / 1e6)
                arrivals_ms.append((time.time_ns() - message.capture_utc_ns) / 1e6)
            elif isinstance(message, Heartbeat):
                counters = dict(message.counters)
                memory.append((time.monotonic() - began_s, resident_mb(process)))
        lived_s = time.monotonic() - began_live_s
        used_s = cpu_s(process) - began_cpu_s
    settled = [megabytes for at_s, megabytes in memory if at_s >= min(SETTLED_S, seconds / 2)]
    return {
        "hop_ms": hop_ms,
        "seconds": lived_s,
        "first_frame_s": first_s,
        "n_frames": len(latencies_ms),
        "n_hops_skipped": counters.get("n_hops_skipped", 0),
        "n_missed": subscriber.n_missed,
        "latency_ms": _percentiles(latencies_ms),
        "arrival_ms": _percentiles(arrivals_ms),
        "cpu_share_percent": 100 * used_s / lived_s,
        "resident_start_mb": memory[0][1],
        "resident_settled_mb": settled[0],
        "resident_end_mb": settled[-1],
        "growth_mb": settled[-1] - settled[0],
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{share}": float(np.percentile(values, share)) for share in (50, 99)} | {"max": max(values)}


def show(result: dict[str, Any]) -> None:
    """The figures beside their targets."""
    console = Console()
    on = result["machine"]
    console.print(f"{on['cpu']}, {on['cores']} cores, load {on['load_1min']:.1f} before, engine {result['engine']}")
    table = Table("one hop, window to scores", "median", "p99", "CPU time", "target")
    for row in result["hops"]:
        target = f"{HOP_TARGETS_MS[0]:g} / {HOP_TARGETS_MS[1]:g} ms" if row["n_channels"] == 1 else ""
        channels = f"{row['n_channels']} channel{'s'[: row['n_channels'] > 1]}"
        table.add_row(channels, *(f"{row[name]:.1f} ms" for name in ("median_ms", "p99_ms", "cpu_median_ms")), target)
    console.print(table)
    table = Table("a daemon", *(f"hop {row['hop_ms']} ms" for row in result["daemons"]), "target")
    lines = {
        "first frame (1 s of it is the window)": ("{first_frame_s:.2f} s", f"{FIRST_FRAME_TARGET_S:g} s"),
        "capture to publish, p50": ("{latency_ms[p50]:.1f} ms", ""),
        "capture to publish, p99": ("{latency_ms[p99]:.1f} ms", f"{LATENCY_P99_TARGET_MS:g} ms"),
        "capture to a subscriber, p99": ("{arrival_ms[p99]:.1f} ms", ""),
        "hops skipped": ("{n_hops_skipped} of {n_frames}", "0"),
        "share of one core": ("{cpu_share_percent:.0f} %", ""),
        "resident memory": ("{resident_end_mb:.0f} MB", f"{RESIDENT_TARGET_MB:g} MB"),
        "its growth": ("{growth_mb:+.1f} MB in {seconds:.0f} s", "0"),
    }
    for name, (form, target) in lines.items():
        table.add_row(name, *(form.format(**row) for row in result["daemons"]), target)
    console.print(table)


def main() -> None:
    """Measure, show, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, metavar="N", help="of the daemon at a hop of 100 ms")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="of the daemons at 50 and 20 ms")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    encoder = open_engine(Settings())
    result["engine"] = f"{Recognizer(encoder).name}: {encoder.card.name}"
    result["hops"] = [bench_hops(n_channels) for n_channels in (1, 2, 8)]
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder:
        spans = ((100, 60 * args.minutes), (50, args.seconds), (20, args.seconds))
        result["daemons"] = [bench_daemon(Path(folder), hop_ms, seconds) for hop_ms, seconds in spans]
    show(result)
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
