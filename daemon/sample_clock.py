"""SampleClock: when the n-th sample of a stream was captured, on the machine's monotonic clock.

PortAudio's own stream time is unreliable on ALSA and PulseAudio, so time is taken from the arrival of blocks. A block
can arrive late, but never before its last sample was captured: over some seconds the least late of them is the best
estimate. The estimate moves with the window, so it follows the drift between the interface's crystal and the machine's
clock (100 parts per million are 8.6 s a day), and a gap in the stream shows as a step upwards.
"""

from typing import Final

_NS_PER_S: Final = 1_000_000_000
_WINDOW_NS: Final = 2 * _NS_PER_S


class SampleClock:
    """Arrival times of blocks, turned into the capture time of samples.

    The thread that writes the ring calls `mark`; any thread may read `origin_ns` and `mono_ns`.

    Parameters
    ----------
    rate_hz : int > 0
        The stream's rate.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz: Final = rate_hz
        self._origin_ns: int | None = None
        self._least_ns = 0  # the least origin seen in the window that runs
        self._window_ends_ns = 0

    @property
    def origin_ns(self) -> int | None:
        """When sample 0 would have been captured, had the stream always run as it does now; None before a block.

        It is the least of the last two to four seconds.
        """
        return self._origin_ns

    def mark(self, n_written: int, arrival_ns: int) -> None:
        """Note that a block arrived: some integer arithmetic, fit for a callback.

        Parameters
        ----------
        n_written : int
            Samples captured up to the end of the block.
        arrival_ns : int
            ``time.monotonic_ns()`` at its arrival.
        """
        origin_ns = arrival_ns - n_written * _NS_PER_S // self._rate_hz
        if self._origin_ns is None:
            self._origin_ns = self._least_ns = origin_ns
            self._window_ends_ns = arrival_ns + _WINDOW_NS
        elif arrival_ns >= self._window_ends_ns:
            self._origin_ns = min(self._least_ns, origin_ns)
            self._least_ns = origin_ns
            self._window_ends_ns = arrival_ns + _WINDOW_NS
        else:
            self._least_ns = min(self._least_ns, origin_ns)
            self._origin_ns = min(self._origin_ns, origin_ns)

    def mono_ns(self, sample: int) -> int:
        """When a sample was captured.

        Parameters
        ----------
        sample : int
            Its number in the stream.

        Returns
        -------
        int
            On the clock of ``time.monotonic_ns()``.

        Raises
        ------
        ValueError
            If no block has arrived yet.
        """
        if self._origin_ns is None:
            raise ValueError(f"when sample {sample} was captured is unknown before the first block")
        return self._origin_ns + sample * _NS_PER_S // self._rate_hz
