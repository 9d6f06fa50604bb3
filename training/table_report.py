"""The report on a table's cells: measured figures beside the paper's, and which cells ran where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mird.training.contenders import TRANSFORMS
from mird.training.paper_tables import Table
from mird.training.protocol import N_ROUNDS, N_TASKS, Outcome


def report_lines(name: str, table: Table, kinds: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Lines on all cells that a folder holds; ``kinds`` has the networks of the recipes that were asked for."""
    done = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    peers = list(dict.fromkeys(system for cell in done for system in cell.get("peers", ())))
    kinds = {**{cell["recipe"]: cell.get("kind", "residual") for cell in done}, **kinds}
    yield f"# {name} of the paper, on our recordings"
    yield ""
    yield (
        f"Two-way one-shot tasks on classes that were not trained on: {N_ROUNDS} rounds of {N_TASKS}, query and "
        "support of different takes. Mean over class splits with a 95 % interval over splits, and in brackets the best "
        "round; the paper's figures are `mean (max)`, of its one split. Pixels (nearest neighbour) and MFCC statistics "
        "(cosine) answer the same tasks"
        + (", and so do peers (cosine), standardised or whitened on what a cell does not test" if peers else "")
        + "; chance is 50."
    )
    for recipe, kind in kinds.items():
        yield ""
        yield f"## {recipe}"
        yield ""
        head = [f"{p}, {what}" for p in TRANSFORMS for what in ("measured", "paper", "pixels")]
        yield "| training + test classes | splits | " + " | ".join([*head, "MFCC", *peers, "ran on"]) + " |"
        yield "|" + "---|" * (len(head) + len(peers) + 4)
        for row, n in enumerate(table.n_training):
            cells = {
                p: [d for d in done if (d["recipe"], d["picture"], d["n_training"]) == (recipe, p, n)]
                for p in TRANSFORMS
            }
            shown = []
            for picture, found in cells.items():
                best, mean = table.paper[kind, picture][row]
                shown += [
                    _over_splits([d["network"] for d in found]),
                    f"{mean} ({best})",
                    _over_splits([d["pixels"] for d in found]),
                ]
            every = [d for found in cells.values() for d in found]
            machines = ", ".join(sorted({f"{d['device']}: {d['machine']}" for d in every})) or "not run"
            counts = "/".join(str(len(found)) for found in cells.values())
            # The same tasks whatever the picture, so the same figures.
            of_split = {d["split"]: d for d in every}
            shown.append(_over_splits([d["mfcc"] for d in of_split.values()]))
            for peer in peers:
                answers = {d["split"]: d["peers"][peer] for d in every if peer in d.get("peers", ())}
                some = f", {len(answers)} splits" if 0 < len(answers) < len(of_split) else ""
                shown.append(_over_splits(list(answers.values())) + some)
            yield f"| {n} + {len(table.classes) - n} | {counts} | " + " | ".join([*shown, machines]) + " |"
        yield ""
        yield _finding([d for d in done if d["recipe"] == recipe])
    left_out = dict.fromkeys(line for cell in done for line in cell.get("left_out", ()))
    if left_out:
        yield ""
        yield "Left out:"
        yield ""
        yield from (f"- {line}" for line in left_out)


def _over_splits(found: Sequence[Mapping[str, float]]) -> str:
    if not found:
        return "not run"
    outcomes = [Outcome(**each) for each in found]
    means = 100 * np.array([o.mean for o in outcomes])
    interval = f" ± {1.96 * means.std(ddof=1) / len(means) ** 0.5:.1f}" if len(means) > 1 else ""
    return f"{means.mean():.1f}{interval} ({100 * max(o.best for o in outcomes):.0f})"


def _finding(done: Sequence[Mapping[str, Any]]) -> str:
    """Scalogram against spectrogram, split by split."""
    by = {(d["picture"], d["n_training"], d["split"]): 100 * d["network"]["mean"] for d in done}
    pairs = [
        value - by["spectrogram", n, split]
        for (picture, n, split), value in by.items()
        if picture == "scalogram" and ("spectrogram", n, split) in by
    ]
    if len(pairs) < 2:
        return "Scalogram against spectrogram: too few pairs of cells for a finding."
    mean, half = float(np.mean(pairs)), 1.96 * float(np.std(pairs, ddof=1)) / len(pairs) ** 0.5
    said = "no difference is shown" if abs(mean) <= half else ("better" if mean > 0 else "worse") + " on these data"
    return (
        f"Scalogram less spectrogram, over {len(pairs)} pairs of cells of the same split: {mean:+.1f} points "
        f"(95 % interval {mean - half:+.1f} to {mean + half:+.1f}): {said}."
    )
