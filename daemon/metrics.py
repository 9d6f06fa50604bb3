"""The metrics: what a running daemon is doing, as Prometheus reads it, over HTTP on this machine alone.

Nothing is computed for it hop by hop but the stages' times, some readings of a clock: a reading of the daemon is taken
when somebody asks. One thread answers one client at a time, and lets go of one that dawdles.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from mird.daemon.capture import CaptureState
from mird.daemon.errors import EndpointError
from mird.daemon.progress import Series
from mird.daemon.reading import Reading

PATIENCE_S: Final = 2.0
"""Time that a client has for its request, and for taking the answer."""

QUANTILES: Final = (0.5, 0.99)

COUNTERS: Final = {
    "n_hops": "Hops that were recognised.",
    "n_hops_skipped": "Hops that were left out because the machine was too slow.",
    "n_overflows": "Times that the interface lost sound because nobody fetched it.",
    "n_gaps": "Times that sound is known to be missing or damaged.",
    "n_lost_frames": "Samples of each channel that were overwritten before they were read.",
    "n_opens": "Times that the source was opened.",
    "n_published": "Messages that were published.",
    "n_unsendable": "Messages that the wire format does not allow.",
    "n_requests": "Requests on the control socket.",
    "n_refused": "Requests that were malformed.",
    "n_replies_dropped": "Replies that were dropped: who asked did not read sixteen before them, or had gone.",
    "n_shut_out": "Connections that were shut out: without a key that is let in, or with too many subscriptions.",
    "n_clips": "Clips of events that were written.",
    "n_clips_dropped": "Clips that were not written: too many at once, or a disk that is full.",
    "n_clips_removed": "Clips that were removed to keep to the quota.",
}
"""Of a :class:`Reading`, with what they count; `n_hops` is published as ``mird_hops_total``."""

GAUGES: Final = {
    "uptime_seconds": "Time since the daemon started.",
    "degraded": "1 for ten seconds after a hop was left out to keep up, and while the CPU serves in a GPU's place.",
    "queue_seconds": "Sound that was captured and not yet taken up: less than a hop where the machine keeps up.",
    "subscribers": "Connections to the publishing socket.",
    "classes": "Classes of the support set.",
    "support_revision": "Revision of the support set.",
    "clip_store_bytes": "Size of the stored clips.",
    "clip_store_files": "Stored clips.",
}


class _Readings(Collector):
    """Turns a reading into Prometheus's families."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        reading = self._read()
        yield InfoMetricFamily("mird", "What runs.", dict(reading.info))
        states = {str(state): state == reading.state for state in CaptureState}
        yield StateSetMetricFamily("mird_source_state", "What the source is doing.", states)
        for name, value in reading.counters.items():
            yield CounterMetricFamily(f"mird_{name.removeprefix('n_')}", COUNTERS[name], value)
        for name, level in reading.gauges.items():
            yield GaugeMetricFamily(f"mird_{name}", GAUGES[name], level)
        dbfs = GaugeMetricFamily("mird_level_dbfs", "RMS level of the last hop.", labels=["channel"])
        gate = GaugeMetricFamily("mird_gate_open", "1 while the channel is not silent.", labels=["channel"])
        for each in reading.channels:
            dbfs.add_metric([str(each.channel)], each.level_dbfs)
            gate.add_metric([str(each.channel)], each.is_open)
        yield from (dbfs, gate, _stage_seconds(reading.stages))


def _stage_seconds(stages: Mapping[str, Series]) -> Metric:
    """Count, sum and quantiles of each stage."""
    family = SummaryMetricFamily(
        "mird_stage_seconds", "Time that a stage of a hop takes; the quantiles are of the newest 600.", labels=["stage"]
    )
    for stage, series in stages.items():
        for share, seconds in zip(QUANTILES, series.quantiles_s(QUANTILES), strict=False):
            family.add_sample("mird_stage_seconds", {"stage": stage, "quantile": f"{share:g}"}, seconds)
        family.add_metric([stage], series.n, series.total_s)
    return family


class MetricsServer:
    """Answers ``GET /metrics``; any other path too, for there is nothing else.

    Parameters
    ----------
    address : str
        ``127.0.0.1:PORT`` or ``[::1]:PORT``; port 0 takes any free one.
    read : Callable[[], Reading]
        Called in this server's thread, for each request.

    Attributes
    ----------
    url : str
        Where it answers.

    Raises
    ------
    EndpointError
        The address is in use, malformed, not this machine's, or reachable from the network.
    """

    def __init__(self, address: str, read: Callable[[], Reading]) -> None:
        host, port = _loopback(address)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Readings(read))
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise _refusal(address, error.strerror or str(error), "choose another port") from error
        self._server.set_app(make_wsgi_app(registry))
        shown = f"[{host}]" if ":" in host else host
        self.url: Final = f"http://{shown}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="mird-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def check_address(address: str) -> None:
    """Take an address for a moment; EndpointError, as of a :class:`MetricsServer`, where it cannot be had."""
    host, port = _loopback(address)
    try:
        _Server((host, port), _Handler).server_close()
    except OSError as error:
        raise _refusal(address, error.strerror or str(error), "choose another port") from error


class _Server(WSGIServer):
    request_queue_size = 8

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was too slow, is no news."""


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A request is no news."""


def _loopback(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not 0 <= int(port) < 65_536:
        raise _refusal(address, "not an address", "it is 127.0.0.1:PORT")
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        raise _refusal(address, "not a number of this machine", "use 127.0.0.1") from None
    if not number.is_loopback:
        raise _refusal(
            address, "whoever reaches this machine could read it", "use 127.0.0.1, and a proxy that asks who they are"
        )
    return host, int(port)


def _refusal(address: str, what: str, remedy: str) -> EndpointError:
    return EndpointError(f"cannot serve metrics at {address}: {what}; {remedy} (setting metrics, --metrics ADDRESS)")
