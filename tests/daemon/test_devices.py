"""The list of inputs, and the input that a pattern means."""

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.conftest import quickest

from mird.daemon.devices import Device, DeviceListError, find_input, list_inputs, names_of

if TYPE_CHECKING:
    from tests.conftest import NullSink

BUILT_IN = Device("HDA Intel PCH: ALC257 Analog (hw:0,0)", "ALSA", 2, 44_100, is_default=False)
SCARLETT = Device("Scarlett 2i2 USB: Audio (hw:1,0)", "ALSA", 2, 48_000, is_default=False)
SCARLETT_4 = Device("Scarlett 4i4 USB: Audio (hw:2,0)", "ALSA", 4, 48_000, is_default=False)
PULSE = Device("pulse", "ALSA", 32, 44_100, is_default=False)
DEFAULT = Device("default", "ALSA", 32, 44_100, is_default=True)
DEVICES = [BUILT_IN, SCARLETT, SCARLETT_4, PULSE, DEFAULT]


@pytest.mark.parametrize(
    ("pattern", "device"),
    [
        ("", DEFAULT),
        ("scarlett", SCARLETT),
        ("4I4", SCARLETT_4),
        ("*4i4*", SCARLETT_4),
        ("Scarlett [3-9]*", SCARLETT_4),
        ("hw:2,0", SCARLETT_4),
        ("pulse", PULSE),
        ("PULSE", PULSE),
        ("viola", None),
        ("*viola*", None),
    ],
)
def test_a_pattern_means_one_input(pattern: str, device: Device | None) -> None:
    assert find_input(DEVICES, pattern) == device


def test_without_a_default_the_first_input_is_taken() -> None:
    assert find_input(DEVICES[:3], "") == BUILT_IN
    assert find_input([], "") is None


def test_of_several_the_exact_name_wins_and_then_the_default() -> None:
    other = Device("default pulse", "ALSA", 2, 44_100, is_default=False)
    assert find_input([other, PULSE], "pulse") == PULSE
    assert find_input([other, DEFAULT], "def*") == DEFAULT


def test_all_channels_of_a_sound_server_are_two() -> None:
    assert (DEFAULT.is_server, DEFAULT.n_native_inputs) == (True, 2)
    assert (SCARLETT_4.is_server, SCARLETT_4.n_native_inputs) == (False, 4)
    console = Device("Console: USB (hw:1,0)", "ALSA", 32, 48_000, is_default=False)
    assert console.n_native_inputs == 32


def test_names_stand_in_one_line() -> None:
    assert names_of([PULSE, DEFAULT]) == "'pulse', 'default'"
    assert names_of([]) == "none"


@pytest.mark.pulseaudio
def test_the_inputs_of_a_sound_server_are_listed_without_noise(
    null_sink: "NullSink", capfd: pytest.CaptureFixture[str]
) -> None:
    (device,) = list_inputs()
    assert (device.name, device.host_api, device.is_default) == ("default", "ALSA", True)
    assert device.is_server
    null_sink.kill()
    assert list_inputs() == [], "each list is made anew"
    assert capfd.readouterr() == ("", "")


@pytest.mark.pulseaudio
def test_a_sound_server_that_hangs_does_not_hang_the_list(null_sink: "NullSink") -> None:
    os.kill(null_sink.pid, signal.SIGSTOP)

    def answer_s() -> float:
        began_s = time.monotonic()
        with pytest.raises(DeviceListError, match=r"within 0\.5 s: the sound server does not answer"):
            list_inputs(timeout_s=0.5)
        return time.monotonic() - began_s

    assert quickest(answer_s, 2.0) < 2.0


def test_an_interpreter_without_portaudio_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    with pytest.raises(DeviceListError, match="cannot be listed"):
        list_inputs()
