"""Silence gates out of room tone, and their file."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from mird.daemon.calibration import Calibration, room_tone
from mird.daemon.errors import SourceError, SupportError
from mird.daemon.heard import Heard
from mird.daemon.live_requests import LiveRequests
from mird.daemon.support_store import SupportStore


def test_the_gate_lies_6_db_above_the_loudest_moment() -> None:
    tone = room_tone(2, np.array([-64.0, -63.0, -62.2, -66.0]))
    assert (tone.channel, tone.silence_dbfs, tone.loudest_dbfs, tone.remark) == (2, -56.0, -62.2, "")
    assert tone.median_dbfs == -63.5


def test_a_very_quiet_room_has_a_gate_all_the_same() -> None:
    assert room_tone(1, np.full(9, -97.0)).silence_dbfs == -80.0


@pytest.mark.parametrize(
    ("levels", "remark"),
    [
        ([-200.0, -200.0], "nothing but zeros arrives"),
        ([-60.0, -60.0, -60.0, -40.0], "something sounded, 20 dB above the rest"),
        ([-20.0, -21.0], "-20 dBFS is no silence"),
        ([-26.0, -25.9], "-26 dBFS is no silence"),
    ],
)
def test_what_is_no_room_tone_sets_no_gate(levels: list[float], remark: str) -> None:
    tone = room_tone(1, np.array(levels))
    assert tone.silence_dbfs is None
    assert tone.remark.startswith(remark)


def test_gates_are_kept_by_source_and_channel(tmp_path: Path) -> None:
    path = tmp_path / "state" / "calibration.json"
    calibration = Calibration(path)
    assert calibration.gates("desk") == {}
    assert calibration.gates("desk") is calibration.gates("usb"), "no gates are no news, hop after hop"
    assert not path.exists()
    calibration.keep("desk", {1: -50.0, 2: -61.5})
    calibration.keep("usb", {1: -40.0})
    before = calibration.gates("desk")
    calibration.keep("desk", {2: -62.0})
    assert before == {1: -50.0, 2: -61.5}, "what another thread looks at never changes"
    again = Calibration(path)
    assert again.gates("desk") == {1: -50.0, 2: -62.0}
    assert again.gates("usb") == {1: -40.0}
    again.keep("desk", {})
    assert Calibration(path).gates("desk") == {}
    assert Calibration(path).gates("usb") == {1: -40.0}
    assert [each.name for each in path.parent.iterdir()] == ["calibration.json"]


def test_gates_that_somebody_else_wrote_are_put_in_force_whole_or_not_at_all(tmp_path: Path) -> None:
    calibration, other = (Calibration(tmp_path / "calibration.json") for _ in range(2))
    calibration.keep("desk", {1: -50.0})
    before = calibration.gates("desk")
    assert not calibration.swap(calibration.read())
    assert calibration.gates("desk") is before, "the same gates are no news"
    other.keep("desk", {1: -42.0})
    assert calibration.swap(calibration.read())
    assert calibration.gates("desk") == {1: -42.0}
    calibration.path.write_text("{")
    with pytest.raises(SupportError, match=r"calibration\.json cannot be used .*: mend or remove it"):
        calibration.read()
    assert calibration.gates("desk") == {1: -42.0}
    calibration.path.unlink()
    assert calibration.swap(calibration.read())
    assert calibration.gates("desk") == {}


def test_before_the_first_hop_there_is_nothing_to_calibrate_with(store: SupportStore, tmp_path: Path) -> None:
    heard = Heard("s1", "desk", (1,), 1000, 3.0, 1)
    heard.push(np.zeros((2000, 1), np.float32))
    calibration = Calibration(tmp_path / "calibration.json")
    with pytest.raises(SourceError, match="first window was not heard to its end yet"):
        LiveRequests(lambda: heard, store, calibration, lambda: -55.0).calibrate(1.0, reset=False)
    assert not calibration.path.exists()


def test_only_so_many_sources_are_kept(tmp_path: Path) -> None:
    calibration = Calibration(tmp_path / "calibration.json")
    for number in range(70):
        calibration.keep(f"source-{number}", {1: -50.0})
    again = Calibration(calibration.path)
    assert again.gates("source-5") == {}
    assert again.gates("source-6") == again.gates("source-69") == {1: -50.0}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 10_000,
        '{"version": 2, "silence_dbfs": {}}',
        '{"version": 1, "silence_dbfs": {"desk": {"1": 7}}}',
        '{"version": 1, "silence_dbfs": {"desk": {"one": -50}}}',
        '{"version": 1, "silence_dbfs": {"desk": {"1": NaN}}}',
        '{"version": 1, "silence_dbfs": {"desk": [1]}}',
        json.dumps({"version": 1, "silence_dbfs": {}}) + " " * (1 << 20),
    ],
)
def test_a_damaged_file_is_told_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert Calibration(path).gates("desk") == {}
    assert "mend or remove it, or calibrate again; silence_dbfs holds for every channel" in caplog.text
    assert path.read_text() == content


def test_gates_that_cannot_be_written_are_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    calibration = Calibration(tmp_path / "file" / "calibration.json")
    with pytest.raises(SupportError, match="cannot be written"):
        calibration.keep("desk", {1: -50.0})
    assert calibration.gates("desk") == {}
