"""`mird evaluate --suite`: a whole evaluation of the small orchestra, its report, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mird.daemon.cli import main
from mird.daemon.paths import shipped
from mird.training.baselines import mfcc_statistics, read_peers
from mird.training.episodes import Tally, auroc
from mird.training.errors import TrainingError
from mird.training.features import Features
from mird.training.live import LiveSettings, make_live
from mird.training.manifest import read_manifest
from mird.training.measure import resampled_aurocs, summary
from mird.training.report import write_report
from mird.training.suite import read_suite

Run = Callable[..., subprocess.CompletedProcess[str]]

SUITE = """
[pool]
manifest = "manifest.csv"
without = "away"
[lists]
away = ["attic", "noise"]
three = ["bell", "oboe", "pluck"]
[[row]]
section = "Attic"
name = "all"
queries = "manifest.csv"
sources = "away"
unknown = ["_hiss"]
shots = [1, 2, 3]
targets = [20, 0, 99.9]
unknown_targets = [0.5, 0, 0]
[[row]]
section = "Attic"
name = "across"
queries = "manifest.csv"
sources = "away"
support = "manifest.csv"
support_without = "away"
shots = [2]
ahead_of = "peer"
ahead = 5
[[row]]
section = "Others"
name = "the rest is unknown"
weights = "second"
queries = "manifest.csv"
classes = "three"
unknown = "rest"
way = 2
shots = [1]
[[row]]
section = "Others"
name = "not asked"
weights = "third"
queries = "manifest.csv"
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-suite.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def peers_file(orchestra: Path, tmp_path: Path) -> Path:
    """A peer that knows the class of every clip but one, and hardly anything else."""
    rows = read_manifest(orchestra)
    labels = sorted({row.label for row in rows})
    rng = np.random.default_rng(3)
    vectors = np.stack([np.eye(len(labels))[labels.index(row.label)] for row in rows])
    paths = [row.path.relative_to(orchestra.parent).as_posix() for row in rows]
    vectors = (vectors + 0.05 * rng.standard_normal(vectors.shape)).astype(np.float16)
    np.savez(tmp_path / "peer.npz", path=np.array(paths), peer=vectors)
    return tmp_path / "peer.npz"


@pytest.mark.system
def test_suite_measures_every_system_on_the_same_episodes(
    mird: Run, trained: Any, orchestra: Path, suite_file: Path, peers_file: Path, tmp_path: Path
) -> None:
    engine, other = trained.folder / "encoder.onnx", trained.folder / "encoder-int8.onnx"
    options = (
        "--engine",
        engine,
        "--weights",
        f"default={other}",
        "--weights",
        f"second={engine}",
        "--peers",
        peers_file,
    )
    out = tmp_path / "report"
    done = mird(
        "evaluate", orchestra.parent, "--suite", suite_file, *options, "--episodes", "40", "--out", out, "--json"
    )
    assert (done.returncode, done.stderr) == (0, f"{out}/report.md\n")
    results = json.loads(done.stdout)
    assert results == json.loads((out / "results.json").read_text())
    assert (results["suite"], results["episodes"], results["broken"], results["silent"]) == ("tiny-suite", 40, [], [])
    everything, across, rest, missing = results["rows"]
    assert [figures["shot"] for figures in everything["figures"]] == [1, 2, 3]
    assert missing["figures"] == []
    first = everything["figures"][0]
    assert set(first["systems"]) == {
        "mird", "mird, L1", "pixels", "mfcc", "mfcc, whitened", "peer", "peer, whitened",
    }  # fmt: skip
    assert set(first["live"]) == {
        "mird",
        "mird, L1",
        "pixels",
        "mfcc",
        "mfcc, whitened",
    }  # a peer has clean vectors only
    assert first["systems"]["mird"]["n_seeds"] == 2  # both files were given for one name of weights
    assert first["systems"]["peer"]["accuracy"] > 0.99
    assert first["systems"]["mird"]["accuracy"] > 0.3  # chance: 1 / 6
    low, high = first["systems"]["mird"]["ci95"]
    assert low < first["systems"]["mird"]["accuracy"] < high
    low, high = first["systems"]["mird"]["auroc_unknown_ci95"]
    assert 0.5 < low < first["systems"]["mird"]["auroc_unknown"] < high <= 1
    # By class, and for the ROC, the answers of both files count.
    assert sum(sum(counts.values()) for counts in first["confusion"].values()) == 2 * 40 * first["way"]
    assert [len(scores) for scores in first["roc"]] == 2 * [2 * 40 * first["way"]]
    rights = [first["per_class"][label] * sum(first["confusion"][label].values()) for label in first["confusion"]]
    assert sum(rights) == pytest.approx(first["systems"]["mird"]["accuracy"] * 2 * 40 * first["way"])
    assert (rest["figures"][0]["way"], rest["figures"][0]["systems"]["mird"]["n_seeds"]) == (2, 1)
    assert rest["figures"][0]["systems"]["mird"]["auroc_unknown"] > 0.5

    # One engine alone, by the command without a suite: episodes drawn alike, so the same figure but for chance.
    asked = ("--engine", engine, "--episodes", "400", "--json")
    alone = mird("evaluate", orchestra.parent, "--suite", suite_file, *asked, "--no-live")
    single = mird("evaluate", orchestra, *asked, "--sources", "attic", "--shot", "2")
    assert (alone.returncode, single.returncode) == (0, 0), alone.stderr + single.stderr
    figures = json.loads(alone.stdout)["rows"][0]["figures"][1]
    assert figures["live"] == {}
    assert figures["systems"]["mird"]["accuracy"] == pytest.approx(json.loads(single.stdout)["accuracy"], abs=0.05)

    report = (out / "report.md").read_text()
    assert "not measured: `--weights third=FILE` is not given" in report
    assert "20: reached; AUROC 0.5: reached" in report
    assert "5 ahead of peer: " in report
    assert "## By class: Attic, all, 3 shots, 2 seeds of training\n" in report
    assert f"mird {first['systems']['mird']['auroc_unknown']:.3f} ({low:.3f} to {high:.3f}), mird, L1 " in report
    assert "**missed**" in report
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {"confusion-1.png", "confusion-2.png", "confusion-3.png", "roc.png", "enrolment.png", "map.png"}
    for name in pictures:
        assert f"({name})" in report
        assert (out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert across["figures"][0]["systems"]["mird"]["accuracy"] > 0.3


@pytest.mark.system
def test_broken_and_silent_files_are_named_and_left_out(
    mird: Run, trained: Any, orchestra: Path, suite_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["path,class,source"]
    lines += [f"{row.path},{row.label},{row.source}" for row in read_manifest(orchestra)]
    (folder / "broken.flac").write_bytes(b"fLaC and no more")
    soundfile.write(folder / "silent.wav", np.zeros(8_000), 16_000)
    lines += ["broken.flac,bell,attic", "silent.wav,bell,attic"]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    done = mird(
        "evaluate",
        folder,
        "--suite",
        suite_file,
        "--engine",
        trained.folder / "encoder.onnx",
        "--episodes",
        "2",
        "--no-live",
    )
    assert done.returncode == 0, done.stderr
    broken, silent = done.stderr.splitlines()
    assert broken.startswith(f"left out: {folder}/broken.flac: cannot read the sound")
    assert silent == "left out: silent.wav"
    assert "Attic" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--suite", "best"), r"suites/best.toml: cannot read the suite: No such file"),
        (("--out", "report"), r"--out: belongs to --suite, and none is given"),
        (("--suite", "SUITE", "--weights", "file.onnx"), r"--weights file.onnx: must be NAME=FILE"),
        (("--suite", "SUITE", "--peers", "gone.npz"), r"gone.npz: is no .npz file of vectors"),
        (("--suite", "SUITE", "--episodes", "0"), r"--episodes 0: must be at least 1"),
        (
            ("--suite", "SUITE", "--way", "all", "--shot", "1", "--classes", "x", "--other-sources"),
            "--way, --shot, --classes, --other-sources: not used with --suite, each of whose rows has its own",
        ),
        (("--suite", "SUITE", "--shot", "0"), "--shot: not used with --suite"),
        (("--suite", "SUITE", "--out", "SUITE"), "tiny-suite.toml: cannot write the report: File exists; choose"),
    ],
)
def test_mistakes_are_one_line(
    trained: Any,
    orchestra: Path,
    suite_file: Path,
    arguments: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(suite_file) if each == "SUITE" else each for each in arguments]
    assert main(["evaluate", str(orchestra.parent), *given, "--engine", str(trained.folder / "encoder.onnx")]) == 10
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert said in line


@pytest.mark.system
def test_what_the_report_needs_is_asked_for_before_anything_is_measured(
    trained: Any, orchestra: Path, suite_file: Path, tmp_path: Path
) -> None:
    """Without matplotlib; the only clip is gone, which would be the first thing that reading finds."""
    (tmp_path / "manifest.csv").write_text("path,class,source\ngone.wav,bell,attic\n")
    program = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
from mird.daemon.cli import main
sys.exit(main(sys.argv[1:]))
"""
    options = ["--engine", str(trained.folder / "encoder.onnx"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", program, "evaluate", str(tmp_path), "--suite", str(suite_file), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert (done.returncode, done.stdout) == (10, "")
    assert done.stderr == "mird: error: the report needs matplotlib; install it with: pip install 'mird[report]'\n"
    assert not (tmp_path / "out").exists()


def test_figures_are_kept_where_no_picture_can_be_drawn(tmp_path: Path) -> None:
    features = Features((), (), {}, {}, (), ())
    results = {"rows": [], "engines": [], "episodes": 1}
    with pytest.raises(StopIteration):  # nothing to map
        write_report(tmp_path / "out", results, features)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('without = "away"', 'without = "nowhere"', "without='nowhere' is no list; lists are away, three"),
        ("way = 2\n", "", "row 3: unknown='rest' needs a way"),
        ("targets = [20, 0, 99.9]", "targets = [20]", "row 1: targets needs one value for each of shots"),
        ("ahead = 5", "ahed = 5", "row 2: unknown key ahed"),
        ("shots = [2]", "shots = [0]", "row 2: shots=.* must be at least 1"),
        ("[lists]", "[list]", "unknown key list"),
    ],
)
def test_mistakes_of_a_suite_file(suite_file: Path, old: str, new: str, said: str) -> None:
    text = suite_file.read_text()
    assert old in text
    suite_file.write_text(text.replace(old, new, 1))
    with pytest.raises(TrainingError, match=said):
        read_suite(suite_file)


def test_unknown_class_without_recordings(
    trained: Any, orchestra: Path, suite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite_file.write_text(suite_file.read_text().replace('["_hiss"]', '["_speech"]'))
    options = ["--suite", str(suite_file), "--engine", str(trained.folder / "encoder.onnx"), "--no-live"]
    assert main(["evaluate", str(orchestra.parent), *options]) == 10
    assert capsys.readouterr().err == "mird: error: row 'all': class _speech has no recording that can be used\n"


def test_shipped_suite_is_read() -> None:
    suite = read_suite(shipped("suites/standard.toml"))
    assert suite.pool.without == ("vsco2", "vcsl")
    assert {row.weights for row in suite.rows} == {"default", "holdout"}
    assert [row.targets for row in suite.rows if row.targets] == [(65, 85), (0, 52), (0, 63), (80, 92)]


def test_interval_covers_seeds_as_well_as_episodes() -> None:
    rng = np.random.default_rng(0)
    tallies = [Tally(list(rng.normal(mean, 0.1, 400))) for mean in (0.4, 0.5, 0.6)]
    one, three = summary(tallies[:1], 0), summary(tallies, 0)
    assert one["ci95"] == pytest.approx([0.4 - 1.96 * 0.1 / 20, 0.4 + 1.96 * 0.1 / 20], abs=0.006)
    assert three["accuracy"] == pytest.approx(0.5, abs=0.01)
    assert three["ci95"][1] - three["ci95"][0] > 0.1


def test_auroc_has_an_interval_over_seeds_and_episodes() -> None:
    rng = np.random.default_rng(5)
    way, n_episodes = 4, 300

    def tally(ahead: float) -> Tally:
        """Scores of half steps, so that there are ties, and a mood of the whole episode's."""
        mood = np.repeat(rng.normal(0, 1, n_episodes), way)
        known, strange = (np.round(2 * (rng.normal(m, 1, way * n_episodes) + mood)) / 2 for m in (ahead, 0))
        return Tally([0.5] * n_episodes, {}, known.tolist(), strange.tolist())

    tallies = [tally(ahead) for ahead in (0.8, 1.0, 1.6)]
    one = tallies[0]
    times = np.stack([np.bincount(rng.integers(n_episodes, size=n_episodes), minlength=n_episodes) for _ in range(5)])
    for counts, found in zip(times, resampled_aurocs(one, times), strict=True):
        # As if the episodes were there as often as they count.
        known, strange = (np.repeat(np.array(s), np.repeat(counts, way)) for s in (one.known, one.strange))
        assert found == pytest.approx(auroc(known, strange))
    alone, all_three = summary(tallies[:1], 0), summary(tallies, 0)
    low, high = alone["auroc_unknown_ci95"]
    assert low < alone["auroc_unknown"] == one.auroc_unknown() < high
    assert high - low < 0.1
    low, high = all_three["auroc_unknown_ci95"]
    assert low < all_three["auroc_unknown"] < high
    assert high - low > 0.1  # the seeds differ by more than the episodes
    assert summary([Tally([0.5, 1.0])], 0)["auroc_unknown_ci95"] is None


def test_mfcc_tell_hum_from_hiss() -> None:
    t = np.arange(8_000) / 16_000
    rng = np.random.default_rng(1)
    hum, hiss = np.sin(2 * np.pi * 100 * t), rng.standard_normal(8_000)
    found = [mfcc_statistics((0.1 * wave).astype(np.float32), 16_000) for wave in (hiss, 2 * hiss, hum)]
    assert found[0].shape == (26,)
    assert np.isfinite(found).all()
    # Loudness is in the first coefficient's mean alone.
    np.testing.assert_allclose(found[0][1:], found[1][1:], atol=0.05)
    assert np.abs(found[0] - found[2])[1:].max() > 10


@pytest.mark.parametrize("arrays", [{"peer": np.zeros((2, 3))}, {"path": np.array(["a"]), "peer": np.zeros((2, 3))}])
def test_files_of_vectors_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "peer.npz", **arrays)
    with pytest.raises(TrainingError, match=r"peer\.npz: (is no \.npz file|array peer does not fit the 1 paths)"):
        read_peers([tmp_path / "peer.npz"])


def test_live_input_is_moved_coloured_and_noisy() -> None:
    t = np.arange(16_000) / 16_000
    note = (0.5 * np.sin(2 * np.pi * 440 * t) * np.exp(-3 * t)).astype(np.float32)
    rng = np.random.default_rng(4)
    changed = [make_live(rng, note, 16_000) for _ in range(20)]
    assert all(each.shape == note.shape and each.dtype == np.float32 for each in changed)
    assert all(np.abs(each).max() == pytest.approx(np.abs(note).max(), rel=1e-4) for each in changed)
    spectra = np.abs(np.fft.rfft(changed, axis=1))
    assert spectra[:, 400:480].argmax(axis=1) + 400 == pytest.approx(440, abs=3)  # the note is still there
    quiet = LiveSettings(shift_s=(0.25, 0.25), eq_db=0.0, direct_db=(60.0, 60.0), noise_db=(90.0, 90.0))
    moved = make_live(rng, note, 16_000, quiet)
    np.testing.assert_allclose(moved[4_000:], note[:12_000], atol=0.01)
    assert np.abs(moved[:3_900]).max() < 1e-3
    assert not make_live(rng, np.zeros(100, np.float32), 16_000).any()
