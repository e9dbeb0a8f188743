"""Configurations as plain values, and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tyro

from agents.checks import check_at_least, check_positive, check_share
from agents.codec import decode, decode_arguments, encode, encode_arguments


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True)
class Other:
    name: str = "other"


@dataclass(frozen=True)
class Config:
    layers: tuple[Inner, ...] = (Inner(1), Inner(2))
    pair: tuple[int, Inner] = (1, Inner())
    by_name: dict[str, Inner] = field(default_factory=lambda: {"a": Inner(5)})
    mapping: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"b": (1.0, 2.0)})
    listed: list[tuple[int, int]] = field(default_factory=lambda: [(1, 2)])
    chosen: Inner | Other | None = field(default_factory=Other)
    sizes: tuple[int, ...] | None = (4, 4)
    several: list[int] | None = field(default_factory=lambda: [4])
    limit: float = float("inf")
    maybe: float | None = float("-inf")
    text: str = "inf"
    either: float | str = "nan"


def make(config: Config | None = None, count: int = 3):
    """What a constructor takes."""


def test_everything_comes_back():
    values = {"config": Config(), "count": 4}
    text = json.dumps(encode_arguments(make, values), allow_nan=False)
    assert decode_arguments(make, json.loads(text)) == values


def test_no_number():
    again = decode(Config, json.loads(json.dumps(encode(Config(limit=float("nan"))))))
    assert np.isnan(again.limit)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, Path("a"), np.zeros(2), object(), np.int64(3)],
    ids=["set", "path", "array", "object", "scalar"],
)
def test_what_cannot_be_saved_is_told(value):
    with pytest.raises(TypeError, match=rf"is a {type(value).__name__}, which cannot be saved"):
        encode(Config(limit=value))


def test_keys_are_text():
    with pytest.raises(TypeError, match=r"keys of a saved dictionary are text; got \[1\]"):
        encode({1: "a"})


def test_a_value_of_another_type_than_its_annotation():
    with pytest.raises(TypeError, match=r"argument 'config' cannot be saved.*would be read as"):
        encode_arguments(make, {"config": Config(several=(1, 2))})


def test_unknown_fields():
    with pytest.raises(ValueError, match="Inner has no depth: is it a newer one"):
        decode(Inner | None, {"depth": 1})


def test_checks_of_settings():
    check_at_least(1, batch_size=1, stack=None)
    check_share(share=0.0, other=1.0, third=tyro.MISSING)
    check_positive(rate=0.1)
    with pytest.raises(ValueError, match="batch_size is at least 1; got 0"):
        check_at_least(1, stack=2, batch_size=0)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share is a share, from 0 to 1; got"):
            check_share(share=wrong)
    with pytest.raises(ValueError, match="rate is greater than 0; got 0"):
        check_positive(rate=0)
    with pytest.raises(ValueError, match="rate is at least 0; got nan"):
        check_at_least(0, rate=float("nan"))
