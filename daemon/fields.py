"""What a field on the wire may be: the rules that messages and control requests are made of.

A rule writes a value (`to_wire`: NumPy's numbers become Python's) and checks one that was read (`from_wire`). Both
raise ValueError with the reason, and what the one writes the other accepts. Rules are annotations of dataclass fields:
``channel: Annotated[int, Whole(0, 65_535)]``.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol, get_type_hints

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Rule(Protocol):
    """How one field is written and what is accepted when it is read; both raise ValueError with the reason."""

    def to_wire(self, value: Any) -> Any:
        """The value as msgpack has it."""
        ...

    def from_wire(self, value: Any) -> Any:
        """The value as the dataclass has it."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`; None too where `optional`."""

    low: int = 0
    high: int = 2**63 - 1
    optional: bool = False

    def to_wire(self, value: Any) -> int | None:
        """Any integer type, NumPy's too."""
        if type(value) is not int and type(value) is not bool and isinstance(value, Integral):
            value = int(value)
        return self.from_wire(value)

    def from_wire(self, value: Any) -> int | None:
        """An int in range."""
        if value is None and self.optional:
            return None
        if type(value) is not int:
            raise ValueError(f"{_shown(value)} is not a whole number")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is not from {self.low} to {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from `low` to `high`; what lies outside by at most `slack` is written as the limit."""

    low: float = -math.inf
    high: float = math.inf
    slack: float = 0.0
    optional: bool = False

    def to_wire(self, value: Any) -> float | None:
        """Any real type, NumPy's too."""
        if type(value) is not float and type(value) is not bool and isinstance(value, Real):
            value = float(value)
        if type(value) is float and self.low - self.slack <= value <= self.high + self.slack:
            value = min(max(value, self.low), self.high)
        return self.from_wire(value)

    def from_wire(self, value: Any) -> float | None:
        """A float; some languages write 1.0 as 1."""
        if value is None and self.optional:
            return None
        if type(value) is int and abs(value) < 2**64:
            value = float(value)
        if type(value) is not float:
            raise ValueError(f"{_shown(value)} is not a number")
        if not math.isfinite(value):
            raise ValueError(f"{value} is not finite")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value:g} is not from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """Text of `least` to `most` characters, none of them a control character; `clean`: made so when written."""

    most: int
    least: int = 1
    pattern: str = ""
    clean: bool = False

    def to_wire(self, value: Any) -> str:
        """Text; a `clean` one loses line breaks and what is too long."""
        if self.clean and isinstance(value, str):
            value = _CONTROL_CHARACTERS.sub(" ", value)
            value = value if len(value) <= self.most else value[: self.most - 1] + "…"
        return self.from_wire(str(value) if isinstance(value, str) else value)

    def from_wire(self, value: Any) -> str:
        """A str that keeps to the limits."""
        if type(value) is not str:
            raise ValueError(f"{_shown(value)} is not text")
        if not self.least <= len(value) <= self.most:
            raise ValueError(f"{len(value)} characters, not {self.least} to {self.most}")
        if _CONTROL_CHARACTERS.search(value) or (self.pattern and not re.fullmatch(self.pattern, value)):
            raise ValueError(f"{_shown(value)} has characters that cannot be here")
        return value


@dataclass(frozen=True, slots=True)
class Omissible:
    """What keeps to `item`, or is left out: None then."""

    item: Rule

    def to_wire(self, value: Any) -> Any:
        """As of the item, or None."""
        return None if value is None else self.item.to_wire(value)

    def from_wire(self, value: Any) -> Any:
        """As of the item, or None."""
        return None if value is None else self.item.from_wire(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or False."""

    def to_wire(self, value: Any) -> bool:
        """A bool."""
        return self.from_wire(value)

    def from_wire(self, value: Any) -> bool:
        """A bool."""
        if type(value) is not bool:
            raise ValueError(f"{_shown(value)} is neither true nor false")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def to_wire(self, value: Any) -> str:
        """One of the words."""
        return self.from_wire(str(value) if isinstance(value, str) else value)

    def from_wire(self, value: Any) -> str:
        """One of the words."""
        if type(value) is not str or value not in self.words:
            raise ValueError(f"{_shown(value)} is not one of {', '.join(self.words)}")
        return value


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of at most `most` items that keep to `item`; a tuple in the dataclass."""

    item: Rule
    most: int
    least: int = 0

    def to_wire(self, value: Any) -> list[Any]:
        """A list."""
        if type(value) not in (tuple, list):
            raise ValueError(f"{_shown(value)} is neither tuple nor list")
        self._check_length(value)
        return [self.item.to_wire(each) for each in value]

    def from_wire(self, value: Any) -> tuple[Any, ...]:
        """A tuple."""
        if type(value) is not list:
            raise ValueError(f"{_shown(value)} is not a list")
        self._check_length(value)
        return tuple(self.item.from_wire(each) for each in value)

    def _check_length(self, value: Sized) -> None:
        if not self.least <= len(value) <= self.most:
            raise ValueError(f"{len(value)} items, not {self.least} to {self.most}")


@dataclass(frozen=True, slots=True)
class Table:
    """A map from text to `item`, of at most `most` entries."""

    item: Rule
    key: Text = Text(64)
    most: int = 64

    def to_wire(self, value: Any) -> dict[str, Any]:
        """A dict."""
        if not isinstance(value, Mapping) or len(value) > self.most:
            raise ValueError(f"{_shown(value)} is not a map of at most {self.most} entries")
        return {self.key.to_wire(name): self.item.to_wire(each) for name, each in value.items()}

    def from_wire(self, value: Any) -> dict[str, Any]:
        """A dict."""
        if type(value) is not dict or len(value) > self.most:
            raise ValueError(f"{_shown(value)} is not a map of at most {self.most} entries")
        return {self.key.from_wire(name): self.item.from_wire(each) for name, each in value.items()}


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes, of a length that is a multiple of `step`."""

    most: int
    least: int = 0
    step: int = 1

    def to_wire(self, value: Any) -> bytes:
        """Bytes."""
        return self.from_wire(value)

    def from_wire(self, value: Any) -> bytes:
        """Bytes."""
        if type(value) is not bytes:
            raise ValueError(f"{_shown(value)} is not bytes")
        if not self.least <= len(value) <= self.most or len(value) % self.step:
            raise ValueError(f"{len(value)} bytes, not {self.least} to {self.most} in steps of {self.step}")
        return value


@dataclass(frozen=True, slots=True)
class Record:
    """A map with the fields of a dataclass, `make`; errors begin with the name of the field.

    `added` are those that came later: the class itself, and not what it inherits from, gives them a default, and a
    writer that does not know them may leave them out.
    """

    make: type[Any]
    fields: tuple[tuple[str, Rule], ...]
    added: frozenset[str] = frozenset()

    @classmethod
    def of(cls, make: type[Any]) -> "Record":
        """The record of a dataclass whose fields are annotated with rules."""
        hints = get_type_hints(make, include_extras=True)
        fields = dataclasses.fields(make)
        added = {each.name for each in fields if each.default is not dataclasses.MISSING}
        inherited = {each.name for parent in make.__mro__[1:-1] for each in dataclasses.fields(parent)}
        rules = tuple((each.name, hints[each.name].__metadata__[0]) for each in fields)
        return cls(make, rules, frozenset(added - inherited))

    def to_wire(self, value: Any) -> dict[str, Any]:
        """A dict."""
        values = {}
        for name, rule in self.fields:
            try:
                values[name] = rule.to_wire(getattr(value, name))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{name}: {error}") from error
        return values

    def from_wire(self, value: Any) -> Any:
        """The dataclass; keys that it does not know are ignored."""
        if type(value) is not dict:
            raise ValueError(f"{_shown(value)} is not a map")
        values = {}
        for name, rule in self.fields:
            if name not in value:
                if name in self.added:
                    continue
                raise ValueError(f"{name}: is missing")
            try:
                values[name] = rule.from_wire(value[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return self.make(**values)


def _shown(value: Any) -> str:
    """A value for an error message: its type, and itself where it is short."""
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) and len(str(value)) <= 40 else "…"
    return f"{type(value).__name__} {text}"
