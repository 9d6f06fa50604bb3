"""Ten thousand malformed control requests, and a full disk: the daemon goes on listening, and nothing is changed."""

import random
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pytest
import soundfile
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mird.clients.control import ControlClient

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration, Listener, User

pytestmark = pytest.mark.system

N_MALFORMED = 10_000
N_DRAWN = 2_000
OUTSTANDING = 8

# Every one is well-formed or nearly so, and would change nothing even if it were let through to the end.
SEEDS: Sequence[dict[str, Any]] = (
    {"id": 1, "verb": "rename", "old": "there is no such class", "new": "nor this one"},
    {"id": 2, "verb": "forget", "name": "there is no such class"},
    {"id": 3, "verb": "threshold", "name": "there is no such class", "value": 0.5},
    {"id": 4, "verb": "enroll", "name": "viola", "rate_hz": 44_100, "windows": [bytes(64)] * 3, "origin": "clip.wav"},
    {"id": 5, "verb": "enroll_live", "name": "viola", "seconds": 3.0, "channel": 60_000},
    {"id": 6, "verb": "correct", "name": "viola", "event_id": "there is no such event"},
    {"id": 7, "verb": "status", "deep": [[[[[[]]]]]], "wide": {str(n): n for n in range(40)}},
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(["verb", "id", "name", "seconds", "value", "enroll_live", "threshold", "correct"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
VERBS = ("status", "classes", "levels", "enroll", "enroll_live", "correct", "rename", "forget", "threshold", "no verb")
REQUESTS = st.fixed_dictionaries(
    {"id": st.integers(0, 9) | VALUES, "verb": st.sampled_from(VERBS) | VALUES},
    optional=dict.fromkeys(("old", "new", "seconds", "channel", "windows", "event_id", "value", "more"), VALUES),
)


class Attacker:
    """A socket that sends what it likes, and reads what comes back."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvtimeo = 30_000
        self._socket.connect(endpoint)
        self.n_answered = self.n_refused = 0

    def send(self, bodies: Sequence[bytes]) -> None:
        """Send requests, a few at a time, and check that each gets a reply that says yes or no."""
        for first in range(0, len(bodies), OUTSTANDING):
            some = bodies[first : first + OUTSTANDING]
            for body in some:
                self._socket.send(body)
            for _ in some:
                reply = msgpack.unpackb(self._socket.recv())
                assert set(reply) == {"id", "ok", "result" if reply["ok"] else "error"}
                self.n_answered += 1
                if not reply["ok"]:
                    self.n_refused += 1
                    assert reply["error"]["exit_status"] != 1, "no fault of mird's own"
                    assert "\n" not in reply["error"]["message"]

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def mutated(chance: random.Random) -> bytes:
    """A packed request with some of its bytes changed, cut, doubled or put elsewhere; a tenth are bytes by chance."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(200))
    body = bytearray(msgpack.packb(chance.choice(SEEDS)))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body)) if body else 0
        what = chance.randrange(4)
        if what == 0 and body:
            body[at] = chance.randrange(256)
        elif what == 1:
            del body[at : at + chance.randint(1, 30)]
        elif what == 2:
            body[at:at] = body[at : at + chance.randint(1, 30)]
        else:
            body[at:at] = chance.choice((b"\xdd\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xc1", b"\x91" * 600))
    return bytes(body)


@pytest.fixture(scope="module")
def listener(lasting_user: "User", demonstration: "Demonstration") -> Iterator["Listener"]:
    with (
        lasting_user.daemon("--source", f"file:{demonstration.path}", "--loop"),
        lasting_user.listening("frame", "hb") as listener,
    ):
        listener.first(lambda message: message["kind"] == "frame")
        yield listener


def test_ten_thousand_malformed_requests_while_frames_flow(lasting_user: "User", listener: "Listener") -> None:
    with ControlClient(lasting_user.control) as daemon:
        before = daemon.classes()
        first = listener.received("frame")[-1]
        attacker = Attacker(lasting_user.control)

        @settings(max_examples=N_DRAWN // 20, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(REQUESTS | VALUES, min_size=20, max_size=20))
        def drawn(requests: list[Any]) -> None:
            attacker.send([msgpack.packb(request) for request in requests])

        try:
            drawn()
            chance = random.Random(20_240_503)
            while attacker.n_refused < N_MALFORMED:
                attacker.send([mutated(chance) for _ in range(N_MALFORMED - attacker.n_refused)])
        finally:
            attacker.close()
        assert attacker.n_answered < 1.2 * N_MALFORMED, "the others asked how it is"
        assert daemon.classes() == before
        status = daemon.status()
    counters = status["counters"]
    assert counters["n_hops_skipped"] <= 0.1 * counters["n_hops"], "some, at most, where the machine is busy"
    last = listener.first(
        lambda message: message["kind"] == "frame" and message["seq"] > first["seq"] + 10 and message is not first
    )
    assert last["stream_id"] == first["stream_id"]
    sequence = [frame["seq"] for frame in listener.received("frame")]
    assert sequence == list(range(sequence[0], sequence[0] + len(sequence))), "no frame is missing"
    assert "Traceback" not in (lasting_user.folder / "log").read_text()


def test_a_full_disk_during_an_enrolment(user: "User", demonstration: "Demonstration", tmp_path: Path) -> None:
    """The kernel refuses the daemon every byte: the class is refused in a line, what is known stays known."""
    clip = tmp_path / "clip.wav"
    time_s = np.arange(2 * 44_100) / 44_100
    soundfile.write(clip, 0.3 * np.sin(2 * np.pi * 440 * time_s) * np.sin(2 * np.pi * 3 * time_s), 44_100)
    with (
        user.daemon("--source", f"file:{demonstration.path}", "--loop") as process,
        user.listening("frame") as listener,
        ControlClient(user.control) as daemon,
    ):
        assert user.run("enroll", "first", clip).returncode == 0
        before, file = daemon.classes(), user.support.read_bytes()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
        done = user.run("enroll", "second", clip)
        assert (done.returncode, done.stdout) == (6, "")
        assert "cannot be written: File too large; it is as it was before: make room" in done.stderr
        assert done.stderr.count("\n") == 1
        listener.first(
            lambda message: message["kind"] == "frame" and message["label"] not in ("silence", "unknown")
        )  # there is something to correct
        assert user.run("correct", "second").returncode == 6
        assert daemon.classes() == before
        assert user.support.read_bytes() == file
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert user.run("enroll", "second", clip).returncode == 0
        revision = before["revision"] + 1
        listener.first(lambda message: message["kind"] == "frame" and message["revision"] == revision)
        leftovers = {each.name for each in user.support.parent.iterdir()}
        assert leftovers == {"support.mird", "support.mird.lock"}
