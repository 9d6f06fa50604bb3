"""`mird render`: phrases that a real synthesiser plays on a real soundfont."""

import csv
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from mird.training.demonstration import PART_S, PARTS, REST_S, make_demonstration
from mird.training.errors import TrainingError
from mird.training.general_midi import PROGRAMS, Program
from mird.training.manifest import read_manifest
from mird.training.render import check_soundfont, play, random_phrases, render_clips

SOUNDFONTS = (Path("/usr/share/sounds/sf2/TimGM6mb.sf2"), Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"))

VIOLIN = Program(40, "violin", 55, 98)
ORGAN = Program(19, "organ", 36, 90, 3)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def soundfont() -> Path:
    found = next((path for path in SOUNDFONTS if path.exists()), None)
    if found is None or shutil.which("fluidsynth") is None:
        pytest.skip("needs fluidsynth and a soundfont: apt install fluidsynth timgm6mb-soundfont")
    return found


def test_two_programs_three_seconds(soundfont: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    manifest = render_clips(
        [soundfont],
        tmp_path / "out",
        seconds=3,
        seed=1,
        programs=[VIOLIN, ORGAN],
        progress=lambda *report: seen.append(report),
    )
    assert [report[:2] for report in seen] == [(1, 2), (2, 2)]
    rows = read_manifest(manifest)
    counts = Counter((r.label, r.source) for r in rows)
    assert set(counts) == {("violin", f"{soundfont.stem}-40"), ("organ", f"{soundfont.stem}-19")}
    assert all(2 <= n <= 3 for n in counts.values())
    for row in rows:
        samples, rate_hz = soundfile.read(row.path)
        assert (rate_hz, samples.shape) == (44_100, (44_100,))
        assert np.abs(samples).max() == pytest.approx(0.7, abs=1e-3)


def test_seed_decides_everything(soundfont: Path, tmp_path: Path) -> None:
    one, two, other = (
        render_clips([soundfont], tmp_path / str(number), seconds=1, seed=seed, programs=[VIOLIN])
        for number, seed in enumerate((1, 1, 2))
    )
    clips = [[soundfile.read(r.path)[0] for r in read_manifest(manifest)] for manifest in (one, two, other)]
    np.testing.assert_array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


def test_note_has_its_pitch(soundfont: Path) -> None:
    score = mido.MidiFile()
    track = mido.MidiTrack(
        [
            mido.Message("program_change", program=73),
            mido.Message("note_on", note=69, velocity=100),
            mido.Message("note_off", note=69, time=960),
        ]
    )
    score.tracks.append(track)
    sound = play(score, soundfont, reverberation=0.0)
    spectrum = np.abs(np.fft.rfft(sound[4_410:26_460] * np.hanning(22_050)))
    assert np.argmax(spectrum) * 44_100 / 22_050 == pytest.approx(440, rel=0.01)


@pytest.mark.system
def test_demonstration(mird: Run, soundfont: Path, tmp_path: Path) -> None:
    done = mird("render", soundfont, "--demonstration", "--out", tmp_path / "demo")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}/demo/demo.flac\n", "")
    with (tmp_path / "demo" / "demo.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [label for label, _ in PARTS]
    samples, rate_hz = soundfile.read(tmp_path / "demo" / "demo.flac")
    assert len(samples) == round((PART_S + REST_S) * len(PARTS) * rate_hz)
    for row in rows:
        part = samples[round(float(row["start_s"]) * rate_hz) : round(float(row["end_s"]) * rate_hz)]
        assert np.abs(part).max() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("options", "said"), [(["--seconds", "0"], "--seconds 0"), (["--seed", "-1"], "--seed -1")])
def test_arguments_that_make_no_sense(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    from mird.daemon.cli import main

    assert main(["render", "any.sf2", "--out", "/nowhere", *options]) == 10
    assert f"mird: error: {said}: must be at least" in capsys.readouterr().err


def test_file_that_is_no_soundfont(tmp_path: Path) -> None:
    """FluidSynth would play its default soundfont in the place of it, and say nothing."""
    with pytest.raises(TrainingError, match=r"gone\.sf2: No such file.*fluid-soundfont-gm"):
        check_soundfont(tmp_path / "gone.sf2")
    (tmp_path / "bad.sf2").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    with pytest.raises(TrainingError, match=r"bad\.sf2: is no soundfont"):
        render_clips([tmp_path / "bad.sf2"], tmp_path, seconds=1, seed=0)
    with pytest.raises(TrainingError, match=r"bad\.sf2: is no soundfont"):
        make_demonstration(tmp_path / "bad.sf2", tmp_path / "a.flac", tmp_path / "a.csv")


def test_damaged_soundfont(soundfont: Path, tmp_path: Path) -> None:
    """FluidSynth would play its default soundfont in the place of this one, too, and end well."""
    (tmp_path / "cut.sf2").write_bytes(soundfont.read_bytes()[:2_000])
    with pytest.raises(TrainingError, match=r"fluidsynth could not play .*cut\.sf2"):
        render_clips([tmp_path / "cut.sf2"], tmp_path / "out", seconds=1, seed=0, programs=[VIOLIN])


def test_preset_that_is_not_there(soundfont: Path) -> None:
    score = mido.MidiFile()
    bank = mido.Message("control_change", control=0, value=77)
    score.tracks.append(mido.MidiTrack([bank, mido.Message("program_change", program=40)]))
    with pytest.raises(TrainingError, match=r"could not play .*Instrument not found on channel 0"):
        play(score, soundfont, reverberation=0.0)


def test_synthesiser_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrainingError, match=r"fluidsynth is not installed; .*apt install fluidsynth"):
        play(mido.MidiFile(), tmp_path / "any.sf2", reverberation=0.0)


def test_folder_that_cannot_be_written(soundfont: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot write the sound"):
        render_clips([soundfont], tmp_path / "file", seconds=1, seed=0, programs=[VIOLIN])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"{program.number}-{program.label}")
def test_phrases_stay_in_the_instrument_s_range(program: Program) -> None:
    score = random_phrases(np.random.default_rng(program.number), program, 5)
    messages = list(score)
    assert messages[0].dict()["program"] == program.number
    notes = [m for m in messages if m.type == "note_on"]
    assert len(notes) >= 3
    assert all(program.low <= m.note <= program.high for m in notes)
    assert all(20 <= m.velocity <= 127 for m in notes)
    assert score.length > 4
    if program.voices == 1:
        # Notes of a melody may touch, but no three sound at once.
        sounding = most = 0
        for message in messages:
            sounding += {"note_on": 1, "note_off": -1}.get(message.type, 0)
            most = max(most, sounding)
        assert most <= 2


def test_programs_are_named_as_the_manifests_name_them() -> None:
    assert all(0 <= p.number <= 127 and p.low < p.high and 1 <= p.voices <= 4 for p in PROGRAMS)
    assert all(a.number < b.number for a, b in pairwise(PROGRAMS))
    assert all(p.label == p.label.lower() and " " not in p.label for p in PROGRAMS)
    assert {label for label, _ in PARTS} <= {p.label for p in PROGRAMS}
