from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.config.errors import Refused
from txsse.config.units import LARGEST, LONGEST, read_duration, read_size, write_duration, write_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0.0),
        (15, 15.0),
        (0.25, 0.25),
        ("250ms", 0.25),
        ("5s", 5.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("15", 15.0),
        ("5 s", 5.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(written: object, seconds: float) -> None:
    assert read_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "s", "5 parsecs", "-5s", -1, "1d", "5S", "1h30m", "1e3s", "\u0665s", True, None, [], float("nan"), float("inf"), 10**400],
)
def test_what_is_no_duration_is_refused_with_examples(written: object) -> None:
    with pytest.raises(Refused, match="'250ms', '5s', '10m', '1h'"):
        read_duration(written)


@pytest.mark.parametrize(
    ("written", "size"), [(0, 0), (1000, 1000), ("64KiB", 65536), ("1MiB", 1048576), ("2GiB", 2**31), ("1.5KiB", 1536), ("7B", 7), ("7", 7)]
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(written: object, size: int) -> None:
    assert read_size(written) == size


@pytest.mark.parametrize("written", ["", "KiB", "64KB", "64k", "-1KiB", -1, 1.5, "0.3B", True, None, 2**70, "9" * 30])
def test_what_is_no_size_is_refused_with_examples(written: object) -> None:
    with pytest.raises(Refused, match="'64KiB', '1MiB', '2GiB'"):
        read_size(written)


@given(st.floats(0, LONGEST) | st.integers(0, 10**8).map(lambda milliseconds: milliseconds / 1000))
def test_a_written_duration_reads_back_exactly(seconds: float) -> None:
    assert read_duration(tomllib.loads(f"x = {write_duration(seconds)}")["x"]) == seconds


@given(st.integers(0, LARGEST))
def test_a_written_size_reads_back_exactly(size: int) -> None:
    assert read_size(tomllib.loads(f"x = {write_size(size)}")["x"]) == size


def test_values_are_written_in_the_unit_that_fits() -> None:
    assert [write_duration(each) for each in (0, 0.25, 600, 3600, 0.0001)] == ["0", '"250ms"', '"600s"', '"1h"', "0.0001"]
    assert [write_size(each) for each in (0, 1000, 65536, 2**25)] == ["0", "1000", '"64KiB"', '"32MiB"']
