"""Episodes: what is drawn, what is never drawn, and the figures that are made of them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mird.training.episodes import Episode, Pool, Tally, auroc, draw_episode, pools
from mird.training.errors import TrainingError

LABELS = tuple("abcdef")


def collection(
    n_takes: int = 4, n_clips: int = 3, shared_names: bool = False
) -> tuple[dict[str, Pool], dict[int, str]]:
    """Pools of every label, and each clip's take."""
    labels = [label for label in LABELS for _ in range(n_takes * n_clips)]
    takes = [
        f"{'' if shared_names else label}{take}" for label in LABELS for take in range(n_takes) for _ in range(n_clips)
    ]
    return pools(range(len(labels)), labels, takes), dict(enumerate(takes))


def test_pools_group_clips_by_class() -> None:
    found = pools([3, 5, 9], ["b", "a", "b"], ["x", "y", "z"])
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["b"].clips, [3, 9])
    assert found["b"].takes == ("x", "z")


@st.composite
def tasks(draw: st.DrawFn) -> tuple[dict[str, Pool], dict[int, str], int, int, int]:
    """Pools in which every class has enough clips beside any of its takes, and a way, a shot and a seed."""
    n_classes, shot = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    labels: list[str] = []
    takes: list[str] = []
    for number in range(n_classes):
        sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
        sizes += [1] * max(0, shot - (sum(sizes) - max(sizes)))
        for take, size in enumerate(sizes):
            labels += [LABELS[number]] * size
            takes += [f"{LABELS[number]}{take}"] * size
    way = draw(st.integers(2, n_classes))
    seed = draw(st.integers(0, 2**32))
    return pools(range(len(labels)), labels, takes), dict(enumerate(takes)), way, shot, seed


@given(tasks(), st.booleans())
def test_support_and_query_never_share_a_take(
    task: tuple[dict[str, Pool], dict[int, str], int, int, int], apart: bool
) -> None:
    found, take_of, way, shot, seed = task
    episode = draw_episode(np.random.default_rng(seed), found, found, {}, way, shot, apart=apart)
    assert len(set(episode.labels)) == way
    assert [truth for _, truth in episode.queries] == list(range(way))
    for (clip, truth), shots in zip(episode.queries, episode.support, strict=True):
        assert clip in found[episode.labels[truth]].clips
        assert len(set(shots.tolist())) == shot
        assert set(shots.tolist()) <= set(found[episode.labels[truth]].clips.tolist())
        assert take_of[clip] not in {take_of[int(each)] for each in shots}


@given(st.integers(0, 2**32), st.booleans())
def test_no_query_shares_a_name_with_any_support(seed: int, strangers: bool) -> None:
    """Names that several classes use, as clips of one recording have: none is on both sides."""
    found, name_of = collection(n_takes=8, n_clips=1, shared_names=True)
    unknown = {"f": found.pop("f")} if strangers else {}
    episode = draw_episode(np.random.default_rng(seed), found, found, unknown, 3, 2, apart=True)
    asked = {name_of[clip] for clip, _ in episode.queries}
    used = {name_of[int(clip)] for shots in episode.support for clip in shots}
    assert not asked & used


def test_names_that_cannot_be_kept_apart_are_only_within_a_class() -> None:
    found, name_of = collection(n_takes=2, n_clips=1, shared_names=True)
    for seed in range(20):
        episode = draw_episode(np.random.default_rng(seed), found, found, {}, 6, 1, apart=True)
        for (clip, _), shots in zip(episode.queries, episode.support, strict=True):
            assert name_of[clip] != name_of[int(shots[0])]


def test_shots_are_of_different_takes_while_there_are_enough() -> None:
    found, take_of = collection(n_takes=4, n_clips=5)
    for seed in range(20):
        episode = draw_episode(np.random.default_rng(seed), found, found, {}, 3, 5)
        for shots in episode.support:
            assert sorted(Counter(take_of[int(clip)] for clip in shots).values()) == [1, 2, 2]


def test_every_class_and_clip_is_drawn_about_as_often() -> None:
    found, _ = collection()
    rng = np.random.default_rng(0)
    classes: Counter[str] = Counter()
    clips: Counter[int] = Counter()
    for _ in range(2000):
        episode = draw_episode(rng, found, found, {}, 3, 1)
        classes.update(episode.labels)
        clips.update(clip for clip, _ in episode.queries)
    assert all(abs(n / 2000 - 0.5) < 0.05 for n in classes.values())
    assert min(clips.values()) > 40
    assert len(clips) == 72


def test_support_may_come_from_elsewhere_and_strangers_are_asked() -> None:
    found, _ = collection()
    support = {label: Pool(label, pool.clips + 1000, pool.takes) for label, pool in found.items() if label != "f"}
    episode = draw_episode(np.random.default_rng(0), support, found, {"f": found["f"]}, 5, 2)
    assert set(episode.labels) == set("abcde")
    assert min(int(clip) for shots in episode.support for clip in shots) >= 1000
    strangers = [clip for clip, truth in episode.queries if truth < 0]
    assert len(strangers) == 5
    assert set(strangers) <= set(found["f"].clips.tolist())


def test_too_few_classes_or_takes() -> None:
    found, _ = collection(n_takes=2, n_clips=2)
    rng = np.random.default_rng(0)
    with pytest.raises(TrainingError, match=r"7-way needs 7 classes with support and queries, there are 6: a, b, c"):
        draw_episode(rng, found, found, {}, 7, 1)
    with pytest.raises(TrainingError, match="there are 0: none"):
        draw_episode(rng, found, {}, {}, 2, 1)
    with pytest.raises(TrainingError, match="too few clips for 3 shots beside a query of another take"):
        draw_episode(rng, found, found, {}, 2, 3)


def test_seed_decides_everything() -> None:
    found, _ = collection()

    def drawn(seed: int) -> list[tuple[tuple[str, ...], tuple[tuple[int, int], ...]]]:
        rng = np.random.default_rng(seed)
        episodes = [draw_episode(rng, found, found, {}, 3, 2, apart=True) for _ in range(5)]
        return [(e.labels, e.queries) for e in episodes]

    assert drawn(1) == drawn(1) != drawn(2)


def test_tally() -> None:
    tally = Tally()
    shots = (np.array([0]), np.array([1]))
    for scores in ([[0.9, 0.1], [0.8, 0.3], [0.2, 0.1]], [[0.9, 0.1], [0.2, 0.3], [0.95, 0.1]]):
        tally.add(Episode(("cello", "viola"), shots, ((5, 0), (6, 1), (7, -1))), np.array(scores, np.float32))
    assert tally.accuracies == [0.5, 1.0]
    assert tally.accuracy() == 0.75
    half = 1.96 * np.std([0.5, 1.0], ddof=1) / np.sqrt(2)
    assert tally.interval() == pytest.approx((0.75 - half, 1.0))
    assert tally.per_class() == {"cello": 1.0, "viola": 0.5}
    assert tally.confusion == {"cello": {"cello": 2}, "viola": {"cello": 1, "viola": 1}}
    # Known: .9 .8 .9 .3; strange: .2 .95
    assert tally.auroc_unknown() == pytest.approx(4 / 8)


def test_interval_narrows_with_the_root_of_the_episodes() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (100, 10_000):
        tally = Tally(accuracies=list(rng.integers(0, 3, n) / 2))
        low, high = tally.interval()
        assert low < 0.5 < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(10.0, rel=0.15)


def test_one_episode_says_nothing_about_the_spread() -> None:
    assert Tally(accuracies=[1.0]).interval() == (0.0, 1.0)
    assert Tally(accuracies=[1.0]).auroc_unknown() is None


@given(
    st.lists(st.integers(0, 10), min_size=1, max_size=40),
    st.lists(st.integers(0, 10), min_size=1, max_size=40),
)
def test_auroc_equals_counting_pairs(positives: list[int], negatives: list[int]) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    assert auroc(np.array(positives, float), np.array(negatives, float)) == pytest.approx(np.mean(pairs))
