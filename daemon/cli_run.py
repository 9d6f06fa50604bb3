"""``mird run``: the daemon, and on its standard output what it publishes."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from mird.daemon.cli_settings import OPTIONS, SWITCHES, add_setting_arguments, settings_of
from mird.daemon.cli_target import keys_for

if TYPE_CHECKING:
    from mird.daemon.settings import Settings

JOIN_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    show = parser.add_mutually_exclusive_group()
    show.add_argument("--quiet", action="store_true", help="show nothing: for a service")
    show.add_argument("--json", action="store_true", help="one JSON object a message and line")
    parser.add_argument(
        "--or-demo",
        action="store_true",
        help="where no source is set and there is no microphone, play the demonstration; without a terminal, once",
    )
    add_setting_arguments(parser, *OPTIONS, *SWITCHES, "class_thresholds")


def run(args: argparse.Namespace) -> int:
    """Run until interrupted or told to stop, or until a file or standard input ends."""
    import signal

    # Until there is a daemon to reload, the settings are being read anyway. No child inherits a handler.
    signal.signal(signal.SIGHUP, lambda *_: None)
    effective = settings_of(args)  # a wrong one is told before anything heavy is imported
    settings = effective.settings

    import faulthandler
    import logging
    import threading

    from mird.clients.listen import form_for, kinds_for, listen
    from mird.clients.subscriber import Subscriber
    from mird.daemon.assembly import (
        control_address,
        engine_file,
        keys_folder,
        open_clips,
        open_engine,
        open_store,
        source_spec,
        waiting_name,
    )
    from mird.daemon.capture import open_capture
    from mird.daemon.engine_opener import EngineOpener
    from mird.daemon.logs import log_to_stderr
    from mird.daemon.memory import keep_memory_flat
    from mird.daemon.notify import Notifier
    from mird.daemon.paths import engine_cache
    from mird.daemon.publisher import Publisher
    from mird.daemon.service import Daemon
    from mird.kernels.recognizer_switching import SwitchingRecognizer

    demonstrated: dict[str, Any] = {}
    if args.or_demo and "source" not in effective.origins:
        demonstrated = _or_demonstration()
        settings = settings.model_copy(update=demonstrated)

    def load() -> "Settings":
        again = settings_of(args)
        source_spec(again.settings)  # a wrong one is told now, and not at the next start
        return again.settings.model_copy(update=demonstrated if "source" not in again.origins else {})

    keep_memory_flat()
    form = form_for(sys.stdout, json=args.json)
    level = settings.log_level.upper() if args.quiet or form != "live" else "ERROR"  # the live view has the screen
    log_to_stderr(level)

    notifier = Notifier.from_environment()
    if notifier.watchdog_s is not None:
        faulthandler.enable()  # where each thread hangs, when the watchdog aborts
    spec = source_spec(settings)
    capture = open_capture(spec)
    with notifier.starting("loading the encoder"):
        encoder = open_engine(settings, fastest=True)
        store = open_store(settings, encoder)
        recognizer = SwitchingRecognizer(encoder, wanted=settings.device == "cuda")
    opener = EngineOpener(recognizer, settings, engine_file(settings), engine_cache(), notifier=notifier)
    for label in settings.class_thresholds.keys() - set(store.snapshot.prototypes.names):
        logging.getLogger(__name__).warning("class_thresholds names %r, which is no class yet; see mird classes", label)
    clips = open_clips(settings)
    keys = keys_folder(settings)
    with opener, Publisher(settings.publish, keys=keys) as publisher:
        daemon = Daemon(
            settings,
            capture,
            recognizer,
            store,
            publisher,
            control_address(settings, create=True),
            waiting_name(spec),
            notifier=notifier,
            load=load,
            clips=clips,
            keys=keys,
        )

        def interrupt(*_: object) -> None:
            daemon.stop()
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the end hangs, a second one is heeded at once

        signal.signal(signal.SIGHUP, lambda *_: daemon.ask_reload())
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        signal.signal(signal.SIGINT, interrupt)
        if args.quiet:
            daemon.run()
            return 0
        ended = threading.Event()
        failures: list[BaseException] = []

        def show() -> None:
            try:
                listen(subscriber, sys.stdout, form, stop=ended)
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                failures.append(error)
                daemon.stop()

        with Subscriber(publisher.endpoint, kinds_for(form), keys=keys_for(settings, publisher.endpoint)) as subscriber:
            view = threading.Thread(target=show, name="mird-view")
            view.start()
            try:
                publisher.await_subscriber(JOIN_S)
                daemon.run()
            finally:
                ended.set()
                view.join()
        if failures:
            raise failures[0]
    return 0


def _or_demonstration() -> "dict[str, Any]":
    """Settings that play the demonstration, where there is no microphone or nobody to speak into it."""
    from mird.daemon.assembly import DEMONSTRATION
    from mird.daemon.devices import DeviceListError, list_inputs
    from mird.daemon.paths import shipped

    watched = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    try:
        microphones = list_inputs() if watched else []
    except DeviceListError:
        microphones = []
    if microphones:
        return {}
    return {"source": f"file:{shipped(DEMONSTRATION)}", "loop": watched}
