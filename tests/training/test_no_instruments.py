"""`mird render --no-instruments`: made noises, speech by real synthesisers, and recorded speech that is cut."""

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mird.daemon.cli import main
from mird.training import no_instruments
from mird.training.errors import TrainingError
from mird.training.manifest import read_manifest
from mird.training.no_instruments import RATE_HZ, render_no_instruments
from mird.training.noises import room_tone
from mird.training.speech import speakers

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(no_instruments, "NOISES_EACH", 1)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Prompts of one speaker: forty short files in two folders."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "Ada"
    for number in range(40):
        path = folder / ("digits" if number % 2 else "letters") / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8_000 // 2), 8_000, subtype="PCM_16")
    return folder


@pytest.mark.usefixtures("few")
def test_everybody_speaks_and_every_noise_sounds(prompts: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    manifest = render_no_instruments(
        [prompts], tmp_path / "out", seconds=2, seed=0, progress=lambda *report: seen.append(report)
    )
    rows = read_manifest(manifest)
    counts = Counter((row.label, row.source) for row in rows)
    spoken = {("_speech", name): 2 for name in speakers()}
    assert {"espeak-ng", "flite"} == {name.rsplit("-", 1)[0].removesuffix("-en") for name in speakers()}
    noises = {("_noise", f"made-{colour}"): 1 for colour in ("white", "pink", "brown", "blue", "violet")}
    assert counts == {**noises, ("_hum", "made-hum"): 10, ("_room", "made-room"): 10, **spoken, ("_speech", "Ada"): 2}
    assert not any(row.is_instrument for row in rows)
    assert [report[0] for report in seen] == list(range(1, len(noises) + len(spoken) + 4))
    for row in rows:
        samples, rate_hz = soundfile.read(row.path)
        assert (rate_hz, samples.shape) == (RATE_HZ, (RATE_HZ,))
        assert np.abs(samples).max() == pytest.approx(0.7, abs=1e-3)


def test_room_tone_is_dark_and_no_two_rooms_are_alike() -> None:
    rng = np.random.default_rng(0)
    rooms = np.stack([room_tone(rng, 16_000, 16_000) for _ in range(20)])
    np.testing.assert_allclose(np.abs(rooms).max(1), 0.3, atol=1e-6)
    power = np.abs(np.fft.rfft(rooms)) ** 2
    shares = power[:, :1000].sum(1) / power.sum(1)  # below 1 kHz of 8: of white noise an eighth
    assert (shares > 0.3).all()
    bands = np.log(np.add.reduceat(power, 2 ** np.arange(4, 13), axis=1))
    apart = np.abs(bands[:, None] - bands[None]).max(2)
    assert apart[~np.eye(20, dtype=bool)].mean() > 1.5


@pytest.mark.usefixtures("few")
def test_seed_decides_everything(tmp_path: Path) -> None:
    one, two, other = (
        [
            soundfile.read(row.path)[0]
            for row in read_manifest(render_no_instruments([], tmp_path / to, seconds=1, seed=k))
        ]
        for to, k in (("one", 1), ("two", 1), ("other", 2))
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.usefixtures("few")
def test_folder_without_speech(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="empty: holds less than eight seconds of sound; give a folder"):
        render_no_instruments([tmp_path / "empty"], tmp_path / "out", seconds=1, seed=0)
    assert not (tmp_path / "out").exists()  # it is said before anything is made


@pytest.mark.usefixtures("few")
def test_damaged_and_silent_prompts_are_left_out(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (prompts / "torn.wav").write_bytes(b"RIFF and no more")
    soundfile.write(prompts / "mute.wav", np.zeros(8_000), 8_000)
    command = ["render", "--no-instruments", "--seconds", "60", "--out"]
    assert main([*command, str(tmp_path / "out"), str(prompts)]) == 0
    left_out = sorted(line for line in capsys.readouterr().err.splitlines() if line.startswith("left out"))
    assert left_out[0] == f"left out, without sound: {prompts}/mute.wav"
    assert left_out[1].startswith(f"left out: {prompts}/torn.wav: cannot read the sound")
    assert len(left_out) == 2
    assert Counter(row.source for row in read_manifest(tmp_path / "out" / "manifest.csv"))["Ada"] > 29


def test_synthesisers_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TrainingError, match=r"neither espeak-ng nor flite is installed.*apt install espeak-ng flite"):
        render_no_instruments([], tmp_path / "out", seconds=1, seed=0)


@pytest.mark.system
def test_command_without_anything_to_play(mird: Run, tmp_path: Path) -> None:
    done = mird("render", "--out", tmp_path)
    assert (done.returncode, done.stdout) == (10, "")
    assert done.stderr == "mird: error: give a soundfont; Debian's fluid-soundfont-gm installs one\n"
