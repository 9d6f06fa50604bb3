"""The report of a suite: Markdown with tables, and its pictures beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mird.training.errors import TrainingError
from mird.training.features import Features
from mird.training.plots import check_plots, write_plots

REPORT, RESULTS = "report.md", "results.json"
FIRST = "mird"
N_CONFUSED = 3


def check_report(folder: Path) -> None:
    """Make the report's folder and try what its writing needs, before anything is measured for it.

    Raises
    ------
    TrainingError
        If nothing can be written there, or what draws the pictures is not installed.
    """
    check_plots()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot write the report: {error.strerror}; choose another folder with --out"
        ) from None


def write_report(folder: Path, results: Mapping[str, Any], features: Features) -> Path:
    """Write ``results.json``, the pictures and ``report.md`` into a folder; TrainingError if one cannot be written.

    The figures come first: whatever befalls the pictures, they are kept.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULTS).write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        pictures = write_plots(folder, results, features)
        (folder / REPORT).write_text("\n".join(_lines(results, pictures)) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{folder}: cannot write the report: {error.strerror}") from None
    return folder / REPORT


def tables(results: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the rows' tables, by section."""
    for section in dict.fromkeys(row["section"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["section"] == section]
        systems = list(dict.fromkeys(name for row in rows for f in row["figures"] for name in f["systems"]))
        others = [name for name in systems if name != FIRST]
        yield f"## {section}"
        yield ""
        yield "| task | shots | " + " | ".join([FIRST, "live-like", *others, "AUROC of unknown", "wanted"]) + " |"
        yield "|" + "---|" * (6 + len(others))
        for row in rows:
            empty = " |" * (3 + len(others))
            if not row["figures"] and not row["not_measured"]:
                yield f"| {row['name']} | | not measured: `--weights {row['weights']}=FILE` is not given |{empty}"
            for missed in row["not_measured"]:
                yield f"| {row['name']} | {missed['shot']} | not measured: {missed['why']} |{empty}"
            for figures in row["figures"]:
                index = row["shots"].index(figures["shot"])
                cells = [row["name"], str(figures["shot"]), _cell(figures["systems"].get(FIRST), bold=True)]
                cells.append(_live(figures, results["live_limit"]))
                cells += [_cell(figures["systems"].get(name)) for name in others]
                cells += [_unknown(figures), _wanted(row, index, figures)]
                yield "| " + " | ".join(cells) + " |"
        yield ""


def _lines(results: Mapping[str, Any], pictures: Mapping[str, Path]) -> Iterator[str]:
    yield f"# Suite {results['suite']}"
    yield ""
    yield (
        f"{results['episodes']} episodes a row, seed {results['seed']}; accuracies in per cent and AUROC of unknown "
        "with 95 % intervals (bootstrap over episodes, and over seeds of training where there are several). Tables by "
        "class, confusion matrices and ROC pool the answers of all seeds. Every system answers the same episodes; "
        "`live-like` moves the queries in time, colours them, puts them into a room and adds noise at 10 to 40 dB. "
        "The encoder's other comparison (L1, or cosine) has even weights and no background. Pixels, MFCC and peers: "
        "cosine to the mean shot, standardised on the training pool, and whitened on it where "
        "that is said."
    )
    yield ""
    yield from _engines(results)
    yield from tables(results)
    for title, path in pictures.items():
        yield f"![{title}]({path.name})"
        yield ""
    yield from _classes(results)
    for what, names in (("could not be read", results["broken"]), ("without sound", results["silent"])):
        if names:
            yield f"## Left out: {what}"
            yield ""
            yield from (f"- {name}" for name in names)
            yield ""


def _engines(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| weights | encoder | fingerprint | MB | ms a picture, one thread | back end |"
    yield "|---|---|---|---|---|---|"
    for engine in results["engines"]:
        yield (
            f"| {engine['weights']} | {engine['name']} | `{engine['fingerprint']}` | {engine['megabytes']:.1f} "
            f"| {engine['milliseconds']:.2f} | {engine['back_end']} |"
        )
    yield ""


def _classes(results: Mapping[str, Any]) -> Iterator[str]:
    for row in results["rows"]:
        for figures in row["figures"][-1:]:
            n_seeds = figures["systems"][FIRST]["n_seeds"]
            over = f", {n_seeds} seeds of training" if n_seeds > 1 else ""
            yield f"## By class: {row['section']}, {row['name']}, {figures['shot']} shots{over}"
            yield ""
            yield "| class | right | taken for |"
            yield "|---|---|---|"
            for label, right in figures["per_class"].items():
                counts = figures["confusion"][label]
                total = sum(counts.values())
                wrong = sorted(((n, other) for other, n in counts.items() if other != label), reverse=True)
                shown = ", ".join(f"{other} {100 * n / total:.0f}" for n, other in wrong[:N_CONFUSED])
                yield f"| {label} | {100 * right:.0f} | {shown} |"
            yield ""


def _cell(found: Mapping[str, Any] | None, *, bold: bool = False) -> str:
    if found is None:
        return ""
    low, high = found["ci95"]
    mark = "**" if bold else ""
    return f"{mark}{100 * found['accuracy']:.1f}{mark} ({100 * low:.1f} to {100 * high:.1f})"


def _live(figures: Mapping[str, Any], limit: float) -> str:
    live = figures["live"].get(FIRST)
    if live is None:
        return ""
    drop = 100 * (figures["systems"][FIRST]["accuracy"] - live["accuracy"])
    return f"{_cell(live)}, loses {drop:.1f}" + (f" (**more than {limit:g}**)" if drop > limit else "")


def _unknown(figures: Mapping[str, Any]) -> str:
    said = []
    for name, found in figures["systems"].items():
        if found["auroc_unknown"] is not None:
            low, high = found["auroc_unknown_ci95"]
            said.append(f"{name} {found['auroc_unknown']:.3f} ({low:.3f} to {high:.3f})")
    return ", ".join(said)


def _wanted(row: Mapping[str, Any], index: int, figures: Mapping[str, Any]) -> str:
    said = []
    ours = figures["systems"][FIRST]
    if row["targets"] and row["targets"][index]:
        target = row["targets"][index]
        said.append(f"{target:g}: {_met(100 * ours['accuracy'] >= target)}")
    if row["unknown_targets"] and row["unknown_targets"][index] and ours["auroc_unknown"] is not None:
        target = row["unknown_targets"][index]
        said.append(f"AUROC {target:g}: {_met(ours['auroc_unknown'] >= target)}")
    other = figures["systems"].get(row["ahead_of"])
    if other:
        ahead = 100 * (ours["accuracy"] - other["accuracy"])
        said.append(f"{row['ahead']:g} ahead of {row['ahead_of']}: {ahead:.1f}, {_met(ahead >= row['ahead'])}")
    return "; ".join(said)


def _met(reached: bool) -> str:
    return "reached" if reached else "**missed**"
