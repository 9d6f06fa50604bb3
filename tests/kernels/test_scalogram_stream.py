"""The incremental scalogram against its own definition, and against the isolated window where both are the same."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram import open_scalogram
from mird.kernels.scalogram_ducc import DuccTransforms
from mird.kernels.scalogram_scipy import ScipyTransforms
from mird.kernels.scalogram_stream import StreamScalogram

Array = NDArray[np.float64]
Reference = Callable[[Array, FrontEnd], Array]

FRONT_END = FrontEnd(window=22_050, n_scales=0, n_columns=112)
TWICE = FrontEnd(window=44_100, n_scales=0, n_columns=224)


def streamed(sound: Array, transforms: ScipyTransforms | DuccTransforms) -> tuple[StreamScalogram, NDArray[np.float32]]:
    stream = StreamScalogram(FRONT_END, transforms)
    n_hops = len(sound) // stream.hop
    assert n_hops * stream.hop == len(sound)
    for hop in range(n_hops):
        stream.push(sound[None, hop * stream.hop : (hop + 1) * stream.hop].astype(np.float32))
    return stream, stream.magnitudes[0]


@pytest.mark.parametrize("transforms", [ScipyTransforms(), DuccTransforms()], ids=["scipy", "ducc0"])
@pytest.mark.parametrize("name", ["white noise", "plucked notes", "sweep", "snare drums"])
def test_it_is_exact_to_its_own_definition(
    transforms: ScipyTransforms | DuccTransforms, name: str, sounds: dict[str, Array], reference: Reference
) -> None:
    stream, got = streamed(sounds[name], transforms)
    incremental = sum(last - first for segment in stream._segments[:-1] for first, last in [segment.rows])
    assert incremental > 60
    wanted = reference(sounds[name], TWICE)[: len(got), 112:]
    isolated = reference(sounds[name][-22_050:], FRONT_END)
    wanted = np.concatenate([wanted[:incremental], isolated[incremental:]])
    assert np.linalg.norm(got - wanted) <= 1.5e-3 * np.linalg.norm(wanted)
    assert np.abs(got - wanted).max() <= 0.01 * wanted.max()


def test_the_newest_columns_are_the_isolated_windows(sounds: dict[str, Array]) -> None:
    _, got = streamed(sounds["plucked notes"], ScipyTransforms())
    isolated = open_scalogram(FRONT_END, "scipy")(sounds["plucked notes"][None, -22_050:].astype(np.float32))[0]
    right = np.abs(got - isolated)[:, 72:]
    assert np.linalg.norm(right) < 2e-3 * np.linalg.norm(isolated)
    assert np.abs(got - isolated).max() > 0.01 * isolated.max()  # the left edge is defined otherwise


def test_channels_do_not_mix(sounds: dict[str, Array]) -> None:
    both = StreamScalogram(FRONT_END, ScipyTransforms(), n_channels=2)
    alone = StreamScalogram(FRONT_END, ScipyTransforms())
    for hop in range(6):
        part = slice(hop * both.hop, (hop + 1) * both.hop)
        two = np.stack([sounds["white noise"][part], sounds["sweep"][part]]).astype(np.float32)
        got = both.push(two)
        wanted = alone.push(two[1:])
        assert np.abs(got[1] - wanted[0]).max() < 1e-6


def test_what_was_cleared_leaves_no_trace(sounds: dict[str, Array]) -> None:
    stream = StreamScalogram(FRONT_END, ScipyTransforms())
    hop = sounds["sweep"][None, : stream.hop].astype(np.float32)
    wanted = stream.push(hop).copy()
    stream.push(hop[:, ::-1])
    stream.clear()
    assert (stream.magnitudes == 0).all()
    assert np.array_equal(stream.push(hop), wanted)


def test_silence_stays_silent_and_bad_hops_move_nothing() -> None:
    stream = StreamScalogram(FRONT_END, ScipyTransforms())
    assert (stream.push(np.zeros((1, stream.hop), np.float32)) == 0).all()
    for samples in (np.full((1, stream.hop), np.nan), np.zeros((2, stream.hop)), np.zeros((1, 7))):
        with pytest.raises(ParameterError):
            stream.push(samples)
    assert (stream.magnitudes == 0).all()
    with pytest.raises(ParameterError, match="hop_columns=3"):
        StreamScalogram(FRONT_END, ScipyTransforms(), hop_columns=3)
