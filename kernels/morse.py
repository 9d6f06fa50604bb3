"""Generalised Morse wavelets and the scales that a window resolves.

The filter bank is MATLAB's ``cwtfilterbank`` by its published properties: analytic Morse wavelets (Olhede and Walden
2002; Lilly and Olhede 2012), peak value 2, the finest scale at half its peak at the Nyquist frequency, the coarsest
where two standard deviations of the wavelet fill half the window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError


class Morse:
    """One wavelet family: psi(w) = 2 exp(beta ln(w / wp) - (w^gamma - wp^gamma)) for w > 0.

    Parameters
    ----------
    gamma : float > 0
        Symmetry parameter; 3 is the Airy wavelet.
    time_bandwidth : float > 0
        Time-bandwidth product gamma * beta.

    Attributes
    ----------
    beta : float
        Decay parameter.
    peak : float
        Peak angular frequency wp of the mother wavelet, radians per sample at scale 1.
    deviation : float
        Standard deviation of the wavelet in time at scale 1, samples (sqrt(time_bandwidth / 2), as MATLAB takes it).
    """

    def __init__(self, gamma: float = 3.0, time_bandwidth: float = 60.0) -> None:
        if not gamma > 0 or not time_bandwidth > gamma:
            raise ParameterError(f"gamma={gamma!r} must be above 0 and time_bandwidth={time_bandwidth!r} above gamma")
        self.gamma = gamma
        self.beta = time_bandwidth / gamma
        self.peak = (self.beta / gamma) ** (1.0 / gamma)
        self.deviation = float(np.sqrt(time_bandwidth / 2.0))

    def log_shape(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """ln(psi(w) / 2), 0 at the peak; w : angular frequency times scale, radians, > 0."""
        shape: NDArray[np.float64] = self.beta * np.log(w / self.peak) - (w**self.gamma - self.peak**self.gamma)
        return shape

    def response(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """psi(w), range [0, 2]; 0 where w <= 0."""
        out = np.zeros_like(w, dtype=np.float64)
        positive = w > 0
        out[positive] = 2.0 * np.exp(self.log_shape(w[positive]))
        return out

    def edge(self, level: float, *, upper: bool) -> float:
        """Angular frequency beside the peak where psi has fallen to ``level`` (0..1) of its peak."""
        target = np.log(level)

        def excess(w: float) -> float:
            return float(self.log_shape(np.array([w]))[0] - target)

        near = far = float(self.peak)
        while excess(far) > 0:
            far = far * 1.5 if upper else far / 1.5
        while (middle := 0.5 * (near + far)) not in (near, far):  # scipy.optimize would take longer to be imported
            near, far = (middle, far) if excess(middle) > 0 else (near, middle)
        return middle

    def scales(self, window: int, voices: int) -> NDArray[np.float64]:
        """Scales s0 2^(k / voices), finest first, that a window of ``window`` samples resolves.

        Raises
        ------
        ParameterError
            If the window is too short for a single scale.
        """
        finest = self.edge(0.5, upper=True) / np.pi
        coarsest = window / (2.0 * self.deviation)
        if coarsest < finest:
            least = int(np.ceil(2 * self.deviation * finest))
            raise ParameterError(f"window={window} samples is too short: at least {least} are needed")
        count = int(np.floor(voices * np.log2(coarsest / finest) + 1e-9)) + 1
        steps: NDArray[np.float64] = finest * 2.0 ** (np.arange(count) / voices)
        return steps

    def frequencies_hz(self, scales: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
        """Peak frequency of each scale in Hz."""
        hertz: NDArray[np.float64] = self.peak / scales / (2.0 * np.pi) * rate_hz
        return hertz
