"""The chain of back ends by what this machine lacks, and the choice between engines on the CPU."""

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mird.kernels.back_ends import BackEnd, open_on_device, survey
from mird.kernels.encoder import open_encoder
from mird.kernels.encoder_choice import choose_encoder, measure
from mird.kernels.errors import EngineError
from mird.kernels.tensorrt_library import installed_version, load_library

NAMES = ["tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A driver with a GPU, as `test_cuda_driver` describes it."""
    library = tmp_path_factory.mktemp("driver") / "back_ends_stub.so"
    source = Path(__file__).with_name("driver.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def by_name(found: tuple[BackEnd, ...]) -> dict[str, BackEnd]:
    assert [each.name for each in found] == NAMES
    assert all(each.reason and "\n" not in each.reason for each in found)
    return {each.name: each for each in found}


def test_without_a_driver_the_cpu_serves(encoder_file: Path, tmp_path: Path) -> None:
    found = by_name(survey(encoder_file, tmp_path, driver=str(tmp_path / "libcuda.so.1")))
    for name in ("tensorrt", "tensorrt_rtx", "torch"):
        assert (found[name].usable, found[name].reason) == (False, "no NVIDIA driver is installed")
    assert (found["onnxruntime"].usable, found["onnxruntime"].reason) == (True, "on the CPU")
    assert found["openvino"].usable


def test_the_cpu_that_is_asked_for_serves(encoder_file: Path, tmp_path: Path, driver: str) -> None:
    found = by_name(survey(encoder_file, tmp_path, device="cpu", driver=driver))
    assert found["tensorrt_rtx"].reason == "the setting device is cpu"
    assert not any(each.usable for each in found.values() if each.on_device)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [("STUB_CAPABILITY", "61", "is the least"), ("STUB_COUNT", "0", "sees no GPU"), ("STUB_MB", "10", "are needed")],
)
def test_a_gpu_that_will_not_do_is_the_reason_everywhere(
    encoder_file: Path,
    tmp_path: Path,
    driver: str,
    variable: str,
    value: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    found = by_name(survey(encoder_file, tmp_path, device="cuda", driver=driver))
    assert all(reason in each.reason and not each.usable for each in found.values() if each.on_device)
    assert next(each for each in found.values() if each.usable).name in ("openvino", "onnxruntime")


def test_with_a_gpu_each_says_what_it_lacks(encoder_file: Path, tmp_path: Path, driver: str) -> None:
    """What is installed differs from machine to machine; what is said must fit it."""
    found = by_name(survey(encoder_file, tmp_path, driver=driver))
    for name, needs in (("tensorrt", ("tensorrt", "cupy")), ("tensorrt_rtx", ("tensorrt_rtx", "cupy"))):
        lacking = [package for package in needs if importlib.util.find_spec(package) is None]
        assert found[name].usable == (not lacking)
        if lacking:
            assert found[name].reason == f"{lacking[0]} is not installed; pip install 'mird[{name.replace('_', '-')}]'"
        else:
            assert found[name].needs_compiling


def test_int8_is_not_for_torch(encoder_file: Path, tmp_path: Path, driver: str) -> None:
    found = by_name(survey(encoder_file, tmp_path, precision="int8", driver=driver))
    assert found["torch"].reason == "it computes in float16 or float32, and the setting precision is int8"


@pytest.mark.parametrize("name", ["tensorrt_rtx", "torch"])
def test_what_cannot_be_opened_is_said_in_a_line(encoder_file: Path, tmp_path: Path, name: str) -> None:
    """CuPy is missing here, or a GPU."""
    with pytest.raises(EngineError) as raised:
        open_on_device(BackEnd(name, True, True, ""), encoder_file, tmp_path, open_encoder(encoder_file).card)  # noqa: FBT003
    assert "\n" not in str(raised.value)


def test_the_faster_engine_is_chosen_once(encoder_file: Path, tmp_path: Path) -> None:
    chosen = choose_encoder(encoder_file, tmp_path / "engines")
    (remembered,) = (tmp_path / "engines").iterdir()
    measured = json.loads(remembered.read_text())
    assert measured["name"] == chosen.name == min(measured["milliseconds"], key=measured["milliseconds"].get)
    assert set(measured["milliseconds"]) == {"onnxruntime", "openvino"}

    other = {"onnxruntime": "openvino", "openvino": "onnxruntime"}[chosen.name]
    remembered.write_text(json.dumps({"name": other}))
    assert choose_encoder(encoder_file, tmp_path / "engines").name == other
    assert json.loads(remembered.read_text()) == {"name": other}


@pytest.mark.parametrize("text", ["", "[]", '{"name": "abacus"}'])
def test_a_choice_that_cannot_be_read_is_made_again(encoder_file: Path, tmp_path: Path, text: str) -> None:
    choose_encoder(encoder_file, tmp_path)
    (remembered,) = tmp_path.iterdir()
    remembered.write_text(text)
    assert choose_encoder(encoder_file, tmp_path).name in ("onnxruntime", "openvino")
    assert json.loads(remembered.read_text())["milliseconds"]


def test_a_folder_that_cannot_be_written_does_not_matter(encoder_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert choose_encoder(encoder_file, tmp_path / "file").card.fingerprint == "0123456789abcdef"


def test_measures_every_engine(encoder_file: Path) -> None:
    found = measure([open_encoder(encoder_file), open_encoder(encoder_file, name="openvino")])
    assert set(found) == {"onnxruntime", "openvino"}
    assert all(np.isfinite(each) and 0 < each < 1000 for each in found.values())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"gone\.onnx: no such encoder file"):
        choose_encoder(tmp_path / "gone.onnx", tmp_path)


def test_the_version_that_is_asked_for_is_the_one_that_compiles() -> None:
    """A plan's key would else never fit, and the daemon compile at every start."""
    assert installed_version("tensorrt_rtx") == load_library("tensorrt_rtx").__version__
    if importlib.util.find_spec("tensorrt") is None:
        with pytest.raises(EngineError, match="tensorrt is not installed"):
            installed_version("tensorrt")
