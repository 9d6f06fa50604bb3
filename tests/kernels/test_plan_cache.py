"""The plan cache: what is found again, and what is refused."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from mird.kernels.errors import EngineError
from mird.kernels.plan_cache import PlanKey, model_hash, plan_file, read_plan, timing_file, write_plan

KEY = PlanKey("tensorrt_rtx", "1.7.1.116", "8.9", "0123456789abcdef", "float16")
OTHERS = {"library": "tensorrt", "version": "1.8.0.1", "capability": "12.0", "model": "f" * 16, "precision": "int8"}
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write_plan(tmp_path / "engines", KEY, CONTENT, {"fingerprint": "f0", "engine_error": None})
    return tmp_path / "engines"


def test_plan_is_found_again(cache: Path) -> None:
    plan = read_plan(cache, KEY)
    assert plan.content == CONTENT
    assert plan.manifest["fingerprint"] == "f0"
    assert plan.manifest["key"]["capability"] == "8.9"
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".plan"]


@pytest.mark.parametrize("field", OTHERS)
def test_plan_of_another_gpu_version_or_network_is_not_taken(cache: Path, field: str) -> None:
    assert set(OTHERS) == {each.name for each in fields(PlanKey)}
    other = replace(KEY, **{field: OTHERS[field]})
    assert plan_file(cache, other) != plan_file(cache, KEY)
    with pytest.raises(EngineError, match="no plan was compiled yet; `mird compile` makes"):
        read_plan(cache, other)
    for suffix in (".plan", ".json"):  # renamed by hand
        plan_file(cache, KEY).with_suffix(suffix).rename(plan_file(cache, other).with_suffix(suffix))
    with pytest.raises(EngineError, match="its manifest is of another plan; `mird compile` makes it anew"):
        read_plan(cache, other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:100], "is cut short: 100 bytes of 10240; `mird compile` makes it anew"),
        (b"", "is cut short: 0 bytes of 10240"),
        (CONTENT[:-1] + b"x", "is damaged; `mird compile` makes it anew"),
    ],
)
def test_plan_that_is_not_whole_is_refused(cache: Path, content: bytes, message: str) -> None:
    plan_file(cache, KEY).write_bytes(content)
    with pytest.raises(EngineError, match=message):
        read_plan(cache, KEY)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\xff"])
def test_manifest_that_is_none_is_refused(cache: Path, text: str) -> None:
    plan_file(cache, KEY).with_suffix(".json").write_text(text, encoding="latin-1")
    with pytest.raises(EngineError, match=r"`mird compile` makes it anew$"):
        read_plan(cache, KEY)


def test_plan_of_an_older_rewriting_is_refused(cache: Path) -> None:
    manifest = plan_file(cache, KEY).with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"definition": 0}))
    with pytest.raises(EngineError, match="is of another plan"):
        read_plan(cache, KEY)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"file.*cannot be written: .*; name another folder"):
        write_plan(tmp_path / "file", KEY, CONTENT, {})


def test_network_is_known_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    assert model_hash(first) == model_hash(second)
    second.write_bytes(b"two")
    assert model_hash(first) != model_hash(second)
    with pytest.raises(EngineError, match="gone: cannot be read: No such file"):
        model_hash(tmp_path / "gone")


def test_timings_serve_every_network_on_such_a_gpu(tmp_path: Path) -> None:
    assert timing_file(tmp_path, KEY) == timing_file(tmp_path, replace(KEY, model="f" * 16, precision="int8"))
    assert timing_file(tmp_path, KEY) != timing_file(tmp_path, replace(KEY, capability="9.0"))
