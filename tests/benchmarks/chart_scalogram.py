"""Draw the scalogram's benchmark: ``python tests/benchmarks/chart_scalogram.py [results.json [chart.svg]]``."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

RESULTS = Path(__file__).with_name("results")
WIDTH, LEFT, BAR, GAP, TOP = 720, 230, 18, 8, 44
FONT = 'font-family="sans-serif" font-size="12"'
TITLE = "Morse scalogram of one second, 151 scales: milliseconds at best"
OURS, THEIRS, INK, FAINT = "#1f7a8c", "#b8c4cc", "#333", "#e4e8eb"


def chart(result: dict[str, Any], n_threads: int = 1) -> str:
    """One bar a library on a logarithmic axis of milliseconds, slowest first."""
    run = next(run for run in result["runs"] if run["n_threads"] == n_threads)
    rows = sorted(run["least_ms"].items(), key=lambda item: -item[1])
    lowest, highest = 1.0, 10 ** math.ceil(math.log10(rows[0][1]))
    span = WIDTH - LEFT - 90

    def x(ms: float) -> float:
        return LEFT + span * math.log(ms / lowest) / math.log(highest / lowest)

    height = TOP + len(rows) * (BAR + GAP) + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="22" fill="{INK}" font-size="14">{TITLE}, {n_threads} thread</text>',
    ]
    tick = 1
    while tick <= highest:
        ends = f'x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 8}" y2="{height - 24}"'
        parts.append(f'<line {ends} stroke="{FAINT}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 9}" fill="{INK}" text-anchor="middle">{tick}</text>')
        tick *= 10
    for number, (name, ms) in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        own = name.startswith("mird")
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" fill="{INK}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{x(ms) - LEFT:.1f}" height="{BAR}" fill="{OURS if own else THEIRS}"/>'
        )
        parts.append(f'<text x="{x(ms) + 6:.1f}" y="{y + 13}" fill="{INK}">{ms:.1f} ms</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    arguments = [Path(argument) for argument in sys.argv[1:]]
    source = arguments[0] if arguments else RESULTS / "scalogram.json"
    target = arguments[1] if len(arguments) > 1 else RESULTS / "scalogram.svg"
    target.write_text(chart(json.loads(source.read_text())))


if __name__ == "__main__":
    main()
