"""The doctor on real things: a null sink, damaged files, addresses in use, a machine that is too slow."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mird.daemon.doctor import Finding, examine
from mird.daemon.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import NullSink

SILENT_SOURCE = "file:/nowhere/recording.wav"


@pytest.fixture
def addresses(tmp_path: Path) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return {"publish": f"tcp://127.0.0.1:{port}", "control": f"ipc://{tmp_path}/control"}


def found(settings: Settings) -> list[Finding]:
    return list(examine(settings, None))


def only(findings: list[Finding], topic: str, *words: str) -> Finding:
    """The finding of a topic that has these words."""
    (one,) = [each for each in findings if each.topic == topic and all(word in each.what for word in words)]
    return one


def test_all_is_well_but_for_the_sound(addresses: dict[str, Any]) -> None:
    findings = found(Settings(source=SILENT_SOURCE, **addresses))
    assert [each for each in findings if each.verdict == "error"] == []
    assert only(findings, "encoder", "support set").what.startswith("support set: 40 classes")
    assert only(findings, "encoder", "default.onnx").verdict == "ok"
    assert only(findings, "kernels", "scalogram: ducc0").verdict == "ok"
    serving = only(findings, "kernels", "encoder: onnxruntime")
    assert serving.verdict == "ok"
    tensorrt = only(findings, "kernels", "encoder: tensorrt cannot serve")
    assert tensorrt.verdict == "note"
    assert only(findings, "latency", "a window takes").verdict in ("ok", "warning")
    assert only(findings, "daemon", "none runs at").verdict == "note"
    for setting, address in addresses.items():
        assert only(findings, "addresses", setting).what == f"{setting}: {address} is free"
    assert not Path(addresses["control"].removeprefix("ipc://")).exists(), "nothing is left behind"


@pytest.mark.pulseaudio
def test_a_device_is_opened_and_its_latency_measured(
    null_sink: "NullSink", addresses: dict[str, Any], tmp_path: Path
) -> None:
    findings = found(Settings(**addresses))
    assert only(findings, "sound", "host APIs").what.startswith("PortAudio V19")
    assert "ALSA" in only(findings, "sound", "host APIs").what
    assert only(findings, "sound", "source: device is 'default'").verdict == "ok"
    heard = only(findings, "latency", "sound: ")
    assert heard.verdict == "warning"
    assert "exact zeros" in heard.what
    assert "capture to scores " in heard.what
    assert heard.remedy == "unmute it, plug something in, or choose another input"


@pytest.mark.pulseaudio
def test_a_device_that_is_not_there(null_sink: "NullSink", addresses: dict[str, Any]) -> None:
    other = only(found(Settings(source="device:Scarlett", **addresses)), "sound", "source: device:Scarlett")
    assert other.verdict == "warning"
    assert "matches no input of 'default': mird waits for it" in other.what
    assert "mird devices" in other.remedy
    null_sink.kill()
    none = only(found(Settings(**addresses)), "sound", "source: device")
    assert "matches no input of none: mird waits for it" in none.what
    assert none.remedy


def test_damaged_files_are_errors_with_the_status_of_run(tmp_path: Path, addresses: dict[str, Any]) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"no encoder, and no support set")
    engine = [each for each in found(Settings(source=SILENT_SOURCE, engine=str(bad), **addresses)) if each.exit_status]
    assert {each.exit_status for each in engine} == {9}
    assert str(bad) in engine[0].what
    support = [
        each for each in found(Settings(source=SILENT_SOURCE, support=str(bad), **addresses)) if each.exit_status
    ]
    assert {each.exit_status for each in support} == {6}


def test_an_address_in_use_is_an_error(addresses: dict[str, Any]) -> None:
    host, _, port = addresses["publish"].removeprefix("tcp://").partition(":")
    with socket.create_server((host, int(port))):
        taken = only(found(Settings(source=SILENT_SOURCE, **addresses)), "addresses", "cannot listen at tcp")
    assert (taken.verdict, taken.exit_status) == ("error", 7)
    assert "the address is in use" in taken.what
    assert "choose another" in taken.remedy
    metrics = only(found(Settings(source=SILENT_SOURCE, metrics="10.0.0.1:7477", **addresses)), "addresses", "metrics")
    assert (metrics.verdict, metrics.exit_status) == ("error", 7)


def test_a_hop_that_is_too_short_and_a_folder_that_cannot_be_written(
    tmp_path: Path, addresses: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mird.daemon.doctor.SLOW_SHARE", 0.0)
    (file := tmp_path / "file").touch()
    findings = found(Settings(source=SILENT_SOURCE, hop_ms=1000, clips=str(file / "clips"), **addresses))
    slow = only(findings, "latency", "a window takes")
    assert (slow.verdict, slow.remedy) == ("warning", "a longer hop_ms, or a faster back end")
    clips = only(findings, "files", "clips")
    assert clips.verdict == "warning"
    assert f"{file} cannot be written to" in clips.what
