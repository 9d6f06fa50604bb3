"""``mird tag`` over files of which some are wrong, or have names that are no text."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.daemon.cli import main

RATE_HZ = 44_100
NO_TEXT = os.fsdecode(b"b\xffad.wav")
PROGRAM = "import sys; from mird.daemon.cli import main; sys.exit(main())"


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demonstration: NDArray[np.float32]) -> Path:
    """Three seconds of the demonstration, and a user without a support set of their own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    soundfile.write(tmp_path / "good.wav", demonstration[: 3 * RATE_HZ], RATE_HZ)
    return tmp_path / "good.wav"


@pytest.mark.parametrize("form", [["--json"], ["--csv"], []])
def test_a_name_that_is_no_utf_8_is_written_escaped(good: Path, form: list[str]) -> None:
    odd = good.with_name(NO_TEXT)
    odd.write_bytes(good.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "tag", "--frames", *form, odd, good],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    lines = [line for line in done.stdout.decode().splitlines() if r"udcffad.wav" in line]
    assert len(lines) >= 10
    if form == ["--json"]:
        assert json.loads(lines[0])["file"] == str(good.with_name(r"b\udcffad.wav"))


def test_a_file_without_a_header_does_not_stop_the_others(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = good.with_name("x.raw")
    raw.write_bytes(good.read_bytes())
    assert main(["tag", "--frames", "--json", str(raw), str(good)]) == 4
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"mird: error: {raw} has no header")
    assert {json.loads(line)["file"] for line in captured.out.splitlines()} == {str(good)}


@pytest.mark.parametrize("frames", [[], ["--frames"]])
def test_messages_are_numbered_and_dated_as_if_the_file_were_played(
    good: Path, frames: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = good.with_name("other.wav")
    other.write_bytes(good.read_bytes())
    began_ns = time.time_ns()
    assert main(["tag", "--json", *frames, str(good), str(other), str(good)]) == 0
    ended_ns = time.time_ns()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({message["run_id"] for message in told}) == 1
    assert len(told[0]["run_id"]) == 16
    for source, n_times in (("good.wav", 2), ("other.wav", 1)):
        mine = [message for message in told if message["source"] == source]
        assert [message["seq"] for message in mine] == list(range(len(mine)))
        assert len({message["stream_id"] for message in mine}) == n_times
    for message in told:
        assert began_ns < message["t_utc_ns"] <= ended_ns + 3 * 10**9
        assert message["t_mono_ns"] > 0
        if frames:
            assert began_ns <= message["t_utc_ns"] - message["sample_end"] * 10**9 // RATE_HZ <= ended_ns
            assert abs(message["capture_utc_ns"] - message["t_utc_ns"]) < 50_000_000
        else:
            assert message["start_utc_ns"] <= message["t_utc_ns"]
    assert frames or any(message["event"] == "start" for message in told)
