"""Suites: the rows of a whole evaluation, in one TOML file.

``pool`` names what baselines are standardised and whitened on, ``lists`` gives names to lists of classes and
sources, and each ``row`` is a task. A row's texts that stand where a list is wanted are names of lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mird.training.errors import TrainingError
from mird.training.tables import from_table, read_toml

REST = "rest"
"""As a row's ``unknown``: the classes that an episode did not draw."""


@dataclass(frozen=True)
class Row:
    """One task, at one number of shots or several.

    Attributes
    ----------
    name, section : str
        What the report calls it, and under which heading.
    weights : str
        Which weights it is for; ``default`` is the engine of the settings.
    queries, support : str
        Manifests in the data's folder; no support: other takes of the queries.
    sources, support_sources, support_without : tuple of str
        Sources of the queries, of the support, and those that the support leaves out; empty for all or none.
    classes : tuple of str
        Empty for all instruments that both have.
    unknown : tuple of str
        Classes that are asked and never in the support; ``("rest",)`` for what an episode did not draw.
    way : int
        0 for all.
    shots : tuple of int
    each_window, other_sources : bool
        As the options of ``mird evaluate``.
    targets, unknown_targets : tuple of float
        Wanted accuracy in per cent and wanted AUROC, one a number of shots; none where empty.
    ahead_of, ahead : str, float
        A system and the points by which the encoder is to be ahead of it.
    """

    name: str
    section: str
    queries: str
    weights: str = "default"
    support: str = ""
    sources: tuple[str, ...] = ()
    support_sources: tuple[str, ...] = ()
    support_without: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    way: int = 0
    shots: tuple[int, ...] = (1, 5)
    each_window: bool = False
    other_sources: bool = False
    targets: tuple[float, ...] = ()
    unknown_targets: tuple[float, ...] = ()
    ahead_of: str = ""
    ahead: float = 0.0


@dataclass(frozen=True)
class TrainingPool:
    """The training pool: a manifest, and the sources that no weight was trained on."""

    manifest: str
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A whole evaluation; ``live_limit`` is how many points live-like input may cost a row."""

    name: str
    pool: TrainingPool
    rows: tuple[Row, ...]
    live_limit: float = 10.0


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises
    ------
    TrainingError
        If it cannot be read, or a key or a list's name is unknown.
    """
    values = read_toml(path, "suite")
    unknown = set(values) - {"pool", "lists", "row", "live_limit"}
    if unknown:
        raise TrainingError(f"{path}: unknown key {', '.join(sorted(unknown))}; known are pool, lists, row, live_limit")
    lists = values.get("lists", {})
    tables = values.get("row", [])
    if not isinstance(tables, list) or not tables:
        raise TrainingError(f"{path}: has no [[row]]")
    rows = [_row(_named(table, lists, path), f"{path}: row {number}") for number, table in enumerate(tables, start=1)]
    pool: TrainingPool = from_table(TrainingPool, _named(values.get("pool", {}), lists, path), f"{path}: pool")
    return Suite(path.stem, pool, tuple(rows), float(values.get("live_limit", 10.0)))


def _row(table: dict[str, Any], where: str) -> Row:
    row: Row = from_table(Row, table, where)
    for name in ("targets", "unknown_targets"):
        if getattr(row, name) and len(getattr(row, name)) != len(row.shots):
            raise TrainingError(f"{where}: {name} needs one value for each of shots={list(row.shots)}")
    if row.unknown == (REST,) and not row.way:
        raise TrainingError(f"{where}: unknown='{REST}' needs a way, so that classes are left")
    return row


def _named(table: dict[str, Any], lists: dict[str, Any], path: Path) -> dict[str, Any]:
    """A table in which names of lists are replaced by the lists."""
    wanted = ("sources", "support_sources", "support_without", "classes", "unknown", "without")
    found = dict(table)
    for key in wanted:
        name = found.get(key)
        if not isinstance(name, str):
            continue
        if name == REST and key == "unknown":
            found[key] = [REST]
        elif name in lists:
            found[key] = lists[name]
        else:
            raise TrainingError(f"{path}: {key}={name!r} is no list; lists are {', '.join(sorted(lists)) or 'none'}")
    return found
