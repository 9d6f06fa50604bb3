"""Assembly: settings to the parts that the commands are made of."""

from __future__ import annotations

from pathlib import Path

from mird.daemon.capture import SourceSpec, parse_source
from mird.daemon.clip_store import ClipStore
from mird.daemon.paths import (
    control_endpoint,
    engine_cache,
    make_runtime_folder,
    reached_control_endpoint,
    shipped,
    support_file,
)
from mird.daemon.settings import Settings
from mird.daemon.source import topic_name
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder, open_encoder
from mird.kernels.recognizer import Recognizer

SHIPPED_ENGINE = "models/default.onnx"
SHIPPED_SUPPORT = "support/default.mird"
DEMONSTRATION = "demo/demo.flac"


def engine_file(settings: Settings) -> Path:
    """The encoder's file that the settings name, or the shipped one."""
    return Path(settings.engine).expanduser() if settings.engine else shipped(SHIPPED_ENGINE)


def open_engine(settings: Settings, *, fastest: bool = False) -> Encoder:
    """The encoder that the settings name, or the shipped one, on the CPU; EngineError if it cannot be loaded.

    With ``fastest`` the engine that is the faster on this CPU is taken, if several are installed: that is measured.
    """
    if fastest:
        from mird.kernels.encoder_choice import choose_encoder

        return choose_encoder(engine_file(settings), engine_cache(), threads=settings.threads)
    return open_encoder(engine_file(settings), threads=settings.threads)


def open_store(settings: Settings, encoder: Encoder) -> SupportStore:
    """The user's support set, or the shipped one as long as nothing was changed; SupportError if it cannot be used."""
    path = Path(settings.support).expanduser() if settings.support else support_file()
    return SupportStore(
        Recognizer(encoder),
        path,
        shipped(SHIPPED_SUPPORT),
        settings.unknown_threshold,
        settings.class_thresholds,
    )


def source_spec(settings: Settings) -> SourceSpec:
    """The source that the settings describe; SettingsError if they do not make sense."""
    return parse_source(
        settings.source,
        channels=settings.channels,
        stdin_rate_hz=settings.stdin_rate_hz,
        stdin_channels=settings.stdin_channels,
        stdin_format=settings.stdin_format,
        fast=settings.fast,
        loop=settings.loop,
        name=settings.name,
    )


def open_clips(settings: Settings) -> ClipStore | None:
    """The clip store, where the settings name a folder; SettingsError if it cannot be used."""
    return ClipStore(Path(settings.clips).expanduser(), settings.clips_mb) if settings.clips else None


def waiting_name(spec: SourceSpec) -> str:
    """The source's name in topics before it is open."""
    if spec.kind == "file":
        return spec.name or topic_name(Path(spec.argument).name)
    return spec.name or topic_name(spec.argument or spec.kind)


def keys_folder(settings: Settings) -> Path:
    """The folder of keys for addresses off this machine; it need not be there."""
    return Path(settings.keys).expanduser() if settings.keys else support_file().with_name("keys")


def control_address(settings: Settings, *, create: bool = False) -> str:
    """The control socket's address, for a command that asks there; with ``create`` for the daemon that makes it."""
    if settings.control:
        return settings.control
    if create:
        make_runtime_folder()
        return control_endpoint()
    return reached_control_endpoint()
