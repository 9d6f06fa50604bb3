"""Pictures of a suite's results: confusion matrices, ROC of unknown, a map of embeddings, accuracy against seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mird.training.errors import TrainingError
from mird.training.features import Features

N_MAPPED = 800


def check_plots() -> None:
    """Import what draws; TrainingError if matplotlib or scikit-learn is not installed."""
    try:
        import matplotlib as mpl
        import sklearn.manifold  # noqa: F401

        mpl.use("agg")
    except ModuleNotFoundError as error:
        raise TrainingError(f"the report needs {error.name}; install it with: pip install 'mird[report]'") from None


def write_plots(folder: Path, results: Mapping[str, Any], features: Features) -> dict[str, Path]:
    """Draw PNG files.

    Returns
    -------
    dict of Path by title

    Raises
    ------
    TrainingError
        If matplotlib or scikit-learn is not installed.
    """
    check_plots()
    drawn = {}
    for number, row in enumerate(results["rows"]):
        if not row["figures"]:
            continue
        title = f"{row['section']}: {row['name']}, {row['figures'][-1]['shot']} shots"
        path = folder / f"confusion-{number + 1}.png"
        _confusion(path, title, row["figures"][-1]["confusion"])
        drawn[f"confusion, {title}"] = path
    curves = [(row["name"], f) for row in results["rows"] for f in row["figures"] if f["roc"][1]]
    if curves:
        _roc(folder / "roc.png", curves)
        drawn["ROC of unknown"] = folder / "roc.png"
    enrolment = [row for row in results["rows"] if len(row["figures"]) > 2]
    if enrolment:
        _enrolment(folder / "enrolment.png", enrolment)
        drawn["accuracy against shots"] = folder / "enrolment.png"
    _map(folder / "map.png", results, features)
    drawn["map of embeddings"] = folder / "map.png"
    return drawn


def _confusion(path: Path, title: str, confusion: Mapping[str, Mapping[str, int]]) -> None:
    from matplotlib.figure import Figure

    labels = sorted(set(confusion) | {other for counts in confusion.values() for other in counts})
    table = np.array([[confusion.get(true, {}).get(named, 0) for named in labels] for true in labels], float)
    table /= np.maximum(table.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(1.5 + 0.42 * len(labels), 1.2 + 0.42 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="named", ylabel="true")
    axes.set_title(title, fontsize=9)
    for i, j in zip(*np.nonzero(table >= 0.005), strict=True):
        axes.text(j, i, f"{100 * table[i, j]:.0f}", ha="center", va="center", fontsize=7,
                  color="white" if table[i, j] > 0.5 else "black")  # fmt: skip
    figure.savefig(path, dpi=110)


def _roc(path: Path, curves: list[tuple[str, Mapping[str, Any]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for name, figures in curves:
        known, strange = (np.sort(np.array(values)) for values in figures["roc"])
        thresholds = np.unique(np.concatenate([known, strange]))
        accepted = [1 - np.searchsorted(values, thresholds) / len(values) for values in (strange, known)]
        area = figures["systems"]["mird"]["auroc_unknown"]
        axes.plot(*accepted, label=f"{name}, {figures['shot']} shots: {area:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    axes.set(xlabel="unknown sounds that are named", ylabel="known sounds that are named", title="ROC of unknown")
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)


def _enrolment(path: Path, rows: list[Mapping[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        shots = [figures["shot"] for figures in row["figures"]]
        found = [figures["systems"]["mird"] for figures in row["figures"]]
        line = axes.plot(shots, [100 * f["accuracy"] for f in found], "o-", label=row["name"])[0]
        low, high = np.array([f["ci95"] for f in found]).T * 100
        axes.fill_between(shots, low, high, alpha=0.2, color=line.get_color())
    axes.set(xscale="log", xlabel="seconds enrolled (one-second shots)", ylabel="accuracy, %")
    axes.set_xticks(shots := sorted({f["shot"] for row in rows for f in row["figures"]}), map(str, shots))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _map(path: Path, results: Mapping[str, Any], features: Features) -> None:
    """Queries of the first measured row, by t-SNE of their embeddings (van der Maaten and Hinton 2008)."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    row = next(row for row in results["rows"] if row["figures"])
    engine = next(e["file"] for e in results["engines"] if e["weights"] == row["weights"])
    chosen = [
        (recording.label, int(windows[0]))
        for recording, windows in zip(features.recordings, features.windows, strict=True)
        if recording.label in row["figures"][0]["per_class"]
        and (not row["sources"] or recording.source in row["sources"])
    ][:N_MAPPED]
    labels = np.array([label for label, _ in chosen])
    vectors = features.clean[engine][[number for _, number in chosen]]
    n_near = min(30.0, (len(chosen) - 1) / 3)
    flat = TSNE(2, perplexity=n_near, metric="cosine", init="random", random_state=0).fit_transform(vectors)
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for number, label in enumerate(np.unique(labels)):
        own = flat[labels == label]
        axes.scatter(own[:, 0], own[:, 1], s=14, marker="os^vD"[number // 10 % 5], color=f"C{number % 10}", label=label)
    axes.set(xticks=[], yticks=[], title=f"{row['section']}: t-SNE of embeddings")
    axes.legend(fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")
    figure.savefig(path, dpi=110)
