"""The asynchronous subscriber against a real publisher: the same messages, in an event loop of others."""

import asyncio
from collections.abc import Callable

import pytest

from mird.clients.async_subscriber import AsyncSubscriber
from mird.clients.errors import ClientError
from mird.daemon.messages import Heartbeat, Level, Message
from mird.daemon.publisher import Publisher

LEVEL = Level(source="desk", channel=1, stream_id="s1", sample_end=4410, rms_dbfs=-20.0, peak_dbfs=-6.0)
HEARTBEAT = Heartbeat(
    source="desk", channel=0, stream_id="s1", uptime_s=1.0, counters={}, latency_p50_ms=None, latency_p99_ms=None
)


async def joined(publisher: Publisher, subscriber: AsyncSubscriber) -> None:
    async with asyncio.timeout(10.0):
        while not all(prefix in publisher._subscriptions.prefixes for prefix in subscriber._prefixes()):
            publisher.service()
            await asyncio.sleep(0.001)


def run(scene: Callable[[Publisher], object]) -> None:
    with Publisher("tcp://127.0.0.1:*") as publisher:
        asyncio.run(scene(publisher))  # type: ignore[arg-type]


def test_it_iterates_filters_and_counts() -> None:
    async def scene(publisher: Publisher) -> None:
        async with AsyncSubscriber(publisher.endpoint, kinds=["level"], channel=1) as subscriber:
            await joined(publisher, subscriber)
            for each in (LEVEL, HEARTBEAT, LEVEL, LEVEL):
                publisher.publish(each)
            seqs = []
            async for message in subscriber:
                seqs.append(message.seq)
                if len(seqs) == 3:
                    subscriber.close()
            assert seqs == [0, 1, 2]
            assert subscriber.n_received == 3
            assert subscriber.n_missed == 0

    run(scene)


def test_recv_returns_none_when_its_time_is_over() -> None:
    async def scene(publisher: Publisher) -> None:
        async with AsyncSubscriber(publisher.endpoint) as subscriber:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            assert await subscriber.recv(0.05) is None
            assert 0.04 < loop.time() - began_s < 5.0

    run(scene)


def test_closing_ends_a_task_that_waits() -> None:
    async def scene(publisher: Publisher) -> None:
        subscriber = AsyncSubscriber(publisher.endpoint)
        waiting = asyncio.create_task(subscriber.recv())
        await asyncio.sleep(0.02)
        subscriber.close()
        assert await asyncio.wait_for(waiting, 5.0) is None
        assert [message async for message in subscriber] == []

    run(scene)


def test_a_cancelled_task_loses_no_message() -> None:
    async def scene(publisher: Publisher) -> None:
        async with AsyncSubscriber(publisher.endpoint, kinds="level") as subscriber:
            await joined(publisher, subscriber)
            waiting = asyncio.create_task(subscriber.recv())
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            publisher.publish(LEVEL)
            message = await subscriber.recv(5.0)
            assert message is not None
            assert message.seq == 0

    run(scene)


def test_a_flood_leaves_time_for_other_tasks() -> None:
    async def scene(publisher: Publisher) -> None:
        async with AsyncSubscriber(publisher.endpoint, kinds="level") as subscriber:
            await joined(publisher, subscriber)
            for _ in range(500):
                publisher.publish(LEVEL)
            received: list[Message] = []

            async def read() -> None:
                async for message in subscriber:
                    received.append(message)  # noqa: PERF401 - whoever watches sees each one come

            reading = asyncio.create_task(read())
            turns = set()
            async with asyncio.timeout(10.0):
                while len(received) < 500:
                    turns.add(len(received))
                    await asyncio.sleep(0)
            assert len(turns) > 100
            subscriber.close()
            await reading

    run(scene)


def test_an_address_that_is_none() -> None:
    async def scene(_: Publisher) -> None:
        with pytest.raises(ClientError, match="'nonsense' is no address such as"):
            AsyncSubscriber("nonsense")

    run(scene)
