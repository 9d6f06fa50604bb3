"""Comparison of embeddings: prototypes, weighted differences, the background, the second look, probabilities."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.similarity import (
    Head,
    Prototypes,
    class_logits,
    judge,
    logits,
    probabilities,
    prototypes,
    second_look,
)

N_DIMS = 32
Vectors = NDArray[np.float32]

NO_BACKGROUND = np.zeros((0, N_DIMS), np.float32)


def units(seed: int, n: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((n, N_DIMS)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.fixture(params=[1, 2], ids=["absolute", "squared"])
def head(request: pytest.FixtureRequest) -> Head:
    return Head(-np.random.default_rng(1).uniform(0.5, 1.5, N_DIMS).astype(np.float32), 4.0, power=request.param)


@pytest.mark.parametrize("n_classes", [1, 2, 300])
def test_equals_float64_brute_force(head: Head, n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    shots, queries = units(2, 3 * n_classes), units(3, 5)
    owner = rng.permutation(np.repeat(np.arange(n_classes), 3))
    names = tuple(map(str, range(n_classes)))
    found = probabilities(logits(queries, prototypes(names, shots, owner).vectors, head))
    assert found.shape == (5, n_classes)
    assert found.dtype == np.float32
    for q, query in enumerate(queries.astype(np.float64)):
        for k in range(n_classes):
            mean = shots[owner == k].astype(np.float64).sum(axis=0)
            mean /= np.linalg.norm(mean)
            odds = (
                sum(float(g) * abs(a - b) ** head.power for g, a, b in zip(head.gamma, query, mean, strict=True))
                + head.bias
            )
            assert found[q, k] == pytest.approx(1 / (1 + np.exp(-odds)), abs=2e-6)


def test_squares_with_even_weights_order_unit_vectors_as_the_cosine_does() -> None:
    queries, vectors = units(21, 40), units(22, 30)
    found = logits(queries, vectors, Head(np.full(N_DIMS, -1.5, np.float32), 2.0, power=2))
    np.testing.assert_allclose(found, 3.0 * (queries @ vectors.T) - 1.0, atol=1e-5)


def test_probabilities_are_between_zero_and_one(head: Head) -> None:
    found = probabilities(logits(units(4, 50), units(5, 20), head))
    assert (found > 0).all()
    assert (found < 1).all()


def test_unlikely_classes_keep_their_order() -> None:
    """Where every class is far away, float32 must not make them equal."""
    found = probabilities(np.array([[-16.0, -20.0, -30.0, -60.0]], np.float32))
    assert (np.diff(found[0]) < 0).all()
    assert found[0, 1] == pytest.approx(np.exp(-20.0), rel=1e-5)


def test_own_shot_scores_highest(head: Head) -> None:
    shots = units(6, 12)
    support = prototypes(tuple("abcdefghijkl"), shots, np.arange(12))
    scores = probabilities(logits(shots, support.vectors, head))
    np.testing.assert_array_equal(scores.argmax(axis=1), np.arange(12))
    np.testing.assert_allclose(scores.diagonal(), 1 / (1 + np.exp(-head.bias)), rtol=1e-4)


def test_prototypes_are_unit_vectors_in_the_order_of_the_names(head: Head) -> None:
    shots = units(7, 5)
    support = prototypes(("b", "a"), shots, np.array([0, 1, 1, 1, 0]))
    assert support.names == ("b", "a")
    np.testing.assert_allclose(np.linalg.norm(support.vectors, axis=1), 1.0, rtol=1e-6)
    wanted = shots[[0, 4]].sum(axis=0)
    np.testing.assert_allclose(support.vectors[0], wanted / np.linalg.norm(wanted), rtol=1e-5)


def test_class_without_shots_is_refused() -> None:
    with pytest.raises(ParameterError, match="'viola' has no shot"):
        prototypes(("cello", "viola"), units(8, 2), np.array([0, 0]))


def test_the_mean_of_many_recordings_loses_something(head: Head) -> None:
    shots, owner = units(8, 7), np.array([2, 0, 0, 1, 1, 1, 1])
    support = prototypes(("two", "four", "one"), shots, owner)
    np.testing.assert_allclose(support.averaging, [0.1, 0.35, -0.4], rtol=1e-5)
    support = prototypes(("two", "four", "one"), shots, owner, recordings="xaabbcc")
    np.testing.assert_allclose(support.averaging, [-0.4, 0.1, -0.4], rtol=1e-5)  # windows of one are one
    queries = units(9, 4)
    plain = class_logits(queries, support.vectors, head, units(10, 3))
    shifted = class_logits(queries, support.vectors, replace(head, several=2.0), units(10, 3), support.averaging)
    np.testing.assert_allclose(shifted, plain - [-0.8, 0.2, -0.8], atol=1e-5)


def test_the_second_look_equals_float64_brute_force(head: Head) -> None:
    attentive = replace(head, several=1.5, attention=3.0, attended=0.8)
    rng = np.random.default_rng(5)
    owner = rng.permutation(np.repeat(np.arange(4), [1, 2, 3, 5]))
    shots, weights, queries = units(13, 11), rng.uniform(0.2, 2.0, 11).astype(np.float32), units(14, 30)
    support = prototypes(("a", "b", "c", "d"), shots, owner, weights)
    background = units(15, 3)
    plain = class_logits(queries, support.vectors, attentive, background, support.averaging)
    found = judge(queries, support, attentive, background)
    assert found.dtype == np.float32
    gamma = head.gamma.astype(np.float64)
    for q, query in enumerate(queries.astype(np.float64)):
        best = int(plain[q].argmax())
        own, mean = shots[owner == best].astype(np.float64), support.vectors[best].astype(np.float64)
        seen = sum(w * np.exp(3.0 * (s @ query)) * s for s, w in zip(own, weights[owner == best], strict=True))
        seen /= np.linalg.norm(seen)
        more = gamma @ (np.abs(seen - query) ** head.power - np.abs(mean - query) ** head.power)
        usual = 0.8 * (1 - 1 / len(own)) if len(own) > 1 else 0.0
        np.testing.assert_allclose(found[q], plain[q] + more - usual, atol=2e-4)
    np.testing.assert_array_equal(np.argsort(found, axis=1), np.argsort(plain, axis=1))
    assert (np.abs(found - plain).max(axis=1) > 0.01).any()


def test_the_second_look_finds_the_way_of_playing_that_is_asked(head: Head) -> None:
    """A class of two that are unlike: with enough attention, what is one of them is like that one alone."""
    bowed, plucked = units(16, 2)
    support = prototypes(("cello",), np.stack([bowed, plucked]), np.array([0, 0]))
    query = bowed[None]
    plain = judge(query, support, head, NO_BACKGROUND)
    some, more = (judge(query, support, replace(head, attention=a), NO_BACKGROUND) for a in (4.0, 1e4))
    assert plain < some < more
    assert more == pytest.approx(head.bias, abs=1e-4)


def test_one_shot_and_classes_without_shots_need_no_second_look(head: Head) -> None:
    attentive = replace(head, attention=4.0)
    queries, shots, best = units(17, 6), units(18, 5), np.arange(6) % 5
    alone = prototypes(tuple("abcde"), shots, np.arange(5))
    assert not second_look(queries, best, alone, attentive).any()
    assert not second_look(queries, best, Prototypes(alone.names, alone.vectors), attentive).any()
    pairs = prototypes(tuple("ab"), shots[:4], np.array([0, 0, 1, 1]))
    assert second_look(queries, best % 2, pairs, attentive).all()
    assert not second_look(queries, best % 2, pairs, head).any()


def test_some_of_the_classes_are_looked_at_as_before(head: Head) -> None:
    attentive = replace(head, several=1.5, attention=4.0)
    owner = np.array([3, 0, 1, 1, 0, 2, 3, 3])
    support = prototypes(tuple("abcd"), units(19, 8), owner, np.linspace(0.5, 2, 8, dtype=np.float32))
    some = support.only([3, 1])
    assert some.names == ("d", "b")
    queries = units(20, 20)
    best = np.arange(20) % 2
    kept = np.array([3, 1])
    np.testing.assert_allclose(
        second_look(queries, best, some, attentive), second_look(queries, kept[best], support, attentive), atol=1e-5
    )
    np.testing.assert_allclose(
        class_logits(queries, some.vectors, attentive, NO_BACKGROUND, some.averaging),
        class_logits(queries, support.vectors, attentive, NO_BACKGROUND, support.averaging)[:, kept],
        atol=1e-5,
    )
    assert judge(queries, support.only([]), attentive, NO_BACKGROUND).shape == (20, 0)


def test_no_classes_give_no_scores(head: Head) -> None:
    support = prototypes((), NO_BACKGROUND, np.zeros(0, np.intp))
    assert judge(units(9, 3), support, replace(head, attention=4.0), units(10, 3)).shape == (3, 0)


@pytest.mark.parametrize(("queries", "vectors"), [(N_DIMS - 1, N_DIMS), (N_DIMS, N_DIMS + 1)])
def test_embeddings_of_another_encoder_are_refused(head: Head, queries: int, vectors: int) -> None:
    with pytest.raises(ParameterError, match=f"{queries} and {vectors} numbers do not fit a head of {N_DIMS}"):
        logits(np.ones((1, queries), np.float32), np.ones((1, vectors), np.float32), head)


def test_background_lowers_only_what_is_less_alike_and_keeps_the_order(head: Head) -> None:
    queries, classes, background = units(10, 40), units(11, 6), units(12, 4)
    alone = logits(queries, classes, head)
    against = class_logits(queries, classes, head, background)
    nearest = logits(queries, background, head).max(axis=1, keepdims=True)
    np.testing.assert_array_equal(against[alone >= nearest], alone[alone >= nearest])
    behind = alone < nearest
    assert behind.any()
    np.testing.assert_allclose(against[behind], (alone - (nearest - alone))[behind], rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(against, axis=1), np.argsort(alone, axis=1))
    np.testing.assert_array_equal(class_logits(queries, classes, head, NO_BACKGROUND), alone)
