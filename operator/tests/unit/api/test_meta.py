"""The scalars that kinds share."""

from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from slipway.api.meta import Quantity, Scalar, cel_name, exactly_one, parse_duration, unchanged


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("50ms", timedelta(milliseconds=50)),
        ("720h", timedelta(hours=720)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "90", "1d", "-5s", "1h 30m", "5s\n"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("value", "parsed"), [(1, "1"), ("500m", "500m"), ("2Gi", "2Gi")])
def test_quantities_may_be_plain_numbers_as_in_pods(value: object, parsed: str) -> None:
    assert TypeAdapter(Quantity).validate_python(value) == parsed


@pytest.mark.parametrize("value", [True, 1.5, "1 GB", -1])
def test_other_quantities_are_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Quantity).validate_python(value)


@pytest.mark.parametrize("value", ["1", 1, 1.0, True])
def test_scalars_keep_their_type(value: object) -> None:
    parsed = TypeAdapter(Scalar).validate_python(value)
    assert parsed == value
    assert type(parsed) is type(value)


def test_reserved_words_are_escaped_in_rules() -> None:
    assert cel_name("for") == "__for__"
    assert cel_name("form") == "form"
    assert "has(self.__for__)" in exactly_one("for", "until")["rule"]


def test_optional_properties_stay_unset() -> None:
    rule = unchanged("no", required=["a"], optional=["b"])["rule"]
    assert rule == "self.a == oldSelf.a && has(self.b) == has(oldSelf.b) && (!has(self.b) || self.b == oldSelf.b)"
