"""Balanced batches: classes, sources in turn, weights, seeds."""

from collections import Counter

import numpy as np

from mird.training.sampler import BalancedSampler

LABELS = ["a"] * 40 + ["b"] * 20 + ["c"] * 2 + ["d"]
SOURCES = ["x"] * 30 + ["y"] * 10 + ["x"] * 10 + ["z"] * 10 + ["y"] * 2 + ["x"]


def sampler(
    n_classes: int = 3, n_per_class: int = 4, seed: int = 0, weights: tuple[float, ...] = ()
) -> BalancedSampler:
    each = weights or (1.0,) * len(LABELS)
    return BalancedSampler(LABELS, SOURCES, each, n_classes, n_per_class, np.random.default_rng(seed))


def test_batch_has_as_many_clips_of_each_class() -> None:
    drawn = sampler()
    for _ in range(50):
        clips, classes = drawn.draw()
        assert clips.shape == classes.shape == (12,)
        assert sorted(Counter(classes.tolist()).values()) == [4, 4, 4]
        assert [LABELS[clip] for clip in clips] == [drawn.classes[number] for number in classes]


def test_fewer_classes_than_wanted_are_all_drawn() -> None:
    _, classes = sampler(n_classes=16).draw()
    assert set(classes.tolist()) == {0, 1, 2, 3}


def test_sources_take_turns() -> None:
    drawn = sampler(n_classes=4)
    for _ in range(50):
        clips, classes = drawn.draw()
        for number in (0, 1):
            assert sorted(Counter(SOURCES[clip] for clip in clips[classes == number]).values()) == [2, 2]


def test_larger_classes_come_oftener_by_the_root_of_their_size() -> None:
    drawn = sampler(n_classes=2)
    counts = Counter(int(number) for _ in range(4000) for number in set(drawn.draw()[1].tolist()))
    first_draw = np.sqrt([40, 20, 2, 1]) / np.sqrt([40, 20, 2, 1]).sum()
    # Of two classes that are drawn one after the other without replacement.
    both = [p + sum(q * p / (1 - q) for j, q in enumerate(first_draw) if j != i) for i, p in enumerate(first_draw)]
    np.testing.assert_allclose([counts[i] / 4000 for i in range(4)], both, atol=0.03)


def test_light_sources_are_drawn_less_often() -> None:
    light = tuple(0.1 if source == "y" else 1.0 for source in SOURCES)
    drawn = sampler(n_classes=4, n_per_class=1, weights=light)
    counts: Counter[str] = Counter()
    for _ in range(2000):
        clips, classes = drawn.draw()
        counts[SOURCES[int(clips[classes == 0][0])]] += 1
    assert abs(counts["y"] / 2000 - 0.1 / 1.1) < 0.03


def test_seed_decides_everything() -> None:
    one, two, other = sampler(), sampler(), sampler(seed=1)
    batches = [[each.draw()[0].tolist() for _ in range(5)] for each in (one, two, other)]
    assert batches[0] == batches[1] != batches[2]
