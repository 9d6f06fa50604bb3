"""Reloading: which settings a running daemon can go on with, and what is said about the others."""

from collections.abc import Mapping
from typing import Any, Final

from mird.daemon.settings import Settings

HOT_SETTINGS: Final = frozenset(
    {
        "class_thresholds",
        "hold_ms",
        "log_level",
        "release_ms",
        "silence_dbfs",
        "smoothing_ms",
        "top_k",
        "unknown_threshold",
        "wary_hold_ms",
    }
)
"""Settings that a reload puts in force; the others need a restart."""


def swapped(running: Settings, loaded: Settings) -> tuple[Settings, list[str], list[str]]:
    """Settings to go on with.

    Parameters
    ----------
    running, loaded : Settings
        Those in force, and those that were read anew.

    Returns
    -------
    settings : Settings
        The running ones with what can be changed; the same object where nothing is.
    changed, restart_needed : list[str]
        Names of settings that differ: those that were changed, and those that wait for a restart.
    """
    before, now = running.model_dump(), loaded.model_dump()
    different = [name for name in now if now[name] != before[name]]
    changed = [name for name in different if name in HOT_SETTINGS]
    settings = running.model_copy(update={name: now[name] for name in changed}) if changed else running
    return settings, changed, [name for name in different if name not in HOT_SETTINGS]


def report(told: Mapping[str, Any]) -> str:
    """What a reload did (the result of the verb ``reload``), in one line for a person."""
    parts = []
    if told["changed"]:
        parts.append(f"in force now: {', '.join(told['changed'])}")
    if told["support_changed"]:
        parts.append("the support set was read anew")
    if told["calibration_changed"]:
        parts.append("the calibrated gates were read anew")
    if told["restart_needed"]:
        parts.append(f"needs a restart: {', '.join(told['restart_needed'])}")
    return "; ".join(parts) or "nothing has changed"
