"""Training clips out of soundfonts: phrases that FluidSynth plays on instruments of General MIDI.

Every preset of every soundfont is another instrument in another room: a source. Melodies are drawn with a seed, so that
the same command gives the same clips.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import mido
import numpy as np
import soundfile
from numpy.typing import NDArray

from mird.training.audio import CLIP_PEAK, write_clip
from mird.training.errors import TrainingError
from mird.training.general_midi import PROGRAMS, Program
from mird.training.manifest import write_manifest

RATE_HZ = 44_100
TICKS_PER_S = 960
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), tuple(range(12)))
QUIET = 1e-3

Progress = Callable[[int, int, str], None]


def render_clips(
    soundfonts: Sequence[Path],
    folder: Path,
    *,
    seconds: int,
    seed: int,
    programs: Sequence[Program] = PROGRAMS,
    progress: Progress | None = None,
) -> Path:
    """Play random phrases on programs of every soundfont and cut them into one-second clips.

    Parameters
    ----------
    soundfonts : sequence of Path
        SF2 or SF3 files.
    folder : Path
        Gets ``manifest.csv`` and a FLAC file a clip.
    seconds : int > 0
        Seconds of playing for each preset: as many clips, less the quiet ones.
    seed : int >= 0
    programs : sequence of Program
    progress : callable (done, total, what) or None

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    TrainingError
        If FluidSynth or a soundfont is missing, a preset cannot be played, or a file cannot be written.
    """
    for soundfont in soundfonts:
        check_soundfont(soundfont)
    rows = []
    jobs = [(soundfont, program) for soundfont in soundfonts for program in programs]
    for number, (soundfont, program) in enumerate(jobs):
        rng = np.random.default_rng((seed, number))
        sound = play(random_phrases(rng, program, seconds), soundfont, reverberation=float(rng.uniform(0.0, 0.5)))
        source = f"{soundfont.stem}-{program.number}"
        for second in range(min(seconds, len(sound) // RATE_HZ)):
            clip = sound[second * RATE_HZ : (second + 1) * RATE_HZ]
            if np.abs(clip).max() < QUIET:
                continue
            path = folder / source / f"{second:04d}.flac"
            write_clip(path, clip / np.abs(clip).max() * CLIP_PEAK, RATE_HZ)
            rows.append((path.relative_to(folder), program.label, source))
        if progress:
            progress(number + 1, len(jobs), "playing soundfonts")
    return write_manifest(folder / "manifest.csv", rows)


def check_soundfont(path: Path) -> None:
    """Refuse what FluidSynth would silently play with its default soundfont in the place of.

    Raises
    ------
    TrainingError
        If the file is missing or no soundfont.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; Debian's fluid-soundfont-gm installs a soundfont") from None
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise TrainingError(f"{path}: is no soundfont; an SF2 or SF3 file is needed")


def play(score: mido.MidiFile, soundfont: Path, *, reverberation: float) -> NDArray[np.float32]:
    """Play a score with FluidSynth.

    Parameters
    ----------
    reverberation : float, range [0, 1]
        Level of the synthesiser's room; 0 switches it off.

    Returns
    -------
    NDArray[float32], shape (n,), at 44.1 kHz, mono

    Raises
    ------
    TrainingError
        If FluidSynth is missing, cannot play, or had to take another preset than the score's.
    """
    program = shutil.which("fluidsynth")
    if program is None:
        raise TrainingError("fluidsynth is not installed; it plays the soundfonts: apt install fluidsynth")
    with tempfile.TemporaryDirectory() as folder:
        midi, wave = Path(folder) / "score.mid", Path(folder) / "score.wav"
        score.save(str(midi))
        command = [program, "-ni", "-q", "-r", str(RATE_HZ), "-g", "0.6", "-T", "wav", "-O", "float", "-F", str(wave)]
        command += ["-o", f"synth.reverb.active={int(reverberation > 0)}"]
        command += ["-o", f"synth.reverb.level={reverberation:.2f}", "-o", "synth.chorus.active=0"]
        command += [str(soundfont), str(midi)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        # It ends well, too, where it played its default soundfont or another preset instead.
        lines = result.stderr.splitlines()
        reason = [line for line in lines if "error: " in line or "not found on channel 0 " in line]
        if result.returncode or not wave.exists() or reason:
            reason = reason or lines[-1:] or ["no output"]
            raise TrainingError(f"fluidsynth could not play {soundfont}: {reason[0]}")
        samples, _ = soundfile.read(wave, dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.mean(axis=1))


def random_phrases(rng: np.random.Generator, program: Program, seconds: int) -> mido.MidiFile:
    """Melodies with rests, of changing tempo, scale, register, loudness and articulation, on one program."""
    score = mido.MidiFile(ticks_per_beat=TICKS_PER_S // 2)  # at the default 120 beats a minute: TICKS_PER_S a second
    track = mido.MidiTrack()
    score.tracks.append(track)
    events: list[tuple[float, int, mido.Message]] = [(0.0, 0, mido.Message("program_change", program=program.number))]
    at_s = 0.05
    note = int(rng.integers(program.low, program.high + 1))
    while at_s < seconds:
        scale = SCALES[int(rng.integers(len(SCALES)))]
        beat_s = float(np.exp(rng.uniform(np.log(0.09), np.log(0.9))))
        velocity = int(rng.integers(45, 120))
        length = rng.uniform(0.35, 1.05)
        key = int(rng.integers(12))
        events.append((at_s, 0, mido.Message("control_change", control=1, value=int(rng.choice([0, 0, 30, 70])))))
        for _ in range(int(rng.integers(3, 14))):
            step = int(rng.choice([-4, -3, -2, -1, -1, 0, 1, 1, 2, 3, 4]))
            note = min(max(note + step, program.low), program.high)
            pitch = min(
                (p for p in range(program.low, program.high + 1) if (p - key) % 12 in scale),
                key=lambda p: abs(p - note),
            )
            beats = float(rng.choice([0.5, 1, 1, 1, 2, 3]))
            n_voices = int(rng.integers(1, program.voices + 1)) if program.voices > 1 and rng.random() < 0.4 else 1
            sounding = min(beats * beat_s * length, 4.0)
            for voice in range(n_voices):
                tone = pitch + (0, 4, 7, 12)[voice]
                if tone > program.high:
                    break
                loud = int(np.clip(velocity + rng.normal(0, 8), 20, 127))
                events.append((at_s, 2, mido.Message("note_on", note=tone, velocity=loud)))
                events.append((at_s + max(sounding, 0.05), 1, mido.Message("note_off", note=tone)))
            at_s += beats * beat_s
        at_s += float(rng.choice([0.0, 0.1, 0.4]))
        if rng.random() < 0.4:
            note = int(rng.integers(program.low, program.high + 1))
    now = 0
    for time_s, _, message in sorted(events, key=lambda event: event[:2]):
        tick = round(time_s * TICKS_PER_S)
        track.append(message.copy(time=max(0, tick - now)))
        now = max(now, tick)
    return score
