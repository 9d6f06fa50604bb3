"""``mird tag``: what is heard in recordings, by the live path at full speed."""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mird.daemon.cli_settings import add_setting_arguments, settings_of

if TYPE_CHECKING:
    from mird.daemon.messages import Event, Frame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="recording of any format that libsndfile reads")
    parser.add_argument("--frames", action="store_true", help="a line for each hop instead of each event")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object an event (or frame) and line, as published")
    form.add_argument("--csv", action="store_true", help="file,channel,start_s,end_s,label,score")
    form.add_argument("--audacity", action="store_true", help="Audacity's label track; for one file of one channel")
    add_setting_arguments(
        parser, "channels", "hop_ms", "engine", "support", "silence_dbfs", "unknown_threshold", "smoothing_ms",
        "hold_ms", "wary_hold_ms", "release_ms", "top_k", "threads", "class_thresholds",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Tag each file; an unreadable one is reported, the others are tagged, and its exit status is the command's."""
    from mird.clients.lines import audacity_line
    from mird.daemon.assembly import open_engine, open_store, source_spec
    from mird.daemon.errors import SourceError
    from mird.daemon.message_codec import to_map
    from mird.daemon.messages import Event, Frame
    from mird.daemon.source import shown
    from mird.daemon.tagging import Tagger
    from mird.kernels.recognizer import Recognizer

    settings = settings_of(args).settings
    encoder = open_engine(settings)
    tagger = Tagger(Recognizer(encoder), open_store(settings, encoder).snapshot, settings)
    wanted = Frame if args.frames else Event
    table = csv.writer(sys.stdout, lineterminator="\n")
    if args.csv:
        table.writerow(("file", "channel", "start_s", "end_s", "label", "score"))
    status = 0
    for file in args.files:
        name = shown(file)
        n_told = 0
        try:
            spec = source_spec(settings.model_copy(update={"source": f"file:{file}"}))
            for message in tagger.tag(spec):
                if not isinstance(message, wanted):
                    continue
                n_told += 1
                if args.json:
                    values = to_map(message)
                    print(json.dumps({"file": name, **values}, ensure_ascii=False))
                    continue
                row = _row(message)
                if row is None:
                    continue
                start_s, end_s, label, score = row
                if args.csv:
                    table.writerow((name, message.channel, f"{start_s:.3f}", f"{end_s:.3f}", label, f"{score:.3f}"))
                elif args.audacity:
                    print(audacity_line(start_s, end_s, label))
                else:
                    where = Path(name).name if len(args.files) > 1 else ""
                    print(
                        f"{where:<24.24}" * bool(where)
                        + f"{message.channel:>3} {start_s:9.2f} {end_s:9.2f}  {label:<24} {score:.2f}"
                    )
            if not n_told:
                print(f"mird: {name}: no instrument heard", file=sys.stderr)
        except SourceError as error:
            print("mird: error:", error, file=sys.stderr)
            status = error.exit_status
    return status


def _row(message: "Event | Frame") -> tuple[float, float, str, float] | None:
    """Start and end in seconds, label and score; None for the start of an event, which its end repeats."""
    rate_hz = message.rate_hz
    from mird.daemon.messages import Event

    if isinstance(message, Event):
        if message.sample_end is None:
            return None
        return message.sample_start / rate_hz, message.sample_end / rate_hz, message.label, message.score
    return message.sample_end / rate_hz - message.hop_s, message.sample_end / rate_hz, message.label, message.confidence
