"""Lines of a terminal that say what is so now: what `mird listen`, `mird run` and `mird watch` show alike."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from mird.clients.scene import Scene

QUIET_DBFS = -60.0
SILENT_DAEMON_S = 3.0
LEAST_SCORE = 0.005
"""What is less likely is nothing to list."""
NO_INSTRUMENT = ("silence", "unknown")

_STATE_STYLES = {"LIVE": "bold green", "WAITING": "bold yellow", "ENDED": "bold cyan"}

_TROUBLES = {
    "n_hops_skipped": "hops skipped",
    "n_overflows": "overflows",
    "n_gaps": "gaps",
    "n_lost_frames": "samples lost",
}


@dataclass(frozen=True)
class Glyphs:
    """What bars are drawn with."""

    full: str = "█"
    empty: str = "░"


ASCII = Glyphs("#", ".")


def headline(scene: Scene) -> Text:
    """Version, source and state; or that nothing comes."""
    if scene.is_empty:
        return Text.assemble(("mird", "bold"), f"  nothing yet from {scene.endpoint}; start one with `mird run`")
    if scene.silent_s > SILENT_DAEMON_S:
        return Text.assemble(("mird", "bold"), (f"  no sign of life for {scene.silent_s:.0f} s", "bold red"))
    if scene.state is None:
        return Text.assemble(("mird", "bold"))
    style = _STATE_STYLES.get(scene.state.state, "bold red")
    return Text.assemble(
        (f"mird {scene.state.version}", "bold"),
        f"  {scene.state.source}  ",
        (scene.state.state, style),
        f"  {scene.state.detail}",
    )


def health(scene: Scene) -> str:
    """Classes, latency, what went wrong, engine."""
    parts = []
    if scene.state is not None:
        parts.append(f"{len(scene.state.classes)} classes")
        parts.append(f"hop {scene.state.hop_s * 1000:.0f} ms")
    latency = next(iter(scene.frames.values())).latency_ms if scene.frames else None
    if latency is not None:
        parts.append(f"latency {latency:.0f} ms")
    if scene.heartbeat is not None:
        if scene.heartbeat.latency_p99_ms is not None:
            parts.append(f"p99 {scene.heartbeat.latency_p99_ms:.0f} ms")
        lost = [(name, n) for name, n in scene.heartbeat.counters.items() if n and name in _TROUBLES]
        parts.extend(f"{n} {_TROUBLES[name]}" for name, n in lost)
    if any(frame.degraded for frame in scene.frames.values()):
        parts.append("DEGRADED")
    if scene.state is not None:
        parts.append(scene.state.engine)
    return ", ".join(parts)


def channel_line(scene: Scene, channel: int, width: int, glyphs: Glyphs) -> Text:
    """Number, label, confidence, level meter."""
    frame, level = scene.frames.get(channel), scene.levels.get(channel)
    label = frame.label if frame is not None else "-"
    sure = f"{frame.confidence * 100:3.0f} %" if frame is not None else "     "
    rms, peak = (level.rms_dbfs, level.peak_dbfs) if level else (frame.level_dbfs if frame else None, None)
    text = Text(f"{channel:>3}  ")
    text.append(sized(label, _name_width(width)), "dim" if label in NO_INSTRUMENT else "bold green")
    text.append(f" {sure}  ")
    if rms is not None:
        share = min(1.0, max(0.0, 1 - (rms if peak is None else peak) / QUIET_DBFS))
        style = "red" if share >= 0.95 else "yellow" if share >= 0.8 else "green"
        text.append_text(bar(min(1.0, max(0.0, 1 - rms / QUIET_DBFS)), 20, style, glyphs))
        text.append(f" {rms:4.0f} dBFS" if rms > -100 else "  no sound")
    return text


def score_lines(scene: Scene, channel: int, n_lines: int, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """The likeliest classes; always `n_lines` lines, so that nothing jumps."""
    frame = scene.frames.get(channel)
    top = [row for row in frame.top[:n_lines] if row.score >= LEAST_SCORE] if frame is not None else []
    name_width = _name_width(width)
    for row in top:
        text = Text(f"     {sized(row.label, name_width)} {row.score * 100:3.0f} %  ")
        text.append_text(bar(row.score, max(5, min(40, width - name_width - 16)), "cyan", glyphs))
        yield text
    for _ in range(n_lines - len(top)):
        yield Text()


def bar(share: float, width: int, style: str, glyphs: Glyphs) -> Text:
    """A bar of which a share in [0, 1] is full."""
    n_full = round(share * width)
    return Text.assemble((glyphs.full * n_full, style), (glyphs.empty * (width - n_full), "dim"))


def sized(label: str, width: int) -> str:
    """A label in exactly so many cells; East Asian letters take two."""
    return label + " " * (width - cell_len(label)) if cell_len(label) <= width else set_cell_size(label, width)


def _name_width(width: int) -> int:
    return max(8, min(30, width - 50))
