"""What a browser that looks at the scalograms costs the daemon: its CPU time a hop, with and without, in turn.

usage: python tests/benchmarks/bench_viewer.py [--pairs 12] [--seconds 5] [--channels 1] [--out FILE]

The daemon and `mird web` are processes of their own, this one opens the WebSocket of a page. The page is shown and
hidden in turn: each pair is a stretch without and one with the scalograms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from websockets.sync.client import ClientConnection, connect

from mird.daemon.assembly import DEMONSTRATION
from mird.daemon.paths import shipped

PROGRAM = Path(sys.executable).with_name("mird")
HOP_MS = 100
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SETTLE_S = 0.5


def cpu_s(process: subprocess.Popen[Any]) -> float:
    """Time that all threads of a process have had: in nanoseconds where the kernel says so, else in its ticks."""
    tasks = Path(f"/proc/{process.pid}/task")
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
    except OSError:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def stretch(page: ClientConnection, daemon: subprocess.Popen[Any], seconds: float, *, looks: bool) -> dict[str, float]:
    """Show or hide the page for some time: the daemon's CPU time in ms a hop, and the pictures that came."""
    page.send(json.dumps({"do": "look", "awake": looks, "scalogram": looks}))
    until_s = time.monotonic() + SETTLE_S
    while time.monotonic() < until_s:
        _receive(page, until_s)
    began_s, began_cpu_s, n_pictures, n_bytes = time.monotonic(), cpu_s(daemon), 0, 0
    while time.monotonic() < began_s + seconds:
        data = _receive(page, began_s + seconds)
        if isinstance(data, bytes):
            n_pictures += 1
            n_bytes += len(data)
    lasted_s = time.monotonic() - began_s
    return {
        "cpu_ms": 1e3 * (cpu_s(daemon) - began_cpu_s) / (lasted_s * 1e3 / HOP_MS),
        "pictures_per_s": n_pictures / lasted_s,
        "kb_per_s": n_bytes / lasted_s / 1e3,
    }


def _receive(page: ClientConnection, until_s: float) -> str | bytes:
    try:
        return page.recv(max(0.001, until_s - time.monotonic()))
    except TimeoutError:
        return ""


def measure(folder: Path, n_channels: int, n_pairs: int, seconds: float) -> dict[str, Any]:
    """All pairs; medians over them."""
    samples, rate_hz = soundfile.read(shipped(DEMONSTRATION), dtype="float32")
    sound = folder / "sound.wav"
    soundfile.write(sound, np.stack([np.roll(samples, n * rate_hz) for n in range(n_channels)], axis=1), rate_hz)
    environment = os.environ | {
        "XDG_DATA_HOME": str(folder),
        "MIRD_PUBLISH": f"ipc://{folder}/publish",
        "MIRD_CONTROL": f"ipc://{folder}/control",
    }
    run: list[str | Path] = [PROGRAM, "run", "--quiet", "--loop", "--log-level", "error", "--source", f"file:{sound}"]
    web: list[str | Path] = [PROGRAM, "web", "--listen", "127.0.0.1:0"]
    with (
        subprocess.Popen(run, env=environment, stdin=subprocess.DEVNULL) as daemon,
        subprocess.Popen(web, env=environment, stdout=subprocess.PIPE, text=True) as serving,
    ):
        try:
            assert serving.stdout is not None
            address = serving.stdout.readline().strip().replace("http", "ws")
            time.sleep(5.0)
            with connect(f"{address}live") as page:
                pairs = [
                    [stretch(page, daemon, seconds, looks=looks) for looks in (False, True)] for _ in range(n_pairs)
                ]
        finally:
            serving.terminate()
            daemon.terminate()
    added = [looking["cpu_ms"] - hidden["cpu_ms"] for hidden, looking in pairs]
    return {
        "n_channels": n_channels,
        "n_pairs": n_pairs,
        "load_1min": os.getloadavg()[0],
        "cpu_ms_a_hop_hidden": statistics.median(hidden["cpu_ms"] for hidden, _ in pairs),
        "cpu_ms_a_hop_looking": statistics.median(looking["cpu_ms"] for _, looking in pairs),
        "added_ms_a_hop": statistics.median(added),
        "added_percent_of_hop": 100 * statistics.median(added) / HOP_MS,
        "pictures_per_s_hidden": max(hidden["pictures_per_s"] for hidden, _ in pairs),
        "pictures_per_s_looking": statistics.median(looking["pictures_per_s"] for _, looking in pairs),
        "kb_per_s_looking": statistics.median(looking["kb_per_s"] for _, looking in pairs),
    }


def main() -> None:
    """Measure, show, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="N", help="of a stretch")
    parser.add_argument("--channels", type=int, default=1, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder:
        result = measure(Path(folder), args.channels, args.pairs, args.seconds)
    for name, value in result.items():
        print(f"{name:24} {value:.3f}" if isinstance(value, float) else f"{name:24} {value}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
