"""Draw the scalogram's benchmark and write its table into README.md: ``python tests/benchmarks/chart_scalogram.py``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- by chart_scalogram.py -->\n", "<!-- to here -->\n"
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


def table(result: dict[str, Any]) -> str:
    """Medians and the least, and how many times faster mird is, as a Markdown table of peers and numbers of threads."""
    runs = sorted(result["runs"], key=lambda run: run["n_threads"])
    own = {"mird scipy": "mird with SciPy alone", "mird ducc0": "mird with the extra `fast` (ducc0)"}
    heads = [
        f"{run['n_threads']} thread{'s' * (run['n_threads'] > 1)} | SciPy, `fast` faster (at best)" for run in runs
    ]
    lines = [f"| median ms (at best) | {' | '.join(heads)} |", "|---|" + "---|---|" * len(runs)]
    for name in [*own, *runs[0]["times_faster"]]:
        cells = [own.get(name, name)]
        for run in runs:
            cells.append(f"{run['median_ms'][name]:.3g} ({run['least_ms'][name]:.3g})")
            both = [run[key].get(name) for key in ("times_faster", "times_faster_at_best")]
            middle, best = (
                ", ".join(f"{of[library]:.3g}" for library in ("scipy", "ducc0")) if of else "" for of in both
            )
            cells.append(f"{middle} times ({best})" if middle else "")
        lines.append(f"| {' | '.join(cells)} |")
    channels = [
        f"{'/'.join(run['ms_per_channel'])} channels in one call on {run['n_threads']} thread(s): "
        + ", ".join(
            f"{library} {'/'.join(f'{of[library]:.2f}' for of in run['ms_per_channel'].values())}"
            for library in own_names(run)
        )
        for run in runs
    ]
    machine = result["machine"]
    where = f"{machine['processor']}, {machine['n_cores']} cores, load {machine['load']:.1f}, {machine['date']}"
    return "\n".join([*lines, "", f"{where}. Milliseconds a channel, {'; '.join(channels)}.", ""])


def own_names(run: dict[str, Any]) -> list[str]:
    """mird's libraries in a run."""
    return sorted(next(iter(run["ms_per_channel"].values())), reverse=True)


def main() -> None:
    result = json.loads((RESULTS / "scalogram.json").read_text())
    (RESULTS / "scalogram.svg").write_text(chart(result))
    before, _, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(result)}\n{end}{after}")


if __name__ == "__main__":
    main()
