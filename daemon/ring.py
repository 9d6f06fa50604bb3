"""Ring: the last seconds of a source's sound, between the thread that captures and the one that recognises.

One writer, one reader, no lock around the samples. It is a seqlock: the writer claims the frames that it is about to
overwrite, then copies, then publishes them; the reader copies, and throws the copy away if the writer has claimed any
of it meanwhile. A torn read is therefore impossible, and being overtaken is seen and counted instead of heard.

The counters are plain Python integers. CPython's interpreter lock makes every store and load of them atomic and keeps
their order. The reader copies with NumPy, which lets go of that lock meanwhile; the writer copies through a memoryview,
which does not: a callback that lets go of it may have to wait 5 ms, Python's switch interval, to get it back.

To wake the reader, the writer lets go of a lock that only the reader takes. Releasing a lock never blocks (it posts a
semaphore), unlike ``Event.set`` or ``Condition.notify``, which take a lock that the reader may hold at that moment: a
PortAudio callback may do it. So the reader sleeps in the kernel until the sound it waits for is there.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Chunk:
    """Frames taken out of a ring.

    Parameters
    ----------
    start : int
        Number of ``samples[0]`` on the source's sample clock.
    samples : NDArray[float32], shape (n_frames, n_channels)
        A copy that belongs to the caller; full scale is -1 to 1.
    n_lost : int
        Frames before ``start`` that the writer overwrote before they were read.
    """

    start: int
    samples: NDArray[np.float32]
    n_lost: int


class Ring:
    """The newest frames of one stream, for one writer and one reader.

    The writing thread (PortAudio's callback, or the thread of a file or of stdin) calls `write`, `wait_for_space` and
    `close`; the reading thread calls `read` and `wait_for_data`. `latest` and the properties may be used by any thread.

    Parameters
    ----------
    n_frames : int > 0
        How many frames the ring holds.
    n_channels : int > 0
        Columns of every block.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """

    def __init__(self, n_frames: int, n_channels: int) -> None:
        if n_frames < 1 or n_channels < 1:
            raise ValueError(f"a ring of {n_frames} frames and {n_channels} channels: both must be at least 1")
        self.n_frames: Final = n_frames
        self.n_channels: Final = n_channels
        self._frames = np.zeros((n_frames, n_channels), np.float32)
        self._bytes = self._frames.data.cast("B")
        self._n_frame_bytes = self._frames.strides[0]
        self._headroom = max(1, n_frames // 8)
        self._n_claimed = 0  # written by the writer: frames below it may be under the writer's hands
        self._n_written = 0  # written by the writer: frames below it are whole
        self._n_read = 0  # written by the reader
        self._closed = False
        self._reader_wakes_at = 0  # written by the reader: n_written that it waits for
        self._writer_wakes_at = 0  # written by the writer: n_read that it waits for
        self._reader_sleeps = _Doorbell()
        self._writer_sleeps = _Doorbell()

    @property
    def n_written(self) -> int:
        """Frames written since the stream opened: the source's sample clock."""
        return self._n_written

    @property
    def n_unread(self) -> int:
        """Frames that wait to be read, those that were overwritten meanwhile included."""
        return self._n_written - self._n_read

    @property
    def closed(self) -> bool:
        """Whether the writer has said that no more will come. What is unread can still be read."""
        return self._closed

    @property
    def drained(self) -> bool:
        """Whether the ring is closed and everything in it has been read: the end of the stream."""
        return self._closed and self._n_written == self._n_read

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block, over the oldest frames. It never waits, and allocates no samples.

        Parameters
        ----------
        block : NDArray[float32], shape (n, n_channels)
            Of a block longer than the ring, the end is kept. After `close` it is ignored.

        Raises
        ------
        ValueError
            If the block has another number of channels or another type.
        """
        n, n_channels = block.shape
        if n_channels != self.n_channels or block.dtype != np.float32:
            raise ValueError(
                f"a block of {n_channels} channels of {block.dtype} for a ring of {self.n_channels} of float32"
            )
        if self._closed or n == 0:
            return
        end = self._n_written + n
        self._n_claimed = end
        if n > self.n_frames:
            block = block[n - self.n_frames :]
            n = self.n_frames
        first = (end - n) % self.n_frames
        n_head = min(n, self.n_frames - first)
        data, width = np.ascontiguousarray(block).data.cast("B"), self._n_frame_bytes
        self._bytes[first * width : (first + n_head) * width] = data[: n_head * width]
        if n_head < n:
            self._bytes[: (n - n_head) * width] = data[n_head * width :]
        self._n_written = end
        if end >= self._reader_wakes_at:
            self._reader_sleeps.ring()

    def wait_for_space(self, n: int, timeout_s: float) -> bool:
        """Wait until the reader has left room for a block: what a lossless writer does before `write`.

        Parameters
        ----------
        n : int
            Frames to be written next; more than the ring holds count as a whole ring.
        timeout_s : float
            Seconds to wait at most.

        Returns
        -------
        bool
            Whether `n` frames can be written now without losing an unread one.
        """
        wanted = self._n_written + min(n, self.n_frames) - self.n_frames
        self._writer_wakes_at = wanted
        deadline_s = time.monotonic() + timeout_s
        while self._n_read < wanted and not self._closed:
            if not self._writer_sleeps.wait(deadline_s - time.monotonic()):
                break
        return self._n_read >= wanted

    def wait_for_data(self, n: int, timeout_s: float) -> bool:
        """Wait until there are frames to read.

        Parameters
        ----------
        n : int
            Unread frames to wait for; more than the ring holds count as a whole ring.
        timeout_s : float
            Seconds to wait at most.

        Returns
        -------
        bool
            Whether at least `n` frames are unread. False after `timeout_s`, and at once if the ring is closed with
            fewer than that: the rest can still be read, and `drained` tells the end.
        """
        wanted = self._n_read + min(n, self.n_frames)
        self._reader_wakes_at = wanted
        deadline_s = time.monotonic() + timeout_s
        while self._n_written < wanted and not self._closed:
            if not self._reader_sleeps.wait(deadline_s - time.monotonic()):
                break
        return self._n_written >= wanted

    def read(self, max_frames: int) -> Chunk:
        """Take the next unread frames.

        A reader that was overtaken goes on an eighth of a ring after the oldest frame there is, so that it is not
        overtaken again in the next moment.

        Parameters
        ----------
        max_frames : int
            Frames to take at most.

        Returns
        -------
        Chunk
            Of zero to `max_frames` frames.
        """
        start = self._n_read
        while True:
            n_written = self._n_written
            if self._n_claimed - start > self.n_frames:
                start = min(n_written, self._n_claimed - self.n_frames + self._headroom)
            stop = min(n_written, start + max_frames)
            samples = self._copy(start, stop)
            if start == stop or self._n_claimed - start <= self.n_frames:
                break  # of what was copied, nothing had been claimed by the writer when the copy was done
        chunk = Chunk(start=start, samples=samples, n_lost=start - self._n_read)
        self._n_read = stop
        if stop >= self._writer_wakes_at:
            self._writer_sleeps.ring()
        return chunk

    def latest(self, max_frames: int) -> Chunk:
        """Copy the newest frames without taking them: for any thread, and with no effect on the reader.

        Parameters
        ----------
        max_frames : int
            Frames to copy at most.

        Returns
        -------
        Chunk
            Of zero to `max_frames` frames, the newest last; `n_lost` is 0. It holds fewer if the writer took them back
            during the copy.
        """
        stop = self._n_written
        start = max(0, stop - min(max_frames, self.n_frames))
        samples = self._copy(start, stop)
        n_torn = max(0, self._n_claimed - self.n_frames - start)
        return Chunk(start=min(start + n_torn, stop), samples=samples[n_torn:], n_lost=0)

    def close(self) -> None:
        """Say that no more will come, and wake whoever waits. Any thread may call it, and more than once."""
        self._closed = True
        self._reader_sleeps.ring()
        self._writer_sleeps.ring()

    def _copy(self, start: int, stop: int) -> NDArray[np.float32]:
        first, n = start % self.n_frames, stop - start
        samples = np.empty((n, self.n_channels), np.float32)
        n_head = min(n, self.n_frames - first)
        samples[:n_head] = self._frames[first : first + n_head]
        samples[n_head:] = self._frames[: n - n_head]
        return samples


class _Doorbell:
    """A lock used as a binary semaphore: one thread waits, others ring, and no ring is missed.

    `ring` never blocks. A ring before a `wait` makes that wait return at once, so the waiting side looks at what it
    waits for and waits again.
    """

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """Let the waiting thread go."""
        if self._silent.locked():
            try:
                self._silent.release()
            except RuntimeError:  # another thread rang in between: rung is rung
                return

    def wait(self, timeout_s: float) -> bool:
        """Wait for a ring; False if none came in time."""
        return self._silent.acquire(timeout=max(0.0, timeout_s))
