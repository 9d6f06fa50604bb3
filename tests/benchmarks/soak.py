"""A soak: a real daemon for as long as one likes, with everything that happens to it in months, in an hour.

usage: python -m tests.benchmarks.soak [--minutes 60] [--hop-ms 50] [--out FILE] [recording ...]

It captures through PortAudio from a PulseAudio null sink of its own, into which the recordings (the demonstration by
default) are played again and again. Meanwhile subscribers come and go one by one and fifty at a time, one never reads,
the metrics are read, clips of events are kept and removed, and a class is enrolled, undone or forgotten every ten
seconds. What one patient subscriber receives is held against what the daemon says that it left out: every hop must be
a frame, a skipped one that was counted, or a gap that was counted. Exit status 1 where something was lost in silence,
memory grew by 1 % or more after the first minute, or file descriptors did.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from tests.benchmarks.bench_hop import machine
from tests.conftest import NullSink

from mird.clients.control import ControlClient
from mird.clients.errors import ClientError
from mird.clients.subscriber import Subscriber
from mird.daemon.assembly import DEMONSTRATION
from mird.daemon.enroll import read_clip, windows_of
from mird.daemon.messages import Frame, Heartbeat, State
from mird.daemon.paths import shipped

SETTLED_S = 60.0
CHANGE_S = 10.0
VISIT_S = 0.7
SCRAPE_S = 5.0
KEPT_METRICS = ("mird_clip", "mird_stage_seconds{", "mird_subscribers", "mird_queue", "mird_published")
CROWD = 50
MAX_GROWTH = 0.01


class Ledger:
    """What the patient subscriber received: hops, latencies, states, and the last counters. Its own thread writes it.

    Parameters
    ----------
    hop : int
        Samples from one frame to the next.
    """

    def __init__(self, hop: int) -> None:
        self.hop = hop
        self.n_frames = self.n_missing = self.n_degraded = 0
        self.latencies_ms: list[float] = []
        self.states: list[str] = []
        self.counters: dict[str, int] = {}
        self._last: dict[tuple[str, int], int] = {}

    def take(self, message: object) -> None:
        """Count one message."""
        if isinstance(message, Frame):
            self.n_frames += 1
            self.n_degraded += message.degraded
            self.latencies_ms.append((message.t_utc_ns - message.capture_utc_ns) / 1e6)
            key = (message.stream_id, message.channel)
            if key in self._last:
                self.n_missing += (message.sample_end - self._last[key]) // self.hop - 1
            self._last[key] = message.sample_end
        elif isinstance(message, Heartbeat):
            self.counters = dict(message.counters)
        elif isinstance(message, State):
            self.states.append(f"{message.state}: {message.detail}")


@contextmanager
def running(folder: Path, sink: NullSink, hop_ms: int, options: list[str]) -> Iterator[tuple[int, str, str, str]]:
    """A daemon: its process, and the addresses that it publishes, is controlled and measured at."""
    publish, control = f"ipc://{folder}/publish", f"ipc://{folder}/control"
    command: list[str | Path] = [Path(sys.executable).with_name("mird"), "run", "--quiet", "--hop-ms", str(hop_ms)]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        metrics = f"127.0.0.1:{probe.getsockname()[1]}"
    command += ["--publish", publish, "--control", control, "--metrics", metrics]
    command += ["--clips", folder / "clips", "--clips-mb", "20", *options]
    environment = os.environ | sink.environment | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (
        (folder / "daemon.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=log) as process,
    ):
        try:
            yield process.pid, publish, control, f"http://{metrics}/metrics"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10.0)


def play(sink: NullSink, recordings: list[Path], stop: threading.Event) -> None:
    """Play the recordings again and again."""
    while not stop.is_set():
        for recording in recordings:
            with subprocess.Popen(["paplay", recording], env=os.environ | sink.environment) as player:
                while player.poll() is None:
                    if stop.wait(0.2):
                        player.kill()


def visit(publish: str, stop: threading.Event, counts: dict[str, int]) -> None:
    """Subscribers that come, read for a moment and go: one at a time, and now and then a crowd."""
    with zmq.Context() as context:
        while not stop.wait(VISIT_S):
            counts["n_visits"] += 1
            n = CROWD if counts["n_visits"] % 40 == 0 else 1
            with ExitStack() as open_sockets:
                sockets = [open_sockets.enter_context(context.socket(zmq.SUB)) for _ in range(n)]
                for visitor in sockets:
                    visitor.linger = 0
                    visitor.rcvtimeo = 5_000
                    visitor.subscribe(b"mird/1/")
                    visitor.connect(publish)
                for visitor in sockets:
                    try:
                        visitor.recv_multipart()
                    except zmq.Again:
                        counts["n_visitors_without_a_message"] += 1


def scrape(url: str, stop: threading.Event, metrics: dict[str, float]) -> None:
    """Read the metrics as Prometheus would."""
    while not stop.wait(SCRAPE_S):
        with urllib.request.urlopen(url, timeout=10.0) as answer:
            lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line.startswith("mird_")]
        metrics.update({name: float(value) for name, value in lines})


def change(control: str, stop: threading.Event, counts: dict[str, int]) -> None:
    """Enrolments, undone and forgotten in turns."""
    clip = read_clip(shipped(DEMONSTRATION), None)
    while not stop.wait(CHANGE_S):
        try:
            with ControlClient(control) as daemon:
                form = daemon.request("status")
                windows = windows_of(clip, form["rate_hz"], form["window"], 3)
                packed = [window.astype("<f4").tobytes() for window in windows]
                daemon.request("enroll", name="soak", rate_hz=form["rate_hz"], windows=packed, origin="soak")
                daemon.request("classes")
                if counts["n_changes"] % 2:
                    daemon.request("undo")
                else:
                    daemon.request("forget", name="soak")
            counts["n_changes"] += 1
        except ClientError as error:
            counts["n_failed_changes"] += 1
            print(f"change failed: {error}", file=sys.stderr)


def resident_kb(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def soak(args: argparse.Namespace, folder: Path, sink: NullSink) -> dict[str, Any]:
    """Run it all for the time; the report."""
    recordings = args.recordings or [shipped(DEMONSTRATION)]
    stop = threading.Event()
    counts = dict.fromkeys(("n_visits", "n_visitors_without_a_message", "n_changes", "n_failed_changes"), 0)
    memory: list[tuple[float, int, int]] = []
    metrics: dict[str, float] = {}
    with running(folder, sink, args.hop_ms, args.option) as (pid, publish, control, url), zmq.Context() as context:
        ledger = Ledger(round(args.hop_ms * 44.1))
        with Subscriber(publish, ("frame", "hb", "state")) as subscriber, context.socket(zmq.SUB) as sleeper:
            sleeper.linger = 0
            sleeper.subscribe(b"mird/1/")
            while not ledger.n_frames:
                ledger.take(subscriber.recv(60.0))
            sleeper.connect(publish)  # and it never reads
            threads = [
                threading.Thread(target=play, args=(sink, recordings, stop)),
                threading.Thread(target=visit, args=(publish, stop, counts)),
                threading.Thread(target=change, args=(control, stop, counts)),
                threading.Thread(target=scrape, args=(url, stop, metrics)),
            ]
            for thread in threads:
                thread.start()
            began_s, told_s = time.monotonic(), 0.0
            try:
                while (lived_s := time.monotonic() - began_s) < 60 * args.minutes:
                    message = subscriber.recv(5.0)
                    if message is None:
                        raise SystemExit(f"nothing came for 5 s after {lived_s:.0f} s; see {folder}/daemon.log")
                    ledger.take(message)
                    if isinstance(message, Heartbeat):
                        memory.append((lived_s, resident_kb(pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))))
                    if lived_s - told_s >= 60:
                        told_s = lived_s
                        print(f"{lived_s / 60:5.1f} min", report(args, ledger, subscriber, memory, counts), flush=True)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            while not isinstance(message := subscriber.recv(5.0), Heartbeat):  # the counters of the last frame
                ledger.take(message)
            ledger.take(message)
            kept = {name: value for name, value in metrics.items() if name.startswith(KEPT_METRICS)}
            return {**report(args, ledger, subscriber, memory, counts), "metrics": kept}


def report(
    args: argparse.Namespace,
    ledger: Ledger,
    subscriber: Subscriber,
    memory: list[tuple[float, int, int]],
    counts: dict[str, int],
) -> dict[str, Any]:
    """The figures so far."""
    n_channels = len({channel for _, channel in ledger._last})
    settled = [(kb, n_files) for at_s, kb, n_files in memory if at_s >= min(SETTLED_S, 30 * args.minutes)]
    first, last = (float(np.median([kb for kb, _ in part])) if part else 0.0 for part in (settled[:15], settled[-60:]))
    reported = ledger.counters.get("n_hops_skipped", 0) * n_channels + subscriber.n_missed
    latencies = np.array(ledger.latencies_ms)
    return {
        "minutes": memory[-1][0] / 60 if memory else 0.0,
        "hop_ms": args.hop_ms,
        "n_channels": n_channels,
        "n_frames": ledger.n_frames,
        "n_frames_missing": ledger.n_missing,
        "n_frames_reported_missing": reported,
        "n_degraded": ledger.n_degraded,
        "n_missed_by_the_subscriber": subscriber.n_missed,
        "counters": ledger.counters,
        "latency_ms": {
            **{f"p{share}": float(np.percentile(latencies, share)) for share in (50, 99)},
            "max": float(latencies.max()),
        },
        "resident_mb": {
            "after_a_minute": first / 1024,
            "end": last / 1024,
            "growth": last / first - 1 if first else 0,
            "by_minute": [
                round(float(np.median([kb for at_s, kb, _ in memory if at_s // 60 == minute])) / 1024, 1)
                for minute in sorted({at_s // 60 for at_s, _, _ in memory})
            ],
        },
        "file_descriptors": {"first": settled[0][1], "least": min(f for _, f in settled), "last": settled[-1][1]}
        if settled
        else {},
        **counts,
        "states": ledger.states[-20:],
        "load": os.getloadavg(),
    }


def main() -> int:
    """Soak, write and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path, help="what is played, in a form that paplay reads")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N")
    parser.add_argument("--hop-ms", type=int, default=50, metavar="N")
    parser.add_argument("--option", action="append", default=[], metavar="=--NAME=VALUE", help="given to `mird run`")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    args = parser.parse_args()
    on = machine()
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as place:
        folder = Path(place)
        (folder / "pulse").mkdir()
        sink = NullSink(folder / "pulse")
        sink.start()
        try:
            result = {"machine": on, **soak(args, folder, sink)}
        finally:
            sink.kill()
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    lost = result["n_frames_missing"] > result["n_frames_reported_missing"]
    grew = result["resident_mb"]["growth"] >= MAX_GROWTH
    files = result["file_descriptors"]["last"] > result["file_descriptors"]["first"]
    return int(lost or grew or files)


if __name__ == "__main__":
    sys.exit(main())
