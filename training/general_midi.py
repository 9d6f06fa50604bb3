"""General MIDI programs as instruments: which class each is, in which range it is written, and how it is played."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """One General MIDI program.

    Attributes
    ----------
    number : int, range [0, 127]
    label : str
        Class name, as the manifests write it.
    low, high : int
        MIDI notes of the instrument's usual range.
    voices : int
        Notes that may sound together; 1 for a melody instrument.
    """

    number: int
    label: str
    low: int
    high: int
    voices: int = 1


PROGRAMS = (
    Program(0, "piano", 28, 96, 4),
    Program(1, "piano", 28, 96, 4),
    Program(4, "electric-piano", 36, 88, 4),
    Program(5, "electric-piano", 36, 88, 4),
    Program(6, "harpsichord", 36, 84, 3),
    Program(8, "celesta", 60, 100, 2),
    Program(9, "glockenspiel", 72, 103, 2),
    Program(11, "vibraphone", 53, 89, 2),
    Program(12, "marimba", 45, 91, 2),
    Program(13, "xylophone", 65, 103, 2),
    Program(14, "tubular-bells", 60, 77, 1),
    Program(15, "dulcimer", 50, 84, 2),
    Program(16, "organ", 36, 90, 3),
    Program(19, "organ", 36, 90, 3),
    Program(20, "organ", 40, 84, 3),
    Program(21, "accordion", 48, 88, 3),
    Program(22, "harmonica", 60, 88, 2),
    Program(24, "guitar", 40, 80, 3),
    Program(25, "guitar", 40, 80, 3),
    Program(26, "guitar-electric", 40, 82, 2),
    Program(27, "guitar-electric", 40, 82, 2),
    Program(30, "guitar-electric-distorted", 40, 82, 2),
    Program(32, "double-bass", 28, 60),
    Program(33, "bass-electric", 28, 60),
    Program(34, "bass-electric", 28, 60),
    Program(40, "violin", 55, 98),
    Program(41, "viola", 48, 84),
    Program(42, "cello", 36, 76),
    Program(43, "double-bass", 28, 62),
    Program(46, "harp", 30, 96, 3),
    Program(47, "timpani", 38, 57),
    Program(52, "choir", 48, 79, 3),
    Program(56, "trumpet", 54, 84),
    Program(57, "trombone", 40, 72),
    Program(58, "tuba", 28, 58),
    Program(60, "french-horn", 41, 77),
    Program(64, "saxophone-soprano", 56, 88),
    Program(65, "saxophone-alto", 49, 81),
    Program(66, "saxophone-tenor", 44, 76),
    Program(67, "saxophone-baritone", 36, 69),
    Program(68, "oboe", 58, 91),
    Program(69, "english-horn", 52, 81),
    Program(70, "bassoon", 34, 72),
    Program(71, "clarinet", 50, 91),
    Program(72, "piccolo", 74, 102),
    Program(73, "flute", 60, 96),
    Program(74, "recorder", 60, 94),
    Program(75, "pan-flute", 60, 91),
    Program(79, "ocarina", 60, 86),
    Program(104, "sitar", 48, 77),
    Program(105, "banjo", 48, 84, 2),
    Program(106, "shamisen", 50, 77),
    Program(107, "koto", 50, 84),
    Program(108, "kalimba", 60, 84, 2),
    Program(109, "bagpipe", 54, 81),
    Program(110, "fiddle", 55, 90),
    Program(114, "steel-drums", 52, 84),
)
"""Programs whose recordings in the free soundfonts are of real instruments."""
