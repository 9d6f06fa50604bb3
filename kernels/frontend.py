"""The front end: the one description of how sound becomes the encoder's picture.

Training, enrolment, archive tagging and the daemon all compute their pictures from a :class:`FrontEnd`; its fingerprint
travels in the engine's metadata, so that no encoder is ever fed pictures of another kind than it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args, get_type_hints

from mird.kernels.errors import ParameterError

Transform = Literal["morse", "stft"]
Magnitude = Literal["db", "linear"]
Colour = Literal["grey", "parula"]

DEFINITION = 1
"""Version of the arithmetic behind the fields: raised when the same fields would give another picture.

Another way to the same one, within the transform's accuracy (1e-3), is none.
"""


@dataclass(frozen=True)
class FrontEnd:
    """Frozen specification of the picture of one window of sound.

    Attributes
    ----------
    rate_hz : int > 0
        Sampling rate of the window.
    window : int > 0
        Length of the window in samples.
    transform : {"morse", "stft"}
        Generalised Morse wavelet scalogram, or the magnitude of a short-time Fourier transform.
    gamma, time_bandwidth : float > 0
        Symmetry and time-bandwidth product of the Morse wavelet (beta = time_bandwidth / gamma).
    voices : int > 0
        Scales per octave.
    n_scales : int >= 0
        Scales kept, counted from the highest frequency down; 0 keeps all that the window resolves.
    n_columns : int > 0
        Columns of the picture; each is the mean magnitude over ``window / n_columns`` samples.
    n_rows : int >= 0
        Rows of the picture, highest frequency first; 0 means one row a scale, else a linear row map in log frequency.
    magnitude : {"db", "linear"}
        ``db``: decibels below the picture's peak, cut at ``range_db``, mapped to [0, 1]. ``linear``: magnitudes between
        the picture's own minimum and maximum, mapped to [0, 1].
    range_db : float > 0
        Span of the decibel scale.
    colour : {"grey", "parula"}
        One channel, or three through the colour map that the paper's pictures were drawn with.
    """

    rate_hz: int = 44_100
    window: int = 44_100
    transform: Transform = "morse"
    gamma: float = 3.0
    time_bandwidth: float = 60.0
    voices: int = 12
    n_scales: int = 112
    n_columns: int = 112
    n_rows: int = 0
    magnitude: Magnitude = "db"
    range_db: float = 80.0
    colour: Colour = "grey"

    def __post_init__(self) -> None:
        for name in ("rate_hz", "window", "voices", "n_columns", "gamma", "time_bandwidth", "range_db"):
            value = getattr(self, name)
            if not value > 0 or value == float("inf"):
                raise ParameterError(f"{name}={value!r} must be a finite number above 0")
        for name in ("n_scales", "n_rows"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name}={getattr(self, name)!r} must be 0 (all) or more")
        for name, allowed in (("transform", Transform), ("magnitude", Magnitude), ("colour", Colour)):
            if getattr(self, name) not in get_args(allowed):
                raise ParameterError(f"{name}={getattr(self, name)!r} must be one of {', '.join(get_args(allowed))}")
        if self.n_columns > self.window:
            raise ParameterError(f"n_columns={self.n_columns} must not exceed window={self.window}")

    @classmethod
    def paper(cls) -> Self:
        """The paper's pictures: all 151 scales, linear magnitude, own colour range, 224 x 224 x 3."""
        return cls(n_scales=0, n_columns=224, n_rows=224, magnitude="linear", colour="parula")

    @property
    def window_s(self) -> float:
        """Length of the window in seconds."""
        return self.window / self.rate_hz

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever the picture would."""
        text = json.dumps({"definition": DEFINITION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """All fields as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ParameterError
            If the text is no JSON object of exactly these fields.
        """
        try:
            values: Any = json.loads(text)
        except ValueError as error:
            raise ParameterError(f"front end {text[:60]!r} is not JSON: {error}") from None
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            keys = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ParameterError(f"front end needs exactly the fields {sorted(names)}, got {keys}")
        hints = get_type_hints(cls)
        for name, value in values.items():
            wanted: tuple[type, ...] = {int: (int,), float: (int, float)}.get(hints[name], (str,))
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise ParameterError(f"front end field {name}={value!r} has the wrong type")
        return cls(**values)
