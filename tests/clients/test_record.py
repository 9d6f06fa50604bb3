"""Recording a show: three formats, crashes, full disks."""

import json
import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mird.clients.append_file import AppendFile
from mird.clients.errors import OutletError
from mird.clients.record import FORMATS, RecordOutlet
from mird.clients.set_list import SetList
from mird.daemon import cli_record
from mird.daemon.cli import main
from mird.daemon.message_codec import from_map, to_map

if TYPE_CHECKING:
    from tests.clients.conftest import RunBridge, Script, Show


def only(folder: Path, pattern: str) -> str:
    (path,) = folder.glob(pattern)
    return path.read_text(encoding="utf-8")


@pytest.mark.system
def test_a_show_in_three_formats(show: "Show", script: "type[Script]", run_bridge: "RunBridge", tmp_path: Path) -> None:
    out = tmp_path / "shows" / "tonight"
    bridge = run_bridge("record", out)
    show.publish(script.state(), script.frame(), script.start(), script.level(), script.end())
    show.publish(script.start("Flöte", 1.0, "e2", channel=2), script.frame("Flöte", 5.0, 2))
    show.publish(script.end("Flöte", 1.0, 5.0, event_id="e2", channel=2), script.start("oboe", 3.0, "e3"))
    show.publish(script.frame("oboe", 9.0), script.state(detail="the last"))
    bridge.wait_until(lambda: "the last" in "".join(path.read_text() for path in out.glob("*.jsonl")))
    assert bridge.end() == 0
    lines = [json.loads(line) for line in only(out, "*.jsonl").splitlines()]
    assert [(line["kind"], line.get("event"), line.get("event_id")) for line in lines] == [
        ("state", None, None),
        ("event", "start", "e1"),
        ("event", "end", "e1"),
        ("event", "start", "e2"),
        ("event", "end", "e2"),
        ("event", "start", "e3"),
        ("state", None, None),
        ("event", "end", "e3"),
    ]
    for line in lines:
        from_map(line)
    assert lines[-1]["sample_end"] == 9 * 44_100  # as far as it was heard when recording ended
    assert re.fullmatch(r"0\.000\t0\.000\tviola\n0\.000\t0\.000\toboe\n", only(out, "*_desk_1.txt"))  # of 2026-01-01
    assert only(out, "*_desk_2.txt").endswith("\tFlöte\n")
    set_list = only(out, "*_setlist.txt").splitlines()
    assert [line.split()[2:] for line in set_list[1:4]] == [
        ["1", "viola", "2.0"],
        ["2", "Flöte", "4.0"],
        ["1", "oboe", "6.0"],
    ]
    assert "Heard in 2.0 s of sound on 2 channels:" in set_list
    assert str(out) in bridge.log


@pytest.mark.system
def test_what_was_told_before_a_crash_is_there(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", tmp_path: Path
) -> None:
    bridge = run_bridge("record", tmp_path / "out", "--kind", "event", "--format", "json", "--format", "audacity")
    bridge.wait_for_log("recording to")
    show.publish(*(each for _ in range(50) for each in (script.start(), script.end())))
    bridge.wait_until(lambda: len(only(tmp_path / "out", "*.jsonl").splitlines()) >= 20)
    bridge.end(signal.SIGKILL)
    text = only(tmp_path / "out", "*.jsonl")
    assert text.endswith("}\n")
    assert {json.loads(line)["kind"] for line in text.splitlines()} == {"event"}
    n_ends = sum(json.loads(line)["event"] == "end" for line in text.splitlines())
    assert only(tmp_path / "out", "*_1.txt").count("\tviola\n") in (n_ends, n_ends - 1)
    assert not list((tmp_path / "out").glob("*setlist*"))


def test_times_begin_with_the_recording(script: "type[Script]", tmp_path: Path) -> None:
    outlet = RecordOutlet(tmp_path)
    began_utc_ns = outlet._began_utc_ns
    for number, (label, start_s, end_s) in enumerate(
        [("viola", 1.0, 2.5), ("viola", 4.0, 6.0), ("oboe", 3661.0, 3662.0)]
    ):
        utc_ns = [began_utc_ns + round(each * 1e9) for each in (start_s, end_s)]
        event = script.end(label, event_id=f"e{number}")
        changed = {"start_utc_ns": utc_ns[0], "end_utc_ns": utc_ns[1]}
        outlet.send(from_map({**to_map(event), **changed}))
    outlet.close()
    assert only(tmp_path, "*_desk_1.txt") == "1.000\t2.500\tviola\n4.000\t6.000\tviola\n3661.000\t3662.000\toboe\n"
    lines = only(tmp_path, "*_setlist.txt").splitlines()
    assert [line.split()[1:] for line in lines[1:3]] == [
        ["0:00:01", "1", "viola", "5.0"],
        ["1:01:01", "1", "oboe", "1.0"],
    ]


def test_the_set_list_joins_what_is_close_and_the_same(script: "type[Script]") -> None:
    set_list = SetList()
    assert set_list.add(script.end(start_s=0.0, end_s=2.0)) == []
    assert set_list.add(script.end(start_s=4.0, end_s=6.0)) == []
    assert set_list.add(script.end(start_s=0.0, end_s=9.0, channel=2)) == []
    (entry,) = set_list.add(script.end(start_s=10.0, end_s=11.0))
    assert entry.end_utc_ns - entry.start_utc_ns == 6_000_000_000
    assert [(each.channel, each.label) for each in set_list.finish()] == [(2, "viola"), (1, "viola")]
    assert set_list.finish() == []


def test_each_recording_has_files_of_its_own(tmp_path: Path) -> None:
    for _ in range(3):
        RecordOutlet(tmp_path, ["json"]).close()
    assert len(list(tmp_path.glob("*.jsonl"))) == 3


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond a size: what a full disk looks like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_whole_lines_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    file = AppendFile(tmp_path / "lines")
    with largest_file(25):
        for number in range(5):
            file.append(f"line {number} ..")
    file.append("there is room again")
    file.close()
    assert (tmp_path / "lines").read_text() == "line 0 ..\nline 1 ..\nthere is room again\n"
    assert file.n_lost == 3
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "make room: lines are lost until it can be written to" in said[0]
    assert said[1].endswith("can be written to again; 3 lines are lost")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutletError, match="name a folder that can be written to"):
        RecordOutlet(tmp_path / "file" / "folder")
    with pytest.raises(OutletError, match="File exists"):
        AppendFile(tmp_path / "file")


def test_the_command_knows_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_record.FORMATS == FORMATS
    with pytest.raises(SystemExit):
        main(["record"])
    assert "the following arguments are required: FOLDER" in capsys.readouterr().err
