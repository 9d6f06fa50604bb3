"""Draw the onset benchmark: ``python tests/benchmarks/chart_onset.py [results.json [chart.svg]]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mird.daemon.settings import Settings

RESULTS = Path(__file__).with_name("results")
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP, PLOT = 860, 400, 56, 56, 330, 88, 280
FONT = 'font-family="sans-serif" font-size="12"'
INK, FAINT = "#333", "#e4e8eb"
COLOURS = {0: "#1f7a8c", 50: "#4f9d69", 100: "#b08900", 200: "#c8553d", 300: "#7b4b94"}
MAX_WRONG, MAX_S = 25.0, 3.0

Row = dict[str, Any]
Point = tuple[float, float]


def line(points: list[Point], colour: str, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>'


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" {more}>{words}</text>'


def axes(
    left: float, title: str, across: list[tuple[float, str]], up: list[tuple[float, str]], below: str
) -> list[str]:
    """Frame, ticks (at shares of the panel) and titles of one panel."""
    bottom = TOP + PLOT
    parts = [text(left, TOP - 12, title), text(left + PANEL / 2, bottom + 36, below, 'text-anchor="middle"')]
    for share, words in across:
        x = left + share * PANEL
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="{FAINT}"/>')
        parts.append(text(x, bottom + 18, words, 'text-anchor="middle"'))
    for share, words in up:
        y = bottom - share * PLOT
        parts.append(f'<line x1="{left}" x2="{left + PANEL}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>')
        parts.append(text(left - 6, y + 4, words, 'text-anchor="end"'))
    return parts


def chart(result: dict[str, Any], which: str = "enrolled") -> str:
    """Right within a second against wrong events, and the times against hold_ms; a colour for each smoothing."""
    release = Settings().release_ms
    rows: list[Row] = [row for row in result["sets"][which] if row["hop_ms"] == 100 and row["release_ms"] == release]
    bottom, right = TOP + PLOT, LEFT + PANEL + GAP
    holds = sorted({row["hold_ms"] for row in rows})

    def trade(row: Row) -> Point:
        return LEFT + PANEL * row["wrong_per_minute"] / MAX_WRONG, bottom - PLOT * row["within_1s"]

    def taken(row: Row, what: str) -> Point:
        return right + PANEL * row["hold_ms"] / holds[-1], bottom - PLOT * row[what] / MAX_S

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(12, 22, "From an instrument's first sound to its event; a colour for each smoothing_ms", 'font-size="14"'),
        *axes(
            LEFT,
            "share that is right within 1 s; dots: hold_ms",
            [(n / MAX_WRONG, str(n)) for n in range(0, int(MAX_WRONG) + 1, 5)],
            [(n / 100, f"{n} %") for n in range(0, 101, 20)],
            "wrong events a minute of playing",
        ),
        *axes(
            right,
            "s: median, and 90th percentile (dashed)",
            [(hold / holds[-1], str(hold)) for hold in holds],
            [(s / MAX_S, f"{s:g}") for s in (0, 0.5, 1, 1.5, 2, 2.5, 3)],
            "hold_ms",
        ),
    ]
    for number, (smoothing, colour) in enumerate(COLOURS.items()):
        own = sorted((row for row in rows if row["smoothing_ms"] == smoothing), key=lambda row: int(row["hold_ms"]))
        shown = [row for row in own if row["wrong_per_minute"] <= MAX_WRONG]
        parts.append(line([trade(row) for row in shown], colour))
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (trade(row) for row in shown)
        ]
        for what, dash in (("median_s", ""), ("p90_s", "5 4")):
            times = [row for row in own if row[what] is not None and row[what] <= MAX_S]
            parts.append(line([taken(row, what) for row in times], colour, dash))
        at = WIDTH - 250 + 50 * number
        parts.append(f'<rect x="{at}" y="{HEIGHT - 14}" width="10" height="10" fill="{colour}"/>')
        parts.append(text(at + 14, HEIGHT - 5, str(smoothing)))
    for row in rows:
        if (row["smoothing_ms"], row["hold_ms"]) == (Settings().smoothing_ms, Settings().hold_ms):
            for x, y in (trade(row), taken(row, "median_s"), taken(row, "p90_s")):
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="{INK}" stroke-width="2"/>')
            x, y = trade(row)
            parts.append(text(x + 4, y + 22, "default"))
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    arguments = [Path(argument) for argument in sys.argv[1:]]
    source = arguments[0] if arguments else RESULTS / "onset.json"
    target = arguments[1] if len(arguments) > 1 else RESULTS / "onset.svg"
    target.write_text(chart(json.loads(source.read_text())))


if __name__ == "__main__":
    main()
