"""What `mird listen` shows: the live view at any size, and a line a message."""

import dataclasses
import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.clients.conftest import RATE_HZ

from mird.clients.lines import json_line, line_of
from mird.clients.view import LiveView
from mird.daemon.messages import Event, Frame, Heartbeat, Level, Message, Score, State


def frame(channel: int = 1, end_s: float = 1.0, label: str = "viola", **changes: object) -> Frame:
    message = Frame(
        source="desk",
        channel=channel,
        stream_id="s1",
        run_id="r1",
        sample_start=round((end_s - 1) * RATE_HZ),
        sample_end=round(end_s * RATE_HZ),
        rate_hz=RATE_HZ,
        capture_utc_ns=0,
        latency_ms=12.3,
        hop_s=0.1,
        window_s=1.0,
        label=label,
        confidence=0.91,
        raw_label=label,
        raw_confidence=0.9,
        top=(Score(label, 0.91), Score("Flöte", 0.4), Score("琵琶", 0.3), Score("oboe", 0.2), Score("x" * 64, 0.0)),
        level_dbfs=-20.0,
        engine="onnxruntime:light",
        revision=0,
        degraded=False,
        n_gap_frames=0,
    )
    return dataclasses.replace(message, **changes)  # type: ignore[arg-type]


def start(label: str = "viola", start_s: float = 0.0, event_id: str = "e1", **changes: object) -> Event:
    message = Event(
        source="desk",
        channel=1,
        stream_id="s1",
        run_id="r1",
        event="start",
        event_id=event_id,
        label=label,
        sample_start=round(start_s * RATE_HZ),
        sample_end=None,
        start_utc_ns=1_767_225_600_000_000_000,
        end_utc_ns=None,
        score=0.5,
        peak_score=0.5,
        rate_hz=RATE_HZ,
    )
    return dataclasses.replace(message, **changes)  # type: ignore[arg-type]


def end(label: str = "viola", start_s: float = 0.0, end_s: float = 2.0, **changes: object) -> Event:
    message = start(label, start_s, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(
        message, event="end", sample_end=round(end_s * RATE_HZ), end_utc_ns=1_767_225_602_000_000_000
    )


def state(name: str = "LIVE", channels: tuple[int, ...] = (1,), detail: str = "Scarlett 2i2, 48000 Hz") -> State:
    return State(
        source="desk",
        channel=0,
        stream_id="s1",
        run_id="r1",
        state=name,
        detail=detail,
        version="0.1.0",
        engine="onnxruntime:light",
        fingerprint="f",
        classes=("viola", "oboe"),
        revision=0,
        channels=channels,
        hop_s=0.1,
        window_s=1.0,
        counters={},
    )


def level(channel: int = 1, rms_dbfs: float = -20.0) -> Level:
    return Level(
        source="desk", channel=channel, stream_id="s1", run_id="r1", sample_end=1, rms_dbfs=rms_dbfs, peak_dbfs=-3.0
    )


HEARTBEAT = Heartbeat(
    source="desk",
    channel=0,
    stream_id="s1",
    run_id="r1",
    uptime_s=9.0,
    counters={"n_hops": 90, "n_hops_skipped": 3, "n_overflows": 0},
    latency_p50_ms=11.0,
    latency_p99_ms=25.0,
)


def rendered(view: LiveView, width: int = 80, height: int = 24, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, height=height, color_system=None)
    console.print(view, end="")
    file.flush()
    lines = raw.getvalue().decode(encoding).split("\n")
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    return lines


def view_of(*messages: Message) -> LiveView:
    view = LiveView("tcp://127.0.0.1:7475")
    for message in messages:
        view.add(message)
    return view


def test_the_view_of_one_channel() -> None:
    text = "\n".join(rendered(view_of(state(), frame(), level(), HEARTBEAT, start(), end())))
    for part in (
        "mird 0.1.0  desk  LIVE  Scarlett 2i2, 48000 Hz",
        "2 classes, hop 100 ms, latency 12 ms, p99 25 ms, 3 hops skipped, onnx",
        "  1  viola",
        " 91 %  █████████████░░░░░░░  -20 dBFS",
        "Flöte",
        "琵琶",
        "desk 1  start  viola  0.50",
        "desk 1  end    viola  0.50  2.0 s",
    ):
        assert part in text


def test_the_view_before_anything_comes() -> None:
    assert "nothing yet from tcp://127.0.0.1:7475" in rendered(view_of())[0]


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5), (10, 2), (200, 60), (80, 1)])
@pytest.mark.parametrize("n_channels", [1, 2, 3, 16, 64])
def test_the_view_keeps_to_the_terminal(size: tuple[int, int], n_channels: int) -> None:
    channels = tuple(range(1, n_channels + 1))
    view = view_of(state(channels=channels, detail="x" * 500), HEARTBEAT)
    for channel in channels:
        view.add(frame(channel, label="琵琶" * 16))
        view.add(level(channel))
        for number in range(30):
            view.add(start(event_id=f"{channel}-{number}", channel=channel))
    lines = rendered(view, *size)
    if size == (80, 24):
        assert sum("dBFS" in line for line in lines) == min(n_channels, 16)
        assert ("and 48 channels more" in "\n".join(lines)) == (n_channels == 64)
        assert sum("start" in line for line in lines) >= 4


def test_the_view_on_a_terminal_without_unicode() -> None:
    lines = rendered(view_of(state(detail="y" * 500), level(), frame(top=())), encoding="ascii")
    assert "#############......." in "\n".join(lines)


def test_silence_and_waiting_are_said() -> None:
    text = "\n".join(rendered(view_of(state(), frame(label="silence", top=()), level(rms_dbfs=-200.0))))
    assert "silence" in text
    assert "no sound" in text
    text = "\n".join(rendered(view_of(state(), frame(), state("LOST", detail="unplugged; trying again in 1 s"))))
    assert "LOST  unplugged; trying again in 1 s" in text
    assert "91 %" not in text


def test_names_with_markup_are_shown_as_they_are() -> None:
    assert "[bold red]x[/]" in "\n".join(rendered(view_of(state(), frame(label="[bold red]x[/]"))))


@pytest.mark.parametrize("message", [frame(), start(), end(), state(), level(), HEARTBEAT])
def test_lines(message: Message) -> None:
    line = line_of(message)
    assert "\n" not in line
    assert "desk" in line
    assert json.loads(json_line(message))["kind"] == message.kind


def test_a_time_that_no_calendar_has() -> None:
    assert line_of(start(start_utc_ns=2**63 - 1)).startswith(("--:--:--.-", "0", "1", "2"))
