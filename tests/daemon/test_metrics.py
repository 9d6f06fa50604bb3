"""The metrics over real HTTP: what they say, who may ask, and clients that dawdle."""

import socket
import time
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import quickest

from mird.daemon.errors import EndpointError
from mird.daemon.metrics import MetricsServer
from mird.daemon.progress import N_KEPT, STAGES, Progress
from mird.daemon.reading import ChannelReading, Reading

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(url: str) -> Samples:
    """Every sample, by its name and labels, as Prometheus's own parser reads it."""
    with urllib.request.urlopen(url, timeout=30.0) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def progress() -> Progress:
    return Progress()


@pytest.fixture
def server(progress: Progress) -> Iterator[MetricsServer]:
    def read() -> Reading:
        return Reading(
            info={"version": "1.2", "engine": "scipy+onnxruntime: light", "fingerprint": "f" * 16},
            state="LIVE",
            counters={"n_hops": 7, "n_hops_skipped": 2},
            gauges={"degraded": True, "subscribers": 3, "queue_seconds": 0.25},
            channels=[ChannelReading(1, -20.5, is_open=True), ChannelReading(2, -80.0, is_open=False)],
            stages=progress.stages,
        )

    each = MetricsServer("127.0.0.1:0", read)
    yield each
    each.close()


def test_a_reading_is_what_prometheus_parses(server: MetricsServer, progress: Progress) -> None:
    for number in range(1, 101):
        progress.took({"encoder": number / 1000})
    found = scraped(server.url)
    assert found["mird_hops_total", ()] == 7
    assert found["mird_hops_skipped_total", ()] == 2
    assert found["mird_degraded", ()] == 1
    assert found["mird_subscribers", ()] == 3
    assert found["mird_queue_seconds", ()] == 0.25
    assert found["mird_source_state", (("mird_source_state", "LIVE"),)] == 1
    assert found["mird_source_state", (("mird_source_state", "LOST"),)] == 0
    assert found["mird_level_dbfs", (("channel", "1"),)] == -20.5
    assert found["mird_gate_open", (("channel", "1"),)] == 1
    assert found["mird_gate_open", (("channel", "2"),)] == 0
    stage = ("stage", "encoder")
    assert found["mird_stage_seconds", (("quantile", "0.5"), stage)] == pytest.approx(0.0505)
    assert found["mird_stage_seconds", (("quantile", "0.99"), stage)] == pytest.approx(0.09901)
    assert found["mird_stage_seconds_count", (stage,)] == 100
    assert found["mird_stage_seconds_sum", (stage,)] == pytest.approx(5.05)
    assert found["mird_stage_seconds_count", (("stage", "publish"),)] == 0
    assert {dict(labels).get("stage") for name, labels in found if name == "mird_stage_seconds_count"} == set(STAGES)
    info = next(dict(labels) for name, labels in found if name == "mird_info")
    assert info["engine"] == "scipy+onnxruntime: light"
    assert found["process_resident_memory_bytes", ()] > 1_000_000


def test_quantiles_are_of_the_newest_times(progress: Progress) -> None:
    assert progress.stages["encoder"].quantiles_s() == ()
    for _ in range(N_KEPT):
        progress.took({"encoder": 9.0})
    for _ in range(N_KEPT):
        progress.took({"encoder": 1.0})
    assert progress.stages["encoder"].quantiles_s() == (1.0, 1.0)
    assert (progress.stages["encoder"].n, progress.stages["encoder"].total_s) == (2 * N_KEPT, 10.0 * N_KEPT)


def test_a_hop_left_out_degrades_for_a_while(progress: Progress) -> None:
    progress.skipped(0)
    assert not progress.degraded
    progress.skipped(3)
    assert progress.degraded
    progress.skipped_s -= 11
    assert not progress.degraded
    assert progress.counters["n_hops_skipped"] == 3


def test_a_client_that_dawdles_is_let_go(server: MetricsServer) -> None:
    port = int(server.url.rpartition(":")[2].partition("/")[0])

    def answer_s() -> float:
        with socket.create_connection(("127.0.0.1", port)) as dawdler:
            dawdler.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no more
            began_s = time.monotonic()
            assert scraped(server.url)["mird_hops_total", ()] == 7
            return time.monotonic() - began_s

    assert quickest(answer_s, 5.0) < 5.0


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0:7477", "whoever reaches this machine could read it; use 127.0.0.1, and a proxy"),
        ("192.168.1.7:7477", "whoever reaches this machine could read it"),
        ("localhost:7477", "not a number of this machine; use 127.0.0.1"),
        ("127.0.0.1", "not an address; it is 127.0.0.1:PORT"),
        ("127.0.0.1:99999", "not an address"),
    ],
)
def test_other_addresses_are_refused(address: str, reason: str) -> None:
    with pytest.raises(EndpointError, match="cannot serve metrics at ") as caught:
        MetricsServer(address, lambda: pytest.fail("never read"))
    assert reason in str(caught.value)
    assert "setting metrics" in str(caught.value)


def test_an_address_in_use_is_refused(server: MetricsServer) -> None:
    address = server.url.removeprefix("http://").removesuffix("/metrics")
    with pytest.raises(EndpointError, match=f"cannot serve metrics at {address}: .*in use; choose another port"):
        MetricsServer(address, lambda: pytest.fail("never read"))
