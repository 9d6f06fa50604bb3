"""Print the inputs that PortAudio finds, as one line of JSON: run by `mird.daemon.devices`, in a process of its own.

With the argument ``host-apis`` it prints what PortAudio was built with instead.
"""

import json
import signal
import sys
from typing import Final

import pyaudio

ALIVE_S: Final = 10
"""Whoever asked has long ceased to wait, and may be gone: a sound server that hangs would keep this process as long."""


def inputs() -> list[dict[str, object]]:
    """The inputs in PortAudio's order, with the fields of `mird.daemon.devices.Device`."""
    audio = pyaudio.PyAudio()
    try:
        try:
            default = int(audio.get_default_input_device_info()["index"])
        except OSError:
            default = -1
        devices = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
        return [
            {
                "name": str(device["name"]),
                "host_api": str(audio.get_host_api_info_by_index(device["hostApi"])["name"]),
                "n_inputs": int(device["maxInputChannels"]),
                "default_rate_hz": round(float(device["defaultSampleRate"])),
                "is_default": int(device["index"]) == default,
            }
            for device in devices
            if int(device["maxInputChannels"]) > 0
        ]
    finally:
        audio.terminate()


def host_apis() -> dict[str, object]:
    """PortAudio's version, and how many devices each host API has, by its name."""
    audio = pyaudio.PyAudio()
    try:
        found = [audio.get_host_api_info_by_index(index) for index in range(audio.get_host_api_count())]
        return {"version": pyaudio.get_portaudio_version_text(), **{api["name"]: api["deviceCount"] for api in found}}
    finally:
        audio.terminate()


if __name__ == "__main__":
    signal.alarm(ALIVE_S)
    sys.stdout.write("\n" + json.dumps(host_apis() if sys.argv[1:] == ["host-apis"] else inputs()) + "\n")
