"""`mird evaluate` through a real small encoder: what it prints, what it compares, and what it refuses."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.daemon.cli import main
from mird.kernels.encoder import open_encoder
from mird.kernels.recognizer import Recognizer
from mird.kernels.windows import choose_windows
from mird.training.audio import fit_length, read_mono
from mird.training.errors import TrainingError
from mird.training.evaluate import Embedded, EvaluationSettings, embed_recordings, evaluate
from mird.training.manifest import Recording, read_manifest

Run = Callable[..., subprocess.CompletedProcess[str]]
Wave = NDArray[np.float32]
Values = dict[str, Any]

KEYS = {"way", "shot", "episodes", "seed", "accuracy", "ci95", "per_class", "confusion", "auroc_unknown"}


@pytest.fixture(scope="module")
def recognizer(trained: Any) -> Recognizer:
    return Recognizer(open_encoder(trained.folder / "encoder.onnx"))


@pytest.fixture(scope="module")
def embedded(recordings_of_orchestra: tuple[Recording, ...], recognizer: Recognizer) -> Embedded:
    return embed_recordings(recordings_of_orchestra, recognizer)


@pytest.fixture(scope="module")
def command(mird: Run, trained: Any) -> Callable[..., Values]:
    def run(*arguments: str | Path, folder: Path | None = None) -> Values:
        done = mird("evaluate", *arguments, "--json", "--engine", trained.folder / "encoder-int8.onnx", folder=folder)
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = done.stdout.splitlines()
        found: Values = json.loads(line)
        return found

    return run


def refused(mird: Run, trained: Any, *arguments: str | Path) -> str:
    """The one line of an evaluation that is refused with exit status 10."""
    done = mird("evaluate", *arguments, "--json", "--engine", trained.folder / "encoder.onnx")
    assert (done.returncode, done.stdout) == (10, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mird: error: ")
    return line.removeprefix("mird: error: ")


@pytest.mark.system
def test_one_object_with_its_keys(command: Callable[..., Values], orchestra: Path) -> None:
    """From another folder, too: a manifest's paths are relative to the manifest."""
    options = ("--way", "3", "--shot", "2", "--episodes", "40", "--seed", "5", "--unknown", "reed,_hiss")
    found = command(orchestra.name, *options, folder=orchestra.parent)
    assert found.keys() == KEYS
    assert (found["way"], found["shot"], found["episodes"], found["seed"]) == (3, 2, 40, 5)
    low, high = found["ci95"]
    assert 0 <= low < found["accuracy"] < high <= 1
    assert found["accuracy"] > 0.6
    assert 0 <= found["auroc_unknown"] <= 1
    assert set(found["per_class"]) == set(found["confusion"]) == {"bell", "flute", "horn", "oboe", "pluck"}
    counts = [sum(row.values()) for row in found["confusion"].values()]
    assert sum(counts) == 3 * 40
    right = sum(found["confusion"][label].get(label, 0) for label in found["per_class"])
    assert found["accuracy"] == pytest.approx(right / 120)
    for label, share in found["per_class"].items():
        assert share == pytest.approx(found["confusion"][label].get(label, 0) / sum(found["confusion"][label].values()))
    assert command(orchestra, *options) == found
    assert command(orchestra, *options[:-4], "--seed", "6", *options[-2:]) != found


@pytest.mark.system
def test_tables(mird: Run, trained: Any, orchestra: Path) -> None:
    options = ("--episodes", "30", "--unknown", "_hiss", "--engine", trained.folder / "encoder.onnx")
    done = mird("evaluate", orchestra, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6-way 1-shot, 30 episodes: " in done.stdout
    assert "unknown: AUROC 0." in done.stdout or "unknown: AUROC 1." in done.stdout
    assert "tiny float32" in done.stdout
    assert all(label in done.stdout for label in ("bell", "flute", "horn", "oboe", "pluck", "reed"))


@pytest.mark.system
def test_support_from_another_manifest_and_sources(command: Callable[..., Values], orchestra: Path) -> None:
    across = command(
        orchestra, "--support-manifest", orchestra, "--sources", "attic", "--support-sources", "hall", "--shot", "6"
    )
    assert (across["way"], across["shot"]) == (6, 6)
    within = command(orchestra, "--sources", "attic", "--classes", "bell, oboe ,reed", "--shot", "5")
    assert set(within["per_class"]) == {"bell", "oboe", "reed"}
    assert within["auroc_unknown"] is None


@pytest.mark.system
def test_mistakes_are_one_line(mird: Run, trained: Any, orchestra: Path) -> None:
    assert refused(mird, trained, orchestra, "--way", "1") == "--way 1: must be all or a number from 2"
    assert refused(mird, trained, orchestra, "--classes", "bell,viola").endswith("class viola does not occur")
    few = refused(mird, trained, orchestra, "--shot", "12")
    assert few.startswith("class bell, flute, horn, oboe, pluck, reed has too few clips for 12 shots")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--way", "some"), "--way some"),
        (("--shot", "0"), "--shot 0: must be at least 1"),
        (("--episodes", "0"), "--episodes 0: must be at least 1"),
        (("--seed", "-1"), "--seed -1: must be at least 0"),
        (("--sources", "cellar"), "source cellar does not occur"),
        (("--support-sources", "hall"), "--support-sources: chooses from the manifest of --support-manifest"),
        (("--way", "7"), "7-way needs 7 classes with support and queries, there are 6"),
        (("--classes", "bell"), "at least 2 classes are needed with queries and support, there are 1: bell"),
        (("--classes", "bell,bell"), "at least 2 classes are needed"),
        (("--classes", "bell,reed", "--unknown", "viola"), "class viola has no unknown recording"),
    ],
)
def test_arguments_that_make_no_sense(
    trained: Any, orchestra: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mird.daemon.cli import main

    status = main(["evaluate", str(orchestra), *arguments, "--engine", str(trained.folder / "encoder.onnx")])
    printed = capsys.readouterr()
    assert (status, printed.out) == (10, "")
    (line,) = printed.err.splitlines()
    assert said in line


def settings(**options: Any) -> EvaluationSettings:
    return replace(EvaluationSettings(way=None, shot=1, episodes=20, seed=0), **options)


def test_the_daemon_s_recognizer_decides(
    recordings_of_orchestra: tuple[Recording, ...], recognizer: Recognizer, embedded: Embedded
) -> None:
    """Embeddings are those of the clips' windows by the recognizer that the daemon runs."""
    for number in (0, 13, 70):
        samples = read_mono(recordings_of_orchestra[number].path, 16_000)
        np.testing.assert_allclose(embedded.vectors[number], recognizer.embed(samples[None]), atol=1e-6)
    assert embedded.recordings == recordings_of_orchestra


def test_takes_of_one_name_are_never_support_and_query(recognizer: Recognizer, embedded: Embedded) -> None:
    """Two classes of two takes, each there twice; the bell's are further from each other than from the oboe's."""
    rows, vectors = [], []
    rng = np.random.default_rng(0)
    bell, oboe = rng.standard_normal((2, 1, len(recognizer.card.head.gamma)))
    for label, takes in {"bell": (bell, -bell), "oboe": (oboe, oboe)}.items():
        for number, vector in enumerate(takes):
            for _ in range(2):
                rows.append(replace(embedded.recordings[0], label=label, original_name=f"{label} {number}"))
                vectors.append((vector / np.linalg.norm(vector)).astype(np.float32))
    twins = Embedded(tuple(rows), tuple(vectors), ())
    with pytest.raises(TrainingError, match="class bell, oboe has too few clips for 3 shots beside a query of another"):
        evaluate(twins, None, recognizer, settings(shot=3))
    named_apart = replace(twins, recordings=tuple(replace(r, original_name=str(i)) for i, r in enumerate(rows)))
    # The oboe is always right, the bell beside its own take alone, which is one of three where names do not forbid it.
    assert evaluate(twins, None, recognizer, settings(episodes=300))["accuracy"] == pytest.approx(1 / 2, abs=0.08)
    assert evaluate(named_apart, None, recognizer, settings(episodes=300))["accuracy"] == pytest.approx(2 / 3, abs=0.08)


def test_names_are_kept_apart_between_manifests_and_sources(recognizer: Recognizer, embedded: Embedded) -> None:
    rows = [i for i, r in enumerate(embedded.recordings) if r.is_instrument]
    query = Embedded(
        tuple(replace(embedded.recordings[i], original_name="one", source="hall") for i in rows),
        tuple(embedded.vectors[i] for i in rows),
        (),
    )
    support = replace(query, recordings=tuple(replace(r, source="cellar") for r in query.recordings))
    with pytest.raises(TrainingError, match="has too few clips for 1 shots"):
        evaluate(query, support, recognizer, settings())


def test_a_file_is_not_support_of_itself_through_another_manifest(
    recognizer: Recognizer, orchestra: Path, write: Callable[..., Path]
) -> None:
    rows = [("path", "class", "source"), *((f"hall/{label}-0.flac", label, "hall") for label in ("bell", "oboe"))]
    (orchestra.parent / "lists").mkdir()
    near = read_manifest(write(orchestra.parent / "near.csv", rows))
    far = read_manifest(
        write(orchestra.parent / "lists" / "far.csv", [rows[0], *((f"../{p}", c, s) for p, c, s in rows[1:])])
    )
    with pytest.raises(TrainingError, match="class bell, oboe has too few clips for 1 shots"):
        evaluate(embed_recordings(near, recognizer), embed_recordings(far, recognizer), recognizer, settings())


def test_other_sources(recognizer: Recognizer, embedded: Embedded) -> None:
    found = evaluate(embedded, None, recognizer, settings(other_sources=True, shot=6))
    assert found["way"] == 6
    with pytest.raises(TrainingError, match="for 7 shots beside a query of another source"):
        evaluate(embedded, None, recognizer, settings(other_sources=True, shot=7))


def test_what_is_no_instrument_is_a_class_only_when_named(recognizer: Recognizer, embedded: Embedded) -> None:
    assert evaluate(embedded, None, recognizer, settings())["way"] == 6
    named = evaluate(embedded, None, recognizer, settings(classes=("_hiss", "bell")))
    assert set(named["per_class"]) == {"_hiss", "bell"}


def test_unknown_classes_are_never_enrolled(recognizer: Recognizer, embedded: Embedded) -> None:
    found = evaluate(embedded, None, recognizer, settings(unknown=("bell", "_hiss"), episodes=50))
    assert found["way"] == 5
    assert "bell" not in found["per_class"]
    assert not any("bell" in row for row in found["confusion"].values())
    # Noise is told from notes even by a small encoder.
    assert evaluate(embedded, None, recognizer, settings(unknown=("_hiss",), episodes=50))["auroc_unknown"] > 0.6


def test_recordings_of_other_lengths_and_rates(
    play: Callable[..., Wave], recognizer: Recognizer, tmp_path: Path, write: Callable[..., Path]
) -> None:
    """Stereo, 48 kHz, ten seconds, a tenth of a second: each counts through the windows in which it sounds."""
    rows: list[tuple[str, str, str]] = [("path", "class", "source")]
    kinds = [(0.1, 16_000), (0.5, 16_000), (1.5, 48_000), (5.0, 44_100)]
    for label in ("flute", "oboe"):
        for seconds, rate_hz in kinds:
            clip = play(label, 2, "hall", seconds, rate_hz)
            name = f"{label}-{seconds}.flac"
            soundfile.write(tmp_path / name, np.stack([clip, 0.5 * clip], axis=1), rate_hz)
            rows.append((name, label, "hall"))
    soundfile.write(tmp_path / "silent.wav", np.zeros(30_000), 16_000)
    rows.append(("silent.wav", "flute", "hall"))
    found = embed_recordings(read_manifest(write(tmp_path / "m.csv", rows)), recognizer)
    assert [r.path.name for r in found.silent] == ["silent.wav"]
    assert [len(vectors) for vectors in found.vectors] == 2 * [1, 1, 5, 8]
    for row, vectors in zip(found.recordings, found.vectors, strict=True):
        samples = read_mono(row.path, 16_000)
        starts = choose_windows(samples, 8_000, 8)
        windows = np.stack([fit_length(samples[start : start + 8_000], 8_000) for start in starts])
        # One window at a time, and all at once: the encoder sums in another order.
        np.testing.assert_allclose(vectors, recognizer.embed(windows), atol=1e-3)
    assert evaluate(found, None, recognizer, settings(shot=3))["way"] == 2

    each = embed_recordings(read_manifest(tmp_path / "m.csv"), recognizer, each_window=True)
    windows_of = Counter(r.path.name for r in each.recordings)
    assert [windows_of[f"flute-{seconds}.flac"] for seconds, _ in kinds[:3]] == [1, 1, 5]
    assert windows_of["flute-5.0.flac"] > 8
    assert all(len(vectors) == 1 for vectors in each.vectors)


def test_damaged_and_silent_recordings_are_left_out_and_named(
    trained: Any, orchestra: Path, tmp_path: Path, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torn.wav").write_bytes(b"RIFF and no more")
    soundfile.write(tmp_path / "mute.wav", np.zeros(8_000), 16_000)
    bad = [("torn.wav", "bell", "attic"), ("mute.wav", "reed", "attic")]
    rows = [(row.path, row.label, row.source) for row in read_manifest(orchestra)]
    header = ("path", "class", "source")
    manifest, worst = write(tmp_path / "m.csv", [header, *rows, *bad]), write(tmp_path / "bad.csv", [header, *bad])
    engine = ["--engine", str(trained.folder / "encoder.onnx"), "--episodes", "4"]
    assert main(["evaluate", str(manifest), "--json", *engine]) == 0
    printed = capsys.readouterr()
    torn, mute = printed.err.splitlines()
    assert torn.startswith(f"left out: {tmp_path}/torn.wav: cannot read the sound")
    assert mute == f"left out, without sound: {tmp_path}/mute.wav"
    assert json.loads(printed.out)["way"] == 6

    build = ["classes", "build", str(worst), "--out", str(tmp_path / "set"), *engine[:2]]
    for arguments, said in (
        (
            ["evaluate", str(worst), *engine],
            "at least 2 classes are needed with queries and support, there are 0: none",
        ),
        (build, "none of the chosen clips can be a shot: each is damaged or without sound"),
    ):
        assert main(arguments) == 10
        printed = capsys.readouterr()
        assert (printed.out, printed.err.splitlines()[2:]) == ("", [f"mird: error: {said}"])
    assert not (tmp_path / "set").exists()


@pytest.mark.system
def test_evaluates_without_torch(trained: Any, orchestra: Path) -> None:
    """The default install has none of what training needs."""
    program = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"torch", "onnx", "onnxscript", "mido"}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
from mird.daemon.cli import main
status = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(status)
"""
    arguments = ["evaluate", str(orchestra), "--json", "--engine", str(trained.folder / "encoder-int8.onnx")]
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["way"] == 6
    for other in ("train", "render"):
        arguments = [other, str(orchestra), "--out", str(trained.folder / "never")]
        done = subprocess.run([*command[:3], *arguments], capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 10
        assert "install it with: pip install 'mird[train]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
