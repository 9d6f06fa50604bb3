"""The front end's description: its fingerprint, its text form and what it refuses."""

import json
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd

OTHER: dict[str, Any] = {
    "rate_hz": 48_000,
    "window": 48_000,
    "transform": "stft",
    "gamma": 2.0,
    "time_bandwidth": 40.0,
    "voices": 10,
    "n_scales": 0,
    "n_columns": 100,
    "n_rows": 224,
    "magnitude": "linear",
    "range_db": 60.0,
    "colour": "parula",
}


def test_fingerprint_is_sixteen_digits_and_the_same_for_equal_front_ends() -> None:
    fingerprint = FrontEnd().fingerprint()
    assert len(fingerprint) == 16
    assert set(fingerprint) <= set("0123456789abcdef")
    assert FrontEnd().fingerprint() == fingerprint


def test_every_field_changes_the_fingerprint() -> None:
    assert set(OTHER) == {field.name for field in fields(FrontEnd)}
    fingerprints = {replace(FrontEnd(), **{name: value}).fingerprint() for name, value in OTHER.items()}
    assert len(fingerprints | {FrontEnd().fingerprint()}) == len(OTHER) + 1


@pytest.mark.parametrize("front_end", [FrontEnd(), FrontEnd.paper(), FrontEnd(**OTHER)])
def test_text_form_is_read_back_as_it_was(front_end: FrontEnd) -> None:
    assert FrontEnd.from_json(front_end.to_json()) == front_end
    assert FrontEnd.from_json(front_end.to_json()).fingerprint() == front_end.fingerprint()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "list"),
        ("{}", "exactly the fields"),
        (json.dumps(asdict(FrontEnd()) | {"depth": 1}), "depth"),
        (json.dumps(asdict(FrontEnd()) | {"window": 1.5}), "window=1.5"),
        (json.dumps(asdict(FrontEnd()) | {"window": True}), "window=True"),
        (json.dumps(asdict(FrontEnd()) | {"colour": 3}), "colour=3"),
        (json.dumps(asdict(FrontEnd()) | {"colour": "red"}), "one of grey, parula"),
        (json.dumps(asdict(FrontEnd()) | {"range_db": float("nan")}), "range_db=nan"),
    ],
)
def test_damaged_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        FrontEnd.from_json(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_hz", 0),
        ("window", -1),
        ("voices", 0),
        ("n_columns", 0),
        ("gamma", float("nan")),
        ("time_bandwidth", float("inf")),
        ("range_db", -80.0),
        ("n_scales", -1),
        ("n_rows", -1),
        ("transform", "wigner"),
        ("magnitude", "power"),
        ("colour", "jet"),
        ("n_columns", 50_000),
    ],
)
def test_values_without_a_picture_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"{name}={value!r}"):
        replace(FrontEnd(), **{name: value})


def test_window_in_seconds() -> None:
    assert FrontEnd(rate_hz=16_000, window=8_000, n_columns=10).window_s == 0.5


def test_paper_draws_every_scale_in_colour() -> None:
    paper = FrontEnd.paper()
    assert (paper.n_scales, paper.n_rows, paper.n_columns, paper.colour) == (0, 224, 224, "parula")
