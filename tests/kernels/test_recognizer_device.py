"""The recognizer on a device, with NumPy in the place of CuPy: buckets, buffers, swaps, and the way back to the CPU."""

import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from mird.kernels.best import N_BEST, best_pairs
from mird.kernels.device import Capture, Launch
from mird.kernels.encoder import Encoder, EncoderCard, open_encoder
from mird.kernels.errors import EngineError, HangingError, ParameterError
from mird.kernels.image import picture
from mird.kernels.recognizer import Recognizer
from mird.kernels.recognizer_device import DeviceRecognizer
from mird.kernels.recognizer_switching import SwitchingRecognizer
from mird.kernels.scalogram import open_scalogram
from mird.kernels.similarity import Prototypes, class_logits, prototypes
from mird.kernels.support_resident import ResidentSupport

Samples = NDArray[np.float32]
BUCKETS = (1, 4, 8)


class HostDevice:
    """The host as a device: a queue of work that is done when somebody waits for it."""

    name = "host"

    def __init__(self) -> None:
        self.queue: list[Launch] = []
        self.recording: list[Launch] | None = None
        self.n_allocated = self.n_launched = self.n_waited = 0
        self.fault: Exception | None = None

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Samples:
        self.n_allocated += 1
        made: Samples = np.empty(shape, dtype)
        made.view(np.uint8)[...] = 0xFF  # no number: what nobody wrote is seen
        return made

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> Samples:
        self.n_allocated += 1
        return np.zeros(shape, dtype)

    def upload(self, host: Samples, array: Samples) -> None:
        self._put(lambda: array.reshape(-1).__setitem__(slice(host.size), host.reshape(-1)))

    def download(self, array: Samples, host: Samples) -> None:
        self._put(lambda: host.__setitem__(..., array))

    def _put(self, work: Launch) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def record(self, enqueue: Launch, capture: Capture | None = None) -> Launch:
        enqueue()
        self.wait(1)
        if capture is not None:
            return capture(enqueue)
        self.recording = steps = []  # type: ignore[var-annotated]
        enqueue()
        self.recording = None

        def launch() -> None:
            self.n_launched += 1
            self.queue.extend(steps)

        return launch

    def wait(self, timeout_s: float) -> None:
        self.n_waited += 1
        if self.fault is not None:
            raise self.fault
        while self.queue:
            self.queue.pop(0)()


class HostStage:
    """A step by a function of arrays."""

    capture = None

    def __init__(self, name: str, device: HostDevice, work: Any, shape: Any, dtype: DTypeLike = np.float32) -> None:
        self.name, self.device, self.work, self.shape, self.dtype = name, device, work, shape, dtype
        self.n_bound = 0

    def bind(self, n: int, source: Samples) -> tuple[Samples, Launch]:
        self.n_bound += 1
        made = self.device.empty((n, *self.shape()), self.dtype)
        return made, lambda: self.device._put(lambda: self.work(source, made))


@pytest.fixture(scope="module")
def encoder(encoder_file: Path) -> Encoder:
    return open_encoder(encoder_file)


def open_on(device: HostDevice, encoder: Encoder, n_best: int = N_BEST) -> DeviceRecognizer:
    """The recognizer's own code over SciPy, ONNX Runtime and NumPy, pictures in float16 between them."""
    card = encoder.card
    scalogram = open_scalogram(card.front_end, "scipy")
    support = ResidentSupport(device, len(card.head.gamma))

    def best(odds: Samples, pairs: Samples) -> None:
        pairs[...] = best_pairs(odds[:, : int(support.n_classes[0])], n_best)

    def compare(embeddings: Samples, odds: Samples) -> None:
        n = int(support.n_classes[0])
        odds[:, :n] = class_logits(embeddings, support.vectors[:n], card.head, card.background, support.averaging[:n])

    return DeviceRecognizer(
        card,
        device,
        HostStage(
            "scipy",
            device,
            lambda windows, made: made.__setitem__(..., picture(scalogram(windows), card.front_end)),
            lambda: (1, card.front_end.n_scales, card.front_end.n_columns),
            np.float16,
        ),
        HostStage(
            "onnxruntime",
            device,
            lambda pictures, made: made.__setitem__(..., encoder(pictures.astype(np.float32))),
            lambda: (16,),
        ),
        HostStage("numpy", device, compare, lambda: (support.capacity,)),
        HostStage("numpy", device, best, lambda: (n_best, 2)),
        support,
        buckets=BUCKETS,
    )


@pytest.fixture
def device() -> HostDevice:
    return HostDevice()


@pytest.fixture
def recognizer(device: HostDevice, encoder: Encoder) -> DeviceRecognizer:
    return open_on(device, encoder)


def sounds(card: EncoderCard, n: int, seed: int = 1) -> Samples:
    made: Samples = (0.1 * np.random.default_rng(seed).standard_normal((n, card.front_end.window))).astype(np.float32)
    return made


def classes(n: int, seed: int = 2) -> Prototypes:
    """Of one to three shots each."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n), rng.integers(1, 4, n))
    shots = rng.standard_normal((len(owner), 16)).astype(np.float32)
    shots /= np.linalg.norm(shots, axis=1, keepdims=True)
    support = prototypes(tuple(f"class {k}" for k in range(n)), shots, owner)
    return replace(support, averaging=np.linspace(-0.4, 0.6, n, dtype=np.float32))


@pytest.mark.parametrize("n", [1, 2, 4, 5, 8, 9, 21])
def test_scores_are_the_cpus_for_every_number_of_windows(
    recognizer: DeviceRecognizer, encoder: Encoder, n: int
) -> None:
    windows, support = sounds(encoder.card, n), classes(40)
    wanted = Recognizer(encoder)
    np.testing.assert_allclose(recognizer.score(windows, support), wanted.score(windows, support), atol=2e-3)
    np.testing.assert_allclose(recognizer.embed(windows), wanted.embed(windows), atol=2e-3)
    assert recognizer.score(windows, support).shape == (n, 40)
    embeddings = wanted.embed(windows)
    np.testing.assert_array_equal(recognizer.compare(embeddings, support), wanted.compare(embeddings, support))


def test_a_hop_is_one_launch_and_one_wait_and_allocates_nothing(
    recognizer: DeviceRecognizer, device: HostDevice, encoder: Encoder
) -> None:
    windows, support = sounds(encoder.card, 8), classes(40)
    recognizer.score(windows, support)
    counts = device.n_allocated, device.n_launched, device.n_waited
    for n in (1, 2, 4, 7, 8):
        recognizer.score(windows[:n], support)
    assert (device.n_allocated, device.n_launched, device.n_waited) == (counts[0], counts[1] + 5, counts[2] + 5)


def test_no_hop_keeps_anything_of_the_one_before(recognizer: DeviceRecognizer, encoder: Encoder) -> None:
    support = classes(10)
    first = recognizer.score(sounds(encoder.card, 8, seed=5), support)
    alone = recognizer.score(sounds(encoder.card, 3, seed=6), support)
    np.testing.assert_array_equal(alone, recognizer.score(sounds(encoder.card, 3, seed=6), support))
    assert np.abs(first[:3] - alone).max() > 1e-3
    kept = first.copy()
    recognizer.score(sounds(encoder.card, 8, seed=7), support)
    np.testing.assert_array_equal(first, kept)  # an answer is the caller's own


def test_support_sets_are_swapped_between_hops(
    recognizer: DeviceRecognizer, device: HostDevice, encoder: Encoder
) -> None:
    windows, cpu = sounds(encoder.card, 4), Recognizer(encoder)
    n_allocated = device.n_allocated
    rng = np.random.default_rng(3)
    for seed in range(20):  # enrolments and forgets
        support = classes(int(rng.integers(0, 256)), seed)
        found, wanted = recognizer.score(windows, support), cpu.score(windows, support)
        np.testing.assert_allclose(found[found > 0], wanted[found > 0], atol=2e-3)
        assert ((found > 0).sum(axis=1) == min(len(support.names), N_BEST)).all()
    assert device.n_allocated == n_allocated


def test_a_support_set_that_outgrows_its_room_gets_more(
    recognizer: DeviceRecognizer, device: HostDevice, encoder: Encoder
) -> None:
    windows, cpu = sounds(encoder.card, 4), Recognizer(encoder)
    n_allocated, encoder_stage = device.n_allocated, recognizer._stages[1]
    assert isinstance(encoder_stage, HostStage)
    n_bound = encoder_stage.n_bound
    for n, capacity in ((257, 4096), (4096, 4096), (4097, 8192), (3, 8192)):
        support = classes(n)
        scores = recognizer.score(windows, support)
        assert scores.shape == (4, n)
        wanted = cpu.score(windows, support)
        kept = scores > 0
        assert (kept.sum(axis=1) == min(n, N_BEST)).all()
        np.testing.assert_allclose(scores[kept], wanted[kept], atol=2e-3)
        for row in range(4):  # what is left out is no better
            assert wanted[row][~kept[row]].max(initial=0.0) <= wanted[row][kept[row]].min() + 2e-3
        assert recognizer._support.capacity == capacity
    assert device.n_allocated > n_allocated
    assert encoder_stage.n_bound == n_bound == len(BUCKETS)  # an engine may compile as it is bound


@pytest.mark.parametrize(("n_dims", "capacity"), [(16, 4096), (256, 4096), (1024, 1024), (18_432, 256)])
def test_a_support_set_has_room_from_the_start(device: HostDevice, n_dims: int, capacity: int) -> None:
    assert ResidentSupport(device, n_dims).capacity == capacity


def test_its_name_says_what_computes(recognizer: DeviceRecognizer) -> None:
    assert recognizer.name == "scipy+onnxruntime (float16)"


def test_no_windows_and_no_classes(recognizer: DeviceRecognizer, encoder: Encoder) -> None:
    assert recognizer.score(sounds(encoder.card, 0), classes(3)).shape == (0, 3)
    assert recognizer.score(sounds(encoder.card, 2), classes(0)).shape == (2, 0)


def test_what_the_cpu_refuses_is_refused(recognizer: DeviceRecognizer, encoder: Encoder) -> None:
    with pytest.raises(ParameterError, match="windows have shape"):
        recognizer.score(np.zeros((1, 7), np.float32), classes(3))
    windows = sounds(encoder.card, 1)
    windows[0, 3] = np.nan
    with pytest.raises(ParameterError, match="sample 3 of window 0 is nan"):
        recognizer.score(windows, classes(3))
    with pytest.raises(ParameterError, match="a support set of 17 numbers does not fit a head of 16"):
        recognizer.score(sounds(encoder.card, 1), Prototypes(("a",), np.ones((1, 17), np.float32)))


FAULTS = {
    "lost": RuntimeError("cudaErrorDeviceUninitialized: invalid\n device context"),
    "out of memory": MemoryError("out of memory allocating 1,024 bytes"),
    "silent": HangingError("host did not answer within 0.5 s"),
    "without a word": RuntimeError(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_cpu_goes_on_where_a_device_fails(device: HostDevice, encoder: Encoder, fault: str) -> None:
    windows, support = sounds(encoder.card, 4), classes(40)
    wanted = Recognizer(encoder).score(windows, support)
    switching = SwitchingRecognizer(encoder)
    assert (switching.on_device, switching.degraded, switching.fault) == (False, False, "")
    of_cpu = switching.name
    switching.offer(open_on(device, encoder))
    assert (switching.on_device, switching.degraded) == (True, False)
    np.testing.assert_allclose(switching.score(windows, support), wanted, atol=2e-3)

    device.fault = FAULTS[fault]
    begun = time.monotonic()
    np.testing.assert_array_equal(switching.score(windows, support), wanted)  # the same hop, by the CPU
    assert time.monotonic() - begun < 1.0
    assert (switching.on_device, switching.degraded, switching.name) == (False, True, of_cpu)
    assert switching.fault.startswith("host ")
    assert switching.hangs == (fault == "silent")
    assert "\n" not in switching.fault
    np.testing.assert_array_equal(switching.embed(windows), Recognizer(encoder).embed(windows))

    switching.offer(open_on(HostDevice(), encoder))  # it is back
    assert (switching.on_device, switching.degraded, switching.fault) == (True, False, "")
    np.testing.assert_allclose(switching.score(windows, support), wanted, atol=2e-3)


def test_what_is_lost_is_not_freed_by_the_thread_that_scores(device: HostDevice, encoder: Encoder) -> None:
    """A library that frees memory of a GPU that hangs waits for it."""
    windows, support = sounds(encoder.card, 4), classes(4)
    switching = SwitchingRecognizer(encoder)
    switching.offer(open_on(device, encoder))
    lost = weakref.ref(switching._fast)
    device.fault = EngineError("host did not answer within 0.5 s")
    switching.score(windows, support)
    assert not switching.on_device
    assert lost() is not None
    device.fault = None  # whose traceback holds it, too
    switching.free_lost()
    assert lost() is None


def test_scalograms_are_there_for_whoever_looks(device: HostDevice, encoder: Encoder) -> None:
    windows, support = sounds(encoder.card, 3), classes(4)
    switching, cpu = SwitchingRecognizer(encoder), Recognizer(encoder)
    cpu.embed(windows)
    switching.offer(open_on(device, encoder))
    embeddings, scores = switching.recognise(windows, support)
    np.testing.assert_allclose(switching.magnitudes, cpu.magnitudes, rtol=1e-5)
    np.testing.assert_allclose(scores, cpu.compare(embeddings, support), rtol=1e-5)
    assert switching.seconds.keys() == {"scalogram", "encoder", "similarity"}
    assert switching.seconds["encoder"] > 0
    device.fault = RuntimeError("lost")
    switching.recognise(windows[:1], support)
    np.testing.assert_allclose(switching.magnitudes, cpu.magnitudes[:1], rtol=1e-5)
    assert switching.seconds["scalogram"] > 0


def test_numbers_that_are_none_are_a_fault(device: HostDevice, encoder: Encoder) -> None:
    windows, support = sounds(encoder.card, 2), classes(4)
    switching = SwitchingRecognizer(encoder)
    fast = open_on(device, encoder)
    fast._lanes[4].embeddings[:] = 0
    fast._stages[2].work = lambda embeddings, odds: odds.__setitem__(..., np.nan)  # type: ignore[attr-defined]
    switching.offer(fast)
    np.testing.assert_array_equal(switching.score(windows, support), Recognizer(encoder).score(windows, support))
    assert switching.fault == "host gave what is no number"
    fast._stages[1].work = lambda pictures, embeddings: embeddings.__setitem__(..., np.inf)  # type: ignore[attr-defined]
    switching.offer(fast)
    np.testing.assert_array_equal(switching.embed(windows), Recognizer(encoder).embed(windows))
    assert switching.fault == "host gave what is no number"


def test_a_wrong_call_is_no_fault_of_the_device(device: HostDevice, encoder: Encoder) -> None:
    switching = SwitchingRecognizer(encoder)
    switching.offer(open_on(device, encoder))
    with pytest.raises(ParameterError):
        switching.score(np.zeros((1, 7), np.float32), classes(3))
    assert switching.on_device


def test_a_device_that_is_asked_for_and_not_there_is_told(encoder: Encoder) -> None:
    switching = SwitchingRecognizer(encoder, wanted=True)
    assert switching.degraded
    switching.offer(open_on(HostDevice(), encoder))
    assert not switching.degraded


def test_a_device_that_fails_while_it_is_opened(encoder: Encoder) -> None:
    device = HostDevice()
    device.fault = MemoryError("out of memory")
    with pytest.raises(EngineError, match=r"^host failed: out of memory$"):
        open_on(device, encoder)


def test_a_stage_may_record_in_the_devices_place(device: HostDevice, encoder: Encoder) -> None:
    recorded: list[Launch] = []

    def capture(enqueue: Launch) -> Launch:
        recorded.append(enqueue)
        return enqueue

    def stage(*shape: int) -> HostStage:
        return HostStage("ones", device, lambda _, made: made.fill(1), lambda: shape)

    last = stage(32, 2)  # 32 times class 1, whose logit is 1
    last.capture = capture  # type: ignore[assignment]
    support = ResidentSupport(device, 16)
    made = DeviceRecognizer(
        encoder.card, device, stage(4), stage(16), stage(support.capacity), last, support, buckets=(1, 2)
    )
    assert len(recorded) == 2
    scores = made.score(sounds(encoder.card, 2), classes(3))
    np.testing.assert_allclose(scores, [[0, 1 / (1 + np.exp(-1.0)), 0]] * 2, rtol=1e-6)
