"""What a bridge adds: from the daemon's sending to an OSC receiver, and the share of a core that the bridge takes.

usage: .venv/bin/python tests/benchmarks/bench_bridges.py [--channels N] [--seconds S]

A publisher sends what a daemon does at a hop of 100 ms, frames, levels and now and then an event on each channel, and
``mird osc`` passes it on. The delay is from just before an event is sent to its arrival at a UDP socket.
"""

import argparse
import socket as sockets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pythonosc.osc_packet import OscPacket

from mird.daemon.messages import Event, Frame, Heartbeat, Level, Score
from mird.daemon.publisher import Publisher

HOP_S = 0.1
RATE_HZ = 44_100
TOP = tuple(Score(f"class {number}", 0.5) for number in range(5))


def hop(publisher: Publisher, number: int, n_channels: int, sent: dict[str, int]) -> None:
    """Send one hop's messages; each channel starts or ends an event in each tenth."""
    for channel in range(1, n_channels + 1):
        place: dict[str, Any] = {"source": "bench", "channel": channel, "stream_id": "s"}
        end = (number + 10) * 4410
        publisher.publish(Level(**place, sample_end=end, rms_dbfs=-20.0, peak_dbfs=-6.0))
        publisher.publish(
            Frame(
                **place, sample_start=end - RATE_HZ, sample_end=end, rate_hz=RATE_HZ, capture_utc_ns=time.time_ns(),
                latency_ms=5.0, hop_s=HOP_S, window_s=1.0, label="viola", confidence=0.5, raw_label="viola",
                raw_confidence=0.5, top=TOP, level_dbfs=-20.0, engine="e", revision=0, degraded=False, n_gap_frames=0,
            )
        )  # fmt: skip
        if (number + channel) % 10 == 0:
            event_id = f"{channel}-{number}"
            sent[event_id] = time.time_ns()
            publisher.publish(
                Event(
                    **place, event="start", event_id=event_id, label="viola", sample_start=end, sample_end=None,
                    start_utc_ns=time.time_ns(), end_utc_ns=None, score=0.5, peak_score=0.5, rate_hz=RATE_HZ,
                )
            )  # fmt: skip
    if number % 10 == 0:
        beat = Heartbeat(
            source="bench", channel=0, stream_id="s", uptime_s=1.0, counters={}, latency_p50_ms=None,
            latency_p99_ms=None,
        )  # fmt: skip
        publisher.publish(beat)
    publisher.service()


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    sent: dict[str, int] = {}
    delays_ms: list[float] = []
    n_packets = 0
    stop = threading.Event()
    with Publisher("tcp://127.0.0.1:*") as publisher, sockets.socket(type=sockets.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.2)

        def receive() -> None:
            nonlocal n_packets
            while not stop.is_set():
                try:
                    packet = receiver.recv(65_535)
                except TimeoutError:
                    continue
                arrived_ns = time.time_ns()
                n_packets += 1
                for _, message in OscPacket(packet).messages if b"/event" in packet else ():
                    if message.params[0] == "start":
                        delays_ms.append((arrived_ns - sent[message.params[4]]) / 1e6)

        command: list[str | Path] = [Path(sys.executable).with_name("mird"), "osc", "--listen", "none"]
        command += ["--to", f"127.0.0.1:{receiver.getsockname()[1]}", "--publish", publisher.endpoint]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as bridge:
            publisher.await_subscriber(20.0)
            thread = threading.Thread(target=receive)
            thread.start()
            before = psutil.Process(bridge.pid).cpu_times()
            began_s = time.monotonic()
            for number in range(round(options.seconds / HOP_S)):
                hop(publisher, number, options.channels, sent)
                time.sleep(max(0.0, began_s + (number + 1) * HOP_S - time.monotonic()))
            after = psutil.Process(bridge.pid).cpu_times()
            took_s = time.monotonic() - began_s
            bridge.terminate()
        stop.set()
        thread.join()
    share = (after.user + after.system - before.user - before.system) / took_s
    p50, p99 = np.percentile(delays_ms, [50, 99])
    print(
        f"{options.channels} channels, {len(sent)} events sent, {len(delays_ms)} received, {n_packets / took_s:.0f} "
        f"packets/s: event to OSC {p50:.2f} ms median, {p99:.2f} ms p99; {share:.1%} of a core"
    )


if __name__ == "__main__":
    main()
