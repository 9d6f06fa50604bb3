"""A GPU's engine beside the daemon: what is opened, what is said where none can be, a show that goes on."""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import quickest

from mird.clients.subscriber import Subscriber
from mird.daemon.assembly import engine_file
from mird.daemon.capture import SourceSpec, open_capture
from mird.daemon.engine_opener import EngineOpener
from mird.daemon.engine_processes import PROBE, compile_beside, probe_beside
from mird.daemon.messages import Frame, State
from mird.daemon.publisher import Publisher
from mird.daemon.service import Daemon
from mird.daemon.settings import Settings
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder
from mird.kernels.errors import EngineError
from mird.kernels.recognizer import Recognizer
from mird.kernels.recognizer_switching import SwitchingRecognizer
from mird.kernels.similarity import Prototypes

Samples = NDArray[np.float32]


def wait_for(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.01)


def test_without_a_gpu_the_thread_ends_and_says_why(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    recognizer, settings = SwitchingRecognizer(encoder), Settings()
    with EngineOpener(recognizer, settings, engine_file(settings), tmp_path, str(tmp_path / "none.so")) as opener:
        wait_for(lambda: not opener.at_work)
    said = [record.message for record in caplog.records]
    assert said == ["no GPU serves: no NVIDIA driver is installed"]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert not recognizer.degraded
    assert [each.name for each in opener.chain if each.usable] == ["openvino", "onnxruntime"]


def test_a_gpu_that_is_asked_for_is_waited_for(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recognizer, settings = SwitchingRecognizer(encoder, wanted=True), Settings(device="cuda")
    missing = str(tmp_path / "none.so")
    with EngineOpener(recognizer, settings, engine_file(settings), tmp_path, missing, retry_s=0.05) as opener:
        wait_for(lambda: sum("no GPU serves: no NVIDIA" in record.message for record in caplog.records) >= 2)
        assert opener.at_work
        assert recognizer.degraded
    assert not opener.at_work
    assert {record.levelno for record in caplog.records if "no GPU serves" in record.message} == {logging.WARNING}


def test_the_cpu_that_is_asked_for_has_no_thread(encoder: Encoder, tmp_path: Path, driver: str) -> None:
    settings = Settings(device="cpu")
    with EngineOpener(SwitchingRecognizer(encoder), settings, engine_file(settings), tmp_path, driver) as opener:
        assert not opener.at_work


def test_what_a_gpu_lacks_here_is_said(
    encoder: Encoder, tmp_path: Path, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    """There is a driver, and no CuPy or no real GPU behind it."""
    caplog.set_level(logging.INFO)
    recognizer, settings = SwitchingRecognizer(encoder), Settings()
    with EngineOpener(recognizer, settings, engine_file(settings), tmp_path, driver, retry_s=0.05):
        wait_for(lambda: any("torch does not serve" in record.message for record in caplog.records), 60)
    assert not recognizer.on_device
    assert all("\n" not in record.message for record in caplog.records)


def test_compiling_beside_says_why_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^cannot be compiled: no NVIDIA driver is installed; name the GPU"):
        compile_beside("tensorrt_rtx", engine_file(Settings()), tmp_path, "float16", threading.Event())


def test_compiling_beside_ends_when_it_is_told_to(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(EngineError, match="it was told to stop"):
        compile_beside("tensorrt_rtx", engine_file(Settings()), tmp_path, "float16", stop)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_gpu_that_does_not_work_is_told_in_a_line() -> None:
    """Here there is none, and no CuPy either."""
    reason = probe_beside(threading.Event())
    assert reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", ""),
        ("raise SystemExit('GPU 0 cannot be used: cudaErrorDevicesUnavailable')", "GPU 0 cannot be used: cudaError"),
        ("import os; os.abort()", "a process that asked it ended with status -6"),
        ("import time; time.sleep(60)", "it did not answer within 0.5 s"),
    ],
)
def test_a_gpu_is_asked_by_a_process_of_its_own(program: str, reason: str) -> None:
    begun_s = time.monotonic()
    said = probe_beside(threading.Event(), program, 0.5 if "sleep" in program else 30.0)
    assert said.startswith(reason)
    assert bool(said) == bool(reason)
    assert time.monotonic() - begun_s < 10.0
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_asks_a_gpu_is_a_program() -> None:
    compile(PROBE, "probe", "exec")


def test_a_gpu_that_was_lost_is_asked_before_it_is_opened_again(
    encoder: Encoder, tmp_path: Path, driver: str, cupy_is_there: None, caplog: pytest.LogCaptureFixture
) -> None:
    """What is found there is no real GPU; in this process nothing of it is touched."""
    recognizer, settings = SwitchingRecognizer(encoder), Settings()
    recognizer.fault = "the GPU has fallen off the bus"
    with EngineOpener(recognizer, settings, engine_file(settings), tmp_path, driver, retry_s=0.05):
        wait_for(lambda: any("the GPU does not work yet: " in each.message for each in caplog.records), 60)
    assert not any("does not serve" in record.message for record in caplog.records)


class Mortal(Recognizer):
    """Stands for a GPU's recognizer: it computes as the CPU's, until it is lost."""

    lost = False

    @property
    def name(self) -> str:
        return "cupy+tensorrt"

    def recognise(self, windows: Samples, support: Prototypes) -> tuple[Samples, Samples]:
        if self.lost:
            raise EngineError("the GPU has fallen off the bus")
        return super().recognise(windows, support)


def on_gpu(frame: Frame) -> bool:
    return frame.engine.startswith("cupy+tensorrt: ")


def test_the_show_goes_on_when_the_gpu_is_lost(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import soundfile

    soundfile.write(tmp_path / "show.wav", demonstration, 44_100)
    recognizer, gpu = SwitchingRecognizer(encoder), Mortal(encoder)
    of_cpu = recognizer.name
    recognizer.offer(gpu)  # type: ignore[arg-type]
    publish = f"ipc://{tmp_path}/publish"
    publisher = Publisher(publish)
    capture = open_capture(SourceSpec("file", str(tmp_path / "show.wav"), loop=True))
    settings: Any = Settings(hop_ms=50)
    missing = str(tmp_path / "none.so")
    daemon = Daemon(settings, capture, recognizer, store, publisher, f"ipc://{tmp_path}/control", "show")
    thread = threading.Thread(target=daemon.run)
    frames: list[Frame] = []
    states: list[State] = []
    with (
        EngineOpener(recognizer, settings, engine_file(settings), tmp_path, missing, retry_s=0.05),
        Subscriber(publish, ("frame", "state")) as subscriber,
    ):

        def until(wanted: Callable[[], bool]) -> None:
            while not wanted():
                message = subscriber.recv(20.0)
                assert message is not None
                if isinstance(message, Frame):
                    frames.append(message)
                elif isinstance(message, State):
                    states.append(message)

        def regain() -> None:
            gpu.lost = False
            recognizer.offer(gpu)  # type: ignore[arg-type]
            until(lambda: on_gpu(frames[-1]) and not frames[-1].degraded)

        def loss_s() -> float:
            if gpu.lost:
                regain()
            gpu.lost = True
            lost_ns = time.monotonic_ns()
            until(lambda: frames[-1].degraded and frames[-1].engine.startswith(f"{of_cpu}: "))
            first = next(frame for frame in frames if frame.t_mono_ns > lost_ns and not on_gpu(frame))
            return (first.t_mono_ns - lost_ns) / 1e9

        assert publisher.await_subscriber(10.0)
        thread.start()
        try:
            until(lambda: len(frames) >= 5 and all(on_gpu(frame) and not frame.degraded for frame in frames[-3:]))
            assert quickest(loss_s, 1.0) < 1.0
            until(lambda: states[-1].degraded and states[-1].engine.startswith(f"{of_cpu}: "))
            wait_for(lambda: any("fallen off the bus; the CPU goes on" in each.message for each in caplog.records))
            wait_for(lambda: sum("no GPU serves: no NVIDIA" in each.message for each in caplog.records) >= 2)  # again
            regain()
            numbers = [frame.seq for frame in frames]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))  # not one hop is missing
        finally:
            daemon.stop()
            thread.join(10.0)
    assert not thread.is_alive()
