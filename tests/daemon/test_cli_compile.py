"""`mird compile` as it is called."""

import json
from pathlib import Path

import pytest

from mird.daemon.cli import main


def test_compiles_for_a_gpu_that_is_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--capability", "8.9", "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["library"], result["precision"]) == ("tensorrt_rtx", "float16")
    assert Path(result["plan"]).stat().st_size == result["plan_bytes"]
    assert result["network_error"]["least_cosine"] > 0.998
    assert result["pictures"] >= 20
    manifest = json.loads(Path(result["plan"]).with_suffix(".json").read_text())
    assert manifest["key"]["capability"] == "8.9"


def test_int8_says_what_it_loses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--capability", "8.9", "--precision", "int8", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    manifest = json.loads(next(tmp_path.glob("*.json")).read_text())
    least = manifest["network_error"]["least_cosine"]
    assert manifest["whole_error"] is None
    assert f"network to the file: cosine {manifest['network_error']['median_cosine']}" in out
    told = [line for line in err.splitlines() if line.startswith("mird: warning: in int8 ")]
    assert len(told) == (least < 0.999)
    assert all(f"cosine {least} at the least" in line for line in told)


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        ([], 9, "no NVIDIA driver is installed; name the GPU to compile for, such as --capability 8.9"),
        (["--library", "tensorrt"], 9, "tensorrt is not installed; install it with: pip install 'mird[tensorrt]'"),
        (["--engine", "/nowhere.onnx"], 9, "/nowhere.onnx: no such encoder file"),
        (["--precision", "float8"], 3, "must be one of auto, float32, float16, int8"),
    ],
)
def test_what_cannot_be_compiled(
    argv: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "--out", str(tmp_path), *argv]) == status
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.splitlines()) == 1


def test_a_capability_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["compile", "--capability", "abc"])
    assert raised.value.code == 2
    assert "--capability: 'abc': must be two numbers and a point, such as 8.9" in capsys.readouterr().err
