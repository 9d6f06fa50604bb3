"""The doctor: looks at everything that mird stands on, and says what is wrong with it and what to do.

Each check is a generator of :class:`Finding`; one that breaks down is a finding too, and the next one goes on. Nothing
is changed: where no daemon runs, sockets are bound for a moment and a device is opened for some seconds.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mird.daemon.assembly import control_address, engine_file, keys_folder, open_engine, open_store, source_spec
from mird.daemon.capture import CaptureState, open_capture
from mird.daemon.control import ControlServer
from mird.daemon.devices import DeviceListError, find_input, list_host_apis, list_inputs, names_of
from mird.daemon.errors import MirdError
from mird.daemon.paths import engine_cache, settings_files, support_file
from mird.daemon.publisher import Publisher
from mird.daemon.settings import Settings
from mird.kernels.back_ends import survey
from mird.kernels.errors import KernelError
from mird.kernels.recognizer import Recognizer
from mird.kernels.scalogram import CPU_BACKENDS, installed_backends

Verdict = Literal["ok", "note", "warning", "error"]

N_HOPS = 30
LISTEN_S = 2.0
OPENING_S = 4.0
SLOW_SHARE = 0.5
"""Share of a hop that its recognition may take before a warning."""
LOW_DISK_BYTES = 50_000_000
SERVERS = ("pulse/native", "pipewire-0")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    topic : str
        What it belongs to: "settings", "files", "kernels", "encoder", "sound", "addresses", "daemon", "latency".
    verdict : {"ok", "note", "warning", "error"}
        A warning: mird runs, but not as well as it could, or waits for something. An error: it cannot run.
    what : str
        One line.
    remedy : str
        What to do; empty where nothing is.
    exit_status : int
        Of an error: the one that `mird run` would end with.
    """

    topic: str
    verdict: Verdict
    what: str
    remedy: str = ""
    exit_status: int = 0


def examine(settings: Settings, status: Mapping[str, Any] | None, silent: str = "") -> Iterator[Finding]:
    """Look at everything.

    Parameters
    ----------
    settings : Settings
    status : Mapping[str, Any], optional
        What a running daemon answers to ``status``; None where there is none.
    silent : str
        Why one that is there does not answer.
    """
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("files", lambda: _files(settings)),
        ("kernels", lambda: _kernels(settings)),
        ("encoder", lambda: _encoder(settings)),
        ("sound", lambda: _sound(settings)),
        ("daemon", lambda: _daemon(settings, status, silent)),
        ("addresses", lambda: _addresses(settings, status)),
        ("latency", lambda: _latency(settings, listen=status is None and not silent)),
    )
    for topic, check in checks:
        try:
            yield from check()
        except (MirdError, KernelError) as error:
            what, _, remedy = " ".join(str(error).split()).partition("; ")
            yield Finding(topic, "error", what, remedy, error.exit_status)


def _files(settings: Settings) -> Iterator[Finding]:
    read = [str(path) for path in settings_files() if path.exists()]
    yield Finding("files", "ok" if read else "note", f"settings files: {', '.join(read) or 'none: the defaults'}")
    support = Path(settings.support).expanduser() if settings.support else support_file()
    yield from _writable("support set", support, "set support to a file that mird may write")
    if settings.clips:
        folder = Path(settings.clips).expanduser()
        yield from _writable("clips", folder / "clip", "set clips to a folder that mird may write to")
    else:
        yield Finding("files", "note", "clips of events: none are kept (setting clips)")


def _writable(what: str, path: Path, remedy: str) -> Iterator[Finding]:
    """Whether a file can be made or replaced, and how much room its disk has."""
    folder = next(each for each in path.parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("files", "warning", f"{what}: {path}: {folder} cannot be written to", remedy)
        return
    if path.exists() and not os.access(path, os.R_OK):
        yield Finding("files", "error", f"{what}: {path} cannot be read", f"make it readable, or {remedy}", 6)
        return
    free = shutil.disk_usage(folder).free
    shown = f"{what}: {path}{'' if path.exists() else ', not there yet'}, {free / 1e9:.1f} GB free"
    if free < LOW_DISK_BYTES:
        yield Finding("files", "warning", shown, "make room on that disk")
    else:
        yield Finding("files", "ok", shown)


def _kernels(settings: Settings) -> Iterator[Finding]:
    installed = installed_backends()
    used = next(name for name in CPU_BACKENDS if name in installed)
    yield Finding("kernels", "ok", f"scalogram: {used}")
    if used != CPU_BACKENDS[0]:
        yield Finding(
            "kernels", "note", f"scalogram: {CPU_BACKENDS[0]}, which is faster, is not installed",
            "pip install 'mird[fast]' (ducc0 is under the GPL)",
        )  # fmt: skip
    precision = "float16" if settings.precision == "auto" else settings.precision
    back_ends = survey(engine_file(settings), engine_cache(), device=settings.device, precision=precision)
    on_device = (each.name for each in back_ends if each.on_device and each.usable and not each.needs_compiling)
    serving = next(on_device, None) or open_engine(settings).name
    for each in back_ends:
        if each.name == serving:
            yield Finding("kernels", "ok", f"encoder: {each.name}: {each.reason}")
        elif each.usable:
            yield Finding("kernels", "note", f"encoder: {each.name} would do: {each.reason}")
        else:
            reason, _, remedy = each.reason.partition("; ")
            yield Finding("kernels", "note", f"encoder: {each.name} cannot serve: {reason}", remedy)


def _encoder(settings: Settings) -> Iterator[Finding]:
    encoder = open_engine(settings)
    card = encoder.card
    yield Finding(
        "encoder", "ok",
        f"{engine_file(settings)}: {card.name}, fingerprint {card.fingerprint}, on {encoder.name}; unknown below "
        f"{card.unknown_threshold:.2f}, {len(card.background)} background sounds",
    )  # fmt: skip
    snapshot = open_store(settings, encoder).snapshot
    names = snapshot.prototypes.names
    if names:
        yield Finding("encoder", "ok", f"support set: {len(names)} classes, revision {snapshot.revision}")
    else:
        yield Finding("encoder", "warning", "support set: it has no class", "mird enroll NAME CLIP")


def _sound(settings: Settings) -> Iterator[Finding]:
    spec = source_spec(settings)
    try:
        library, apis = list_host_apis()
        inputs = list_inputs()
    except DeviceListError as error:
        what, _, remedy = str(error).partition("; ")
        yield Finding("sound", "warning", what, remedy)
        return
    shown = ", ".join(f"{name} ({n} device{'s'[: n != 1]})" for name, n in apis.items())
    yield Finding("sound", "ok", f"{library.split(',')[0]}, host APIs: {shown or 'none'}")
    for device in inputs:
        mark = ", the default" if device.is_default else ""
        yield Finding(
            "sound", "ok", f"input {device.name!r}: {device.n_inputs} channels, {device.default_rate_hz} Hz{mark}"
        )
    if spec.kind != "device":
        yield Finding("sound", "note", f"source: {settings.source}")
    elif (chosen := find_input(inputs, spec.argument)) is not None:
        yield Finding("sound", "ok", f"source: {settings.source} is {chosen.name!r}")
    else:
        yield Finding(
            "sound", "warning", f"source: {settings.source} matches no input of {names_of(inputs)}: mird waits for it",
            _why_no_input(bool(inputs)),
        )  # fmt: skip


def _why_no_input(has_inputs: bool) -> str:
    """What keeps inputs from being seen."""
    if has_inputs:
        return "`mird devices` lists the names; --source device:PART-OF-ITS-NAME"
    cards = Path("/dev/snd")
    if cards.is_dir() and not all(
        os.access(each, os.R_OK | os.W_OK) for each in cards.iterdir() if each.is_char_device()
    ):
        return "this user may not open /dev/snd: add it to the group audio, and log in anew"
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"))
    if any((runtime / socket).exists() for socket in SERVERS) or "PULSE_SERVER" in os.environ:
        return (
            "a sound server runs; give ALSA a way to it: apt install libasound2-plugins (PulseAudio) or pipewire-alsa"
        )
    return "plug one in, start the sound server, or listen to a file with --source file:PATH"


def _daemon(settings: Settings, status: Mapping[str, Any] | None, silent: str) -> Iterator[Finding]:
    if status is None:
        what, _, remedy = silent.partition("; ")
        yield (
            Finding("daemon", "warning", what, remedy)
            if silent
            else Finding("daemon", "note", f"none runs at {control_address(settings)}")
        )
        return
    ours = version("mird")
    yield Finding(
        "daemon", "ok", f"runs for {status['uptime_s']:.0f} s, version {status['version']}, {status['engine']}"
    )
    if status["version"] != ours:
        yield Finding("daemon", "warning", f"it is version {status['version']}, and this is {ours}", "restart it")
    state, detail = status["state"], status["detail"]
    if state == CaptureState.LIVE:
        yield Finding("daemon", "ok", f"{state}: {detail}")
    else:
        yield Finding("daemon", "warning", f"{state}: {detail}", "see `mird doctor`'s lines on sound")
    counters = status["counters"]
    lost = {name: n for name, n in counters.items() if name not in ("n_hops", "n_opens") and n}
    if counters.get("n_hops_skipped", 0) > counters.get("n_hops", 0) / 1000:
        share = ", ".join(f"{name} {n}" for name, n in lost.items())
        yield Finding(
            "daemon", "warning", f"{share} of {counters['n_hops']} hops", "a longer hop_ms, or fewer channels"
        )
    elif lost:
        yield Finding("daemon", "note", ", ".join(f"{name} {n}" for name, n in lost.items()))


def _addresses(settings: Settings, status: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Whether the addresses can be had; those of a running daemon are its."""
    if status is not None:
        yield Finding("addresses", "ok", f"publish: {status['publish']}; control: {control_address(settings)}")
        return
    keys, control = keys_folder(settings), control_address(settings, create=True)
    takers: tuple[tuple[str, str, Callable[[], Publisher | ControlServer]], ...] = (
        ("publish", settings.publish, lambda: Publisher(settings.publish, keys=keys)),
        ("control", control, lambda: ControlServer(control, {}, keys=keys)),
    )
    for setting, address, take in takers:
        try:
            take().close()
        except MirdError as error:
            what, _, remedy = " ".join(str(error).split()).partition("; ")
            yield Finding("addresses", "error", what, remedy, error.exit_status)
        else:
            yield Finding("addresses", "ok", f"{setting}: {address} is free")
    if settings.metrics:
        from mird.daemon.metrics import check_address

        check_address(settings.metrics)
        yield Finding("addresses", "ok", f"metrics: {settings.metrics} is free")


def _latency(settings: Settings, *, listen: bool) -> Iterator[Finding]:
    """A window of noise through the real recognizer, and a second through PortAudio where nobody else listens."""
    recognizer = Recognizer(open_engine(settings))
    support = open_store(settings, open_engine(settings)).snapshot.prototypes
    window = recognizer.card.front_end.window
    noise = np.random.default_rng(0).normal(0, 0.1, (1, window)).astype(np.float32)
    times_ms = []
    for _ in range(N_HOPS):
        began_s = time.perf_counter()
        recognizer.score(noise, support)
        times_ms.append(1000 * (time.perf_counter() - began_s))
    p50, p99 = np.percentile(times_ms[3:], (50, 99))
    shown = f"a window takes {p50:.1f} ms (p99 {p99:.1f}) of a hop of {settings.hop_ms} ms, one channel"
    if p50 > settings.hop_ms:
        yield Finding("latency", "error", shown, "a longer hop_ms, or a faster back end", 1)
    elif p50 > SLOW_SHARE * settings.hop_ms:
        yield Finding("latency", "warning", shown, "a longer hop_ms, or a faster back end")
    else:
        yield Finding("latency", "ok", shown)
    if not listen:
        yield Finding("latency", "note", "sound: not opened, since a daemon listens")
    elif source_spec(settings).kind == "device":
        yield from _capture(settings, p50)


def _capture(settings: Settings, hop_ms: float) -> Iterator[Finding]:
    """Open the source for some seconds, as the daemon does."""
    capture = open_capture(source_spec(settings))
    began_s = time.monotonic()
    capture.start()
    try:
        while (stream := capture.stream) is None and time.monotonic() - began_s < OPENING_S:
            time.sleep(0.01)
        if stream is None:
            yield Finding("latency", "warning", f"sound: not opened: {capture.status.detail}")
            return
        opened_s = time.monotonic() - began_s
        stream.ring.wait_for_data(round(0.5 * stream.rate_hz), LISTEN_S)
        ages_ms, until_s = [], time.monotonic() + LISTEN_S
        while time.monotonic() < until_s:
            stream.ring.read(stream.rate_hz)
            stream.ring.wait_for_data(stream.rate_hz // 20, 0.5)
            ages_ms.append((time.monotonic_ns() - stream.mono_ns(stream.ring.n_written)) / 1e6)
        status = capture.status
        late_ms = float(np.percentile(ages_ms, 99)) + hop_ms
        what = f"sound: {status.detail}: open after {opened_s:.1f} s, capture to scores {late_ms:.0f} ms (p99)"
        if status.n_overflows or status.n_gaps:
            lost = f"{status.n_overflows} overflows, {status.n_gaps} gaps in {LISTEN_S:g} s"
            yield Finding("latency", "warning", f"{what}; {lost}", "close what else uses the sound card or the CPU")
        elif status.state is CaptureState.STALLED:
            yield Finding("latency", "warning", what, "unmute it, plug something in, or choose another input")
        else:
            yield Finding("latency", "ok", what)
    finally:
        capture.stop()
