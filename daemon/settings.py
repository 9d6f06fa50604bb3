"""The daemon's settings and where each of them came from.

Weakest first: the defaults below, ``/etc/mird/mird.toml``, the user's ``mird.toml``, the file of ``--config``,
``MIRD_…`` variables, the command line. An unknown name is refused in each of them, with the nearest known one.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as VariableError

from mird.daemon.errors import SettingsError
from mird.daemon.paths import settings_files

PREFIX = "MIRD_"

# Variables with the prefix that are no settings: where the project's own tests find recordings.
OTHER_VARIABLES = frozenset({"MIRD_RECORDINGS"})

# A setting of several values is an option that may be repeated.
SINGULAR = {"class_thresholds": "class_threshold"}

Threshold = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseSettings):
    """What a daemon does; making one reads neither files nor variables, :func:`load_settings` does."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    source: str = "device"
    """Where sound comes from: device[:PATTERN], file:PATH or stdin."""

    name: str = ""
    """The source's name in topics; empty: made from the source."""

    channels: str = "all"
    """The channels that are listened to, from 1: all, or such as 1,3-4."""

    stdin_rate_hz: Annotated[int, Field(ge=1000, le=768_000)] = 44_100
    """Sampling rate of standard input."""

    stdin_channels: Annotated[int, Field(ge=1, le=256)] = 1
    """Interleaved channels of standard input."""

    stdin_format: Literal["u8", "s16le", "s24le", "s32le", "f32le", "f64le"] = "s16le"
    """Sample format of standard input."""

    fast: bool = False
    """Read a file as fast as it can be recognised, not in real time."""

    loop: bool = False
    """Begin a file again at its end."""

    publish: Annotated[str, Field(pattern=r"^(tcp|ipc)://.+")] = "tcp://127.0.0.1:7475"
    """ZeroMQ address that frames and events are published at."""

    control: Annotated[str, Field(pattern=r"^(|(tcp|ipc)://.+)$")] = ""
    """ZeroMQ address of the control socket; empty: the user's runtime folder."""

    metrics: Annotated[str, Field(pattern=r"^(|.+:[0-9]+)$")] = ""
    """Address of this machine that Prometheus reads metrics at, such as 127.0.0.1:7477; empty: none."""

    clips: str = ""
    """Folder that the sound behind each event is kept in, as FLAC; empty: none is kept."""

    clips_mb: Annotated[int, Field(ge=1, le=10_000_000)] = 500
    """Size of all clips together, in MB; the oldest are removed."""

    keys: str = ""
    """Folder of keys for addresses off this machine; empty: beside the support set."""

    hop_ms: Annotated[int, Field(ge=20, le=1000)] = 100
    """Time from one frame to the next, in ms."""

    engine: str = ""
    """Encoder file; empty: the shipped one."""

    support: str = ""
    """Support set file; empty: the user's own."""

    silence_dbfs: Annotated[float, Field(ge=-150.0, le=0.0)] = -55.0
    """Level below which a channel is silent, in dBFS."""

    unknown_threshold: Threshold | None = None
    """Score below which a sound is unknown; none: the encoder's calibration."""

    smoothing_ms: Annotated[int, Field(ge=0, le=10_000)] = 50
    """Time constant of the scores' smoothing, in ms."""

    hold_ms: Annotated[int, Field(ge=0, le=10_000)] = 200
    """Time that a class must lead before its event starts, in ms."""

    wary_hold_ms: Annotated[int, Field(ge=0, le=10_000)] = 1300
    """The same where no class has led for some seconds, as while somebody speaks; no less than hold_ms."""

    release_ms: Annotated[int, Field(ge=0, le=10_000)] = 300
    """Time that a class must be gone before its event ends, in ms."""

    class_thresholds: dict[str, Threshold] = {}
    """Thresholds of single classes, in the place of unknown_threshold."""

    top_k: Annotated[int, Field(ge=1, le=100)] = 5
    """Classes that a frame lists, the likeliest first."""

    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Threads that the encoder computes with."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What recognises: an NVIDIA GPU where there is one (auto), the CPU alone, or a GPU, and a warning without one."""

    precision: Literal["auto", "float32", "float16", "int8"] = "auto"
    """Arithmetic of the encoder on a GPU; auto is float16. On the CPU the encoder's file decides."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class's signature
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,  # noqa: ARG003
        **more: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what it is called with."""
        return (init_settings,)


@dataclass(frozen=True)
class Layer:
    """Settings out of one place.

    Attributes
    ----------
    values : Mapping[str, Any]
        By setting.
    origins : Mapping[str, str]
        By setting: the file, the variable or the option that a person would change.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]


@dataclass(frozen=True)
class EffectiveSettings:
    """Settings, and for each that is not a default where it came from.

    Attributes
    ----------
    settings : Settings
    origins : Mapping[str, str]
        By setting; a class's threshold as ``class_thresholds.NAME``.
    """

    settings: Settings
    origins: Mapping[str, str]


def load_settings(options: Mapping[str, Any] | None = None, config: Path | None = None) -> EffectiveSettings:
    """Read the settings of this process.

    Parameters
    ----------
    options : Mapping[str, Any], optional
        What the command line set, by setting; ``None`` counts as not set.
    config : Path, optional
        File of ``--config``; unlike the usual two it must exist.

    Raises
    ------
    SettingsError
        A file cannot be read, or a setting is unknown or has a value that it cannot have.
    """
    layers = [_file_layer(path) for path in settings_files() if _is_there(path)]
    if config is not None:
        layers.append(_file_layer(config))
    layers += [_variable_layer(), _option_layer(options or {})]

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, value in layer.values.items():
            if name == "class_thresholds" and isinstance(value, Mapping):
                merged = values.get(name)
                values[name] = {**(merged if isinstance(merged, Mapping) else {}), **value}
                origins.update({f"{name}.{label}": layer.origins[name] for label in value})
            else:
                values[name] = value
                origins[name] = layer.origins[name]
    try:
        return EffectiveSettings(Settings(**values), origins)
    except ValidationError as error:
        raise SettingsError(_wrong_value(error, origins)) from error


def allowed(name: str) -> str:
    """What a setting may be, in words."""
    if name in ("publish", "control"):
        return "an address that begins with tcp:// or ipc://"
    if name == "metrics":
        return "an address of this machine and a port, such as 127.0.0.1:7477, or empty"
    schema = Settings.model_json_schema()["properties"][name]
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if schema.get("type") == "object":
        return f"a table of numbers {_range(schema['additionalProperties'])}"
    schema = next((choice for choice in schema.get("anyOf", ()) if "minimum" in choice), schema)
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(schema["type"], "text")
    return f"{kind} {_range(schema)}" if "minimum" in schema else kind


def _range(schema: Mapping[str, Any]) -> str:
    return f"from {schema['minimum']:g} to {schema['maximum']:g}"


def _is_there(path: Path) -> bool:
    """Whether there is a file, as far as this user may know: what hides one is told when it is read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _file_layer(path: Path) -> Layer:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path}: not TOML: {error}") from error
    for name in values:
        _check_known(name, f"in {path}", {known: known for known in Settings.model_fields})
    return Layer(values, dict.fromkeys(values, str(path)))


def _variable_layer() -> Layer:
    variables = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper() not in OTHER_VARIABLES:
            _check_known(variable.upper(), "in the environment", variables)
    try:
        values = EnvSettingsSource(Settings)()
    except VariableError as error:
        raise SettingsError(
            f"setting MIRD_CLASS_THRESHOLDS={os.environ.get('MIRD_CLASS_THRESHOLDS', '')!r} in the environment: "
            'not a JSON object such as {"viola": 0.6}'
        ) from error
    return Layer(values, {name: f"{PREFIX}{name.upper()}" for name in values})


def _option_layer(options: Mapping[str, Any]) -> Layer:
    values = {name: value for name, value in options.items() if value is not None}
    return Layer(values, {name: f"--{SINGULAR.get(name, name).replace('_', '-')}" for name in values})


def _check_known(name: str, where: str, known: Mapping[str, str]) -> None:
    if name in known:
        return
    nearest = difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=1, cutoff=0.5)
    match = next((each for each in known if nearest and each.lower() == nearest[0]), None)
    advice = f"did you mean {match}?" if match else "`mird config` lists the settings"
    raise SettingsError(f"unknown setting {name} {where}; {advice}")


def _wrong_value(error: ValidationError, origins: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    name, *keys = map(str, first["loc"])
    if name == "class_thresholds" and keys:
        name = f"{name}.{keys[0]}"
        must_be = allowed("unknown_threshold")
    else:
        must_be = allowed(name)
    return f"setting {name}={first['input']!r} ({origins[name]}): must be {must_be}"
