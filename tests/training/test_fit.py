"""What is fitted on embeddings, on synthetic ones whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import spearmanr

from mird.kernels.similarity import Head, averaging, judge, prototypes, second_look
from mird.training.episodes import Pool, auroc, pools
from mird.training.errors import TrainingError
from mird.training.fit import (
    Comparisons,
    calibrate,
    draw_comparisons,
    fit_attended,
    fit_gamma,
    fit_projection,
    fit_threshold,
    fit_whitening,
    representatives,
    rotation,
)
from mird.training.recipe import FitSettings

N_DIMS = 12
N_CLASSES, N_SOURCES, N_EACH = 20, 3, 30

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def spread() -> Array:
    """Covariance within a class: strong in a few directions."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((N_DIMS, N_DIMS)))
    covariance: Array = turn @ np.diag(np.geomspace(9.0, 0.1, N_DIMS)) @ turn.T
    return covariance


@pytest.fixture(scope="module")
def clips(spread: Array) -> tuple[Array, list[str], list[str]]:
    """Embeddings, labels and sources."""
    rng = np.random.default_rng(1)
    centres = 2.0 * rng.standard_normal((N_CLASSES, N_DIMS)) + 5.0
    labels = [f"class {k}" for k in range(N_CLASSES) for _ in range(N_SOURCES * N_EACH)]
    sources = [f"source {s}" for _ in range(N_CLASSES) for s in range(N_SOURCES) for _ in range(N_EACH)]
    noise = rng.multivariate_normal(np.zeros(N_DIMS), spread, len(labels))
    return np.repeat(centres, N_SOURCES * N_EACH, axis=0) + noise, labels, sources


def within(values: Array, labels: list[str]) -> Array:
    """Mean covariance within the classes."""
    of = np.array(labels)
    found: Array = np.mean([np.cov(values[of == label].T) for label in set(labels)], axis=0)
    return found


def test_whitening_makes_the_covariance_within_classes_the_identity(
    clips: tuple[Array, list[str], list[str]],
) -> None:
    embeddings, labels, sources = clips
    whitening = fit_whitening(embeddings, labels, sources, shrinkage=0.0)
    turned = (embeddings - whitening.mean) @ whitening.matrix
    np.testing.assert_allclose(within(turned, labels), np.eye(N_DIMS), atol=0.1)


def test_too_few_clips_to_whiten_are_told_of(clips: tuple[Array, list[str], list[str]]) -> None:
    embeddings, labels, sources = clips
    few = slice(0, N_DIMS // 2)
    with pytest.raises(TrainingError, match=rf"{N_DIMS // 2} clips .* {N_DIMS} features with shrinkage=0.0; raise"):
        fit_whitening(embeddings[few], labels[few], sources[few], shrinkage=0.0)
    assert np.isfinite(fit_whitening(embeddings[few], labels[few], sources[few], shrinkage=0.1).matrix).all()


def test_shrinkage_goes_towards_scaling_alone(clips: tuple[Array, list[str], list[str]]) -> None:
    embeddings, labels, sources = clips
    whitening = fit_whitening(embeddings, labels, sources, shrinkage=1.0)
    turned = (embeddings - whitening.mean) @ whitening.matrix
    scaled = (embeddings - embeddings.mean(0)) / embeddings.std(0)
    ratio = np.linalg.norm(turned, axis=1) / np.linalg.norm(scaled, axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_whitened_embeddings_are_unit_vectors_that_tell_classes_better_apart(
    clips: tuple[Array, list[str], list[str]],
) -> None:
    embeddings, labels, sources = clips
    rng = np.random.default_rng(2)
    found = pools(range(len(labels)), labels, [str(i) for i in range(len(labels))])
    del sources

    def accuracy(vectors: NDArray[np.float32]) -> float:
        pairs = draw_comparisons(rng, vectors, found, found, 200, 10, [1], 1)
        nearest = pairs.differences.sum(1).reshape(-1, 10).argmin(1)
        return float((nearest == pairs.same.reshape(-1, 10).argmax(1)).mean())

    plain = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    white = fit_whitening(embeddings, labels, [""] * len(labels), 0.05).apply(embeddings)
    np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1.0, rtol=1e-5)
    assert white.dtype == np.float32
    assert accuracy(white) > accuracy(plain) + 0.05


def test_rotation_brings_the_weighted_l1_to_the_order_of_the_cosine() -> None:
    """Where a few directions hold most of a difference, as in whitened embeddings, L1 along them ranks otherwise."""
    n_dims = 128
    turn = rotation(n_dims)
    np.testing.assert_allclose(turn @ turn.T, np.eye(n_dims), atol=1e-12)
    np.testing.assert_array_equal(turn, rotation(n_dims))
    rng = np.random.default_rng(5)
    vectors = rng.standard_t(1.5, (400, n_dims))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def agreement(values: Array) -> float:
        """Rank correlation of L1 between rows and the cosine."""
        l1 = np.abs(values[:200, None] - values[None, 200:]).sum(-1).ravel()
        return float(-spearmanr(l1, (vectors[:200] @ vectors[200:].T).ravel()).statistic)

    assert agreement(vectors @ turn) > agreement(vectors) + 0.1


def test_a_depth_that_knows_more_makes_the_embedding_better(clips: tuple[Array, list[str], list[str]]) -> None:
    """The embedding's features of half the classes fell together; the stage before it tells them apart."""
    embeddings, labels, sources = clips
    settings = FitSettings(depth_dims=8, depth_weights=(1.0, 0.5, 0.5))
    number = np.array([int(label.split()[1]) for label in labels])
    poor = np.where((number < N_CLASSES // 2)[:, None], embeddings - embeddings.mean(0), 0.0)
    poor += 0.1 * np.random.default_rng(3).standard_normal(poor.shape)
    stages = [np.concatenate([poor, poor], 1), poor, poor[:, :6]]
    found = pools(range(len(labels)), labels, [str(i) for i in range(len(labels))])

    def accuracy(features: list[Array]) -> float:
        vectors = fit_projection(features, labels, sources, settings).apply(features)
        assert vectors.shape == (len(labels), 8 + 8 + 8 + 6)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
        pairs = draw_comparisons(np.random.default_rng(2), vectors, found, found, 200, 10, [1], 1)
        nearest = pairs.differences.sum(1).reshape(-1, 10).argmin(1)
        return float((nearest == pairs.same.reshape(-1, 10).argmax(1)).mean())

    assert (
        accuracy([poor, np.concatenate([embeddings, embeddings], 1), poor, poor[:, :6]])
        > accuracy([poor, *stages]) + 0.05
    )


def test_centring_tells_what_is_unknown(clips: tuple[Array, list[str], list[str]]) -> None:
    """Where one class has most of the clips, all the others lie on one side of the whitening's mean."""
    embeddings, labels, sources = clips
    many = [row for row, label in enumerate(labels) for _ in range(20 if label == "class 0" else 1)]
    train = [embeddings[many]] * 4, [labels[row] for row in many], [sources[row] for row in many]
    of_class = np.array([int(label.split()[1]) for label in labels])

    def told_apart(centring: float) -> float:
        """AUROC of the likest of four classes by five shots, known queries against those of the fifteen others."""
        projection = fit_projection(*train, FitSettings(depth_dims=N_DIMS, centring=centring))
        vectors = projection.apply([embeddings] * 4)
        known, unknown = [], []
        for first in range(0, N_CLASSES, 4):
            means = np.stack([vectors[of_class == k][:5].mean(0) for k in range(first, first + 4)])
            best = (vectors @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).max(1)
            inside = (of_class >= first) & (of_class < first + 4)
            known.append(best[inside])
            unknown.append(best[~inside])
        return auroc(np.concatenate(known), np.concatenate(unknown))

    assert 1.0 - told_apart(1.0) < 0.7 * (1.0 - told_apart(0.0))


def test_every_source_counts_the_same(clips: tuple[Array, list[str], list[str]]) -> None:
    """A source with ten times the clips does not decide the whitening."""
    embeddings, labels, sources = clips
    often = [i for i, s in enumerate(sources) for _ in range(10 if s == "source 0" else 1)]
    one = fit_whitening(embeddings, labels, sources, 0.1)
    ten = fit_whitening(embeddings[often], [labels[i] for i in often], [sources[i] for i in often], 0.1)

    def gram(matrix: Array) -> Array:
        product: Array = matrix @ matrix.T
        product /= np.trace(product)
        return product

    np.testing.assert_allclose(gram(ten.matrix), gram(one.matrix), atol=0.02)


@pytest.fixture(scope="module")
def pairs() -> Comparisons:
    """Differences of which only the first half tell anything, and tell it by a known formula."""
    rng = np.random.default_rng(3)
    differences = rng.gamma(2.0, 0.1, (40_000, N_DIMS)).astype(np.float32)
    odds = 6.0 - 5.0 * differences[:, : N_DIMS // 2].sum(1)
    return Comparisons(differences, rng.random(len(odds)) < expit(odds), np.full(len(odds), -0.4, np.float32))


def test_weights_find_the_dimensions_that_tell_something(pairs: Comparisons) -> None:
    gamma = fit_gamma(pairs, stiffness=1e-6)
    assert gamma.mean() == pytest.approx(-1.0)
    np.testing.assert_allclose(gamma[: N_DIMS // 2], -2.0, atol=0.15)
    np.testing.assert_allclose(gamma[N_DIMS // 2 :], 0.0, atol=0.15)


def test_stiff_weights_are_all_one(pairs: Comparisons) -> None:
    np.testing.assert_allclose(fit_gamma(pairs, stiffness=1e4), -1.0, atol=0.01)


def test_calibrated_probabilities_are_frequencies(pairs: Comparisons) -> None:
    """Where same and different are equally likely: of the pairs with P near p, the share p is the same."""
    gamma = np.where(np.arange(N_DIMS) < N_DIMS // 2, -2.0, 0.0)
    head = calibrate(pairs, gamma)
    assert head.several == 0.0, "classes of one recording say nothing of several"
    assert head.gamma.dtype == np.float32
    p = expit(pairs.differences @ head.gamma + head.bias)
    prior = pairs.same.mean()
    weight = np.where(pairs.same, 0.5 / prior, 0.5 / (1 - prior))
    for low in np.arange(0.0, 1.0, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        assert inside.sum() > 200
        frequency = np.average(pairs.same[inside], weights=weight[inside])
        assert frequency == pytest.approx(p[inside].mean(), abs=0.05)
    # Rescaling to even odds leaves the slope and moves the bias by the prior's log-odds.
    assert head.gamma[0] == pytest.approx(-5.0, rel=0.1)
    assert head.bias == pytest.approx(6.0 - logit(prior), rel=0.1)


def test_calibration_finds_what_several_recordings_take_off() -> None:
    rng = np.random.default_rng(9)
    n = 100_000
    differences = rng.gamma(2.0, 0.1, (n, N_DIMS)).astype(np.float32)
    averages = averaging(rng.integers(1, 9, n))
    same = rng.random(n) < expit(16.0 - 5.0 * differences.sum(1) - 2.5 * averages)
    assert calibrate(Comparisons(differences, same, averages), -np.ones(N_DIMS)).several == pytest.approx(2.5, abs=0.25)


@pytest.fixture(scope="module")
def world() -> tuple[NDArray[np.float32], dict[str, Pool], dict[str, Pool], NDArray[np.float32]]:
    """Unit vectors of ten classes and of two kinds of stranger, their pools, and a background."""
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((12, N_DIMS))
    vectors = np.repeat(centres, 20, axis=0) + 0.3 * rng.standard_normal((240, N_DIMS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = [f"{k:02}" for k in range(12) for _ in range(20)]
    found = pools(range(240), labels, [str(i) for i in range(240)])
    strangers = {label: found.pop(label) for label in ("10", "11")}
    background = np.stack([vectors[strangers[label].clips].mean(0) for label in strangers])
    background /= np.linalg.norm(background, axis=1, keepdims=True)
    return vectors.astype(np.float32), found, strangers, background.astype(np.float32)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("with_background", [False, True])
def test_threshold_lies_between_known_and_strange(
    world: tuple[NDArray[np.float32], dict[str, Pool], dict[str, Pool], NDArray[np.float32]],
    with_background: bool,
    power: int,
) -> None:
    vectors, known, strangers, background = world
    used = background if with_background else background[:0]
    rng = np.random.default_rng(5)
    head = calibrate(draw_comparisons(rng, vectors, known, known, 100, 6, [1, 3], power), -np.ones(N_DIMS))
    head = replace(head, attention=4.0)
    assert head.power == power
    threshold = fit_threshold(rng, vectors, known, [(strangers, used)], head, way=6)
    assert 0 < threshold < 1
    names = sorted(known)[:6]
    support = prototypes(
        tuple(names), vectors[np.concatenate([known[n].clips[:3] for n in names])], np.repeat(np.arange(6), 3)
    )

    def best(clips: NDArray[np.int64]) -> Array:
        scores: Array = expit(judge(vectors[clips], support, head, used)).max(axis=1)
        return scores

    refused = (best(np.concatenate([known[n].clips[3:] for n in names])) < threshold).mean()
    named = (best(np.concatenate([pool.clips for pool in strangers.values()])) >= threshold).mean()
    assert refused < 0.2
    assert named < 0.2


def test_the_second_look_brings_what_is_known_nothing_in_the_mean(
    world: tuple[NDArray[np.float32], dict[str, Pool], dict[str, Pool], NDArray[np.float32]],
) -> None:
    """So that P means the same for a class of one recording, which has no second look, as for one of many."""
    vectors, known, _, _ = world
    head = Head(np.full(N_DIMS, -4.0, np.float32), 4.0, attention=4.0, power=2)
    found = fit_attended(np.random.default_rng(8), vectors, known, head, 6, [1, 2, 5])
    assert found > 0.01
    names = sorted(known)
    clips = np.concatenate([known[name].clips[:8] for name in names])
    owner = np.repeat(np.arange(len(names)), 8)
    support = prototypes(tuple(names), vectors[clips], owner)
    asked = np.concatenate([known[name].clips[8:] for name in names])
    truth = np.repeat(np.arange(len(names)), [len(known[name].clips) - 8 for name in names])
    before, after = (second_look(vectors[asked], truth, support, replace(head, attended=a)).mean() for a in (0, found))
    assert abs(after) < 0.35 * before
    assert fit_attended(np.random.default_rng(8), vectors, known, replace(head, attention=0.0), 6, [1, 2]) == 0.0


def test_threshold_with_no_class_to_spare(
    world: tuple[NDArray[np.float32], dict[str, Pool], dict[str, Pool], NDArray[np.float32]],
) -> None:
    """All classes in every support set: the strangers alone are unknown."""
    vectors, known, strangers, background = world
    head = Head(np.full(N_DIMS, -4.0, np.float32), 4.0)
    rng = np.random.default_rng(6)
    threshold = fit_threshold(rng, vectors, known, [(strangers, background)], head, way=10, shots=[1, 2])
    assert 0 < threshold < 1


def test_comparisons_are_of_every_query_and_class(
    world: tuple[NDArray[np.float32], dict[str, Pool], dict[str, Pool], NDArray[np.float32]],
) -> None:
    vectors, known, _, _ = world
    found = draw_comparisons(np.random.default_rng(7), vectors, known, known, 8, 5, [1, 4], 1)
    squared = draw_comparisons(np.random.default_rng(7), vectors, known, known, 8, 5, [1, 4], 2)
    np.testing.assert_allclose(squared.differences, found.differences**2, atol=1e-6)
    assert (found.power, squared.power) == (1, 2)
    assert found.differences.shape == (8 * 5 * 5, N_DIMS)
    assert found.same.sum() == 8 * 5
    assert (found.differences >= 0).all()
    apart = found.differences.sum(1)
    assert apart[found.same].mean() < apart[~found.same].mean() / 2
    np.testing.assert_allclose(found.averaging, np.tile(np.repeat([-0.4, 0.35], 5 * 5), 4), atol=1e-6)


def test_representatives_stand_for_every_kind_of_a_group() -> None:
    rng = np.random.default_rng(0)
    kinds = np.eye(4, N_DIMS)
    embeddings = np.repeat(kinds, 30, axis=0) + 0.05 * rng.standard_normal((120, N_DIMS))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = representatives(embeddings.astype(np.float32))
    assert 4 <= len(found) <= 12
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert (kinds @ found.T).max(axis=1).min() > 0.99
    assert (embeddings.mean(axis=0) @ kinds.T).max() < 0.6, "one mean would stand for none of them"


def test_few_of_a_group_have_one_representative() -> None:
    embeddings = np.eye(9, N_DIMS, dtype=np.float32)
    (one,) = representatives(embeddings)
    np.testing.assert_allclose(one, embeddings.mean(axis=0) * 3, atol=1e-6)
    assert len(representatives(np.repeat(embeddings, 200, axis=0))) <= 48
