"""What corrections teach: accuracy on a player never heard before, after 1, 3 and 10 of them.

``python tests/benchmarks/bench_corrections.py MANIFEST.csv [--episodes 40]`` writes ``results/corrections.json``.

The daemon begins with the shipped support set, whose players are others. Each instrument of the held-out sources (vsco2
and vcsl, which no weight and no shipped shot is from) is played by one new player. A third of its takes are for the
test; of the others the first that is wrong (another name, or unknown) is corrected, round by round, as somebody at the
daemon would: its windows become shots through `SupportSet.corrected`. The names compete with all forty of the set.
Intervals (95 %) are over episodes, each with another draw of takes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mird.daemon.assembly import open_engine, open_store
from mird.daemon.settings import Settings
from mird.daemon.shot import Shot
from mird.daemon.support_set import SupportClass, SupportSet
from mird.kernels.recognizer import Recognizer
from mird.kernels.similarity import Prototypes
from mird.training.evaluate import embed_recordings
from mird.training.manifest import read_manifest

RESULTS = Path(__file__).with_name("results") / "corrections.json"
SOURCES = ("vsco2", "vcsl")
MIN_TAKES = 11
ROUNDS = 10
SHOWN = (0, 1, 3, 10)

Take = NDArray[np.float32]  # shape (n_windows, n_dims)
MOMENTS = itertools.count(1)
"""When something was corrected: shots of one moment are one recording."""

Learn = Callable[[SupportSet, str, Take], SupportSet]
Weigh = Callable[[SupportSet], NDArray[np.float32]]


def as_the_daemon(support: SupportSet, name: str, take: Take) -> SupportSet:
    moment = next(MOMENTS)
    return support.corrected(name, tuple(Shot(vector, "correction", moment) for vector in take))


def newest_of(n_most: int) -> Learn:
    """Keep the newest of the user's shots."""

    def learn(support: SupportSet, name: str, take: Take) -> SupportSet:
        changed = as_the_daemon(support, name, take)
        classes = []
        for known in changed.classes:
            own = [shot for shot in known.shots if not shot.given]
            given = tuple(shot for shot in known.shots if shot.given)
            classes.append(SupportClass(known.name, (*given, *own[-n_most:])) if known.name == name else known)
        return SupportSet(changed.fingerprint, changed.n_dims, tuple(classes))

    return learn


def most_useful_of(n_most: int) -> Learn:
    """Keep those that `most_useful` chooses, of a smaller number than the daemon's."""
    from mird.daemon.shot_choice import most_useful

    def learn(support: SupportSet, name: str, take: Take) -> SupportSet:
        moment = next(MOMENTS)
        new = tuple(Shot(vector, "correction", moment) for vector in take)
        classes = tuple(
            SupportClass(known.name, most_useful(known.shots, new, n_most)) if known.name == name else known
            for known in support.classes
        )
        return SupportSet(support.fingerprint, support.n_dims, classes)

    return learn


def all_the_same(support: SupportSet) -> NDArray[np.float32]:
    return np.ones(sum(len(known.shots) for known in support.classes), np.float32)


class Players:
    """Takes of the held-out players, by instrument."""

    def __init__(self, manifest: Path, recognizer: Recognizer, names: tuple[str, ...]) -> None:
        rows = [row for row in read_manifest(manifest) if row.source in SOURCES and row.label in names]
        embedded = embed_recordings(rows, recognizer)
        takes: dict[str, dict[str, list[Take]]] = {}
        for row, vectors in zip(embedded.recordings, embedded.vectors, strict=True):
            takes.setdefault(row.label, {}).setdefault(row.take, []).append(vectors)
        self.takes = {
            label: [np.concatenate(clips) for _, clips in sorted(found.items())]
            for label, found in sorted(takes.items())
            if len(found) >= MIN_TAKES
        }


def weighed(support: SupportSet, weigh: Weigh) -> Prototypes:
    """The classes as the daemon has them, but for what a shot counts for."""
    return support.prototypes(weigh(support))


def heard(recognizer: Recognizer, take: Take, classes: Prototypes) -> tuple[str, bool]:
    """The best class of a take, and whether it reaches the threshold."""
    scores = recognizer.compare(take, classes).mean(axis=0)
    best = int(scores.argmax())
    return classes.names[best], bool(scores[best] >= recognizer.card.unknown_threshold)


def episode(
    players: Players, recognizer: Recognizer, start: SupportSet, learn: Learn, weigh: Weigh, seed: int
) -> dict[str, list[float]]:
    """Shares after each round, 0 to `ROUNDS`: named right, best right, and corrections made per class so far."""
    rng = np.random.default_rng(seed)
    test: list[tuple[str, Take]] = []
    left: dict[str, list[Take]] = {}
    for label, takes in players.takes.items():
        shuffled = [takes[i] for i in rng.permutation(len(takes))]
        n_test = max(3, len(takes) // 3)
        test += [(label, take[row : row + 1]) for take in shuffled[:n_test] for row in range(len(take))]
        left[label] = shuffled[n_test:]
    support, n_made = start, 0
    found: dict[str, list[float]] = {"named": [], "best": [], "made": []}
    for turn in range(ROUNDS + 1):
        if turn:
            for label, takes in left.items():
                classes = weighed(support, weigh)
                wrong = [i for i, take in enumerate(takes) if heard(recognizer, take, classes) != (label, True)]
                if wrong:
                    support = learn(support, label, takes.pop(wrong[0]))
                    n_made += 1
        classes = weighed(support, weigh)
        answers = [(label, heard(recognizer, take, classes)) for label, take in test]
        found["named"].append(float(np.mean([answer == (label, True) for label, answer in answers])))
        found["best"].append(float(np.mean([answer[0] == label for label, answer in answers])))
        found["made"].append(n_made / len(left))
    return found


def summary(episodes: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Means and 95 % intervals over episodes, per cent."""
    rows = {}
    for what in ("named", "best"):
        values = 100 * np.array([found[what] for found in episodes])[:, SHOWN]
        half = 1.96 * values.std(axis=0, ddof=1) / len(episodes) ** 0.5
        rows[what] = [
            [round(float(x), 1) for x in (m, m - h, m + h)] for m, h in zip(values.mean(0), half, strict=True)
        ]
    rows["made"] = np.array([found["made"] for found in episodes])[:, SHOWN].mean(axis=0).round(1).tolist()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--episodes", type=int, default=40)
    args = parser.parse_args()
    encoder = open_engine(Settings())
    recognizer = Recognizer(encoder)
    with tempfile.TemporaryDirectory() as folder:
        start = open_store(Settings(support=f"{folder}/support.mird"), encoder).current
    players = Players(args.manifest, recognizer, start.names)
    ways: dict[str, tuple[Learn, Weigh]] = {
        "mird": (as_the_daemon, SupportSet.weights),
        "every shot weighs the same": (as_the_daemon, all_the_same),
        "6 shots, the most useful": (most_useful_of(6), SupportSet.weights),
        "6 shots, the newest": (newest_of(6), SupportSet.weights),
    }
    result: dict[str, Any] = {
        "encoder": recognizer.card.fingerprint,
        "sources": SOURCES,
        "classes": list(players.takes),
        "competing_names": len(start.names),
        "episodes": args.episodes,
        "corrections_per_class": SHOWN,
        "ways": {},
    }
    for name, (learn, weigh) in ways.items():
        found = [episode(players, recognizer, start, learn, weigh, seed) for seed in range(args.episodes)]
        result["ways"][name] = summary(found)
        print(name, json.dumps(result["ways"][name]), flush=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
