from __future__ import annotations

import pytest

from txsse.demo.settings import FAILURES, BadManner, DemoSettings, manner

NONE: dict[str, str] = {}
SETTINGS = DemoSettings(text="one two three", pace=0.5, prefill_seconds=2.0)


def test_without_headers_the_settings_hold() -> None:
    how = manner(SETTINGS, NONE.get)
    assert (how.prefill, how.pace, how.words, how.fail) == (2.0, 0.5, ["one", "two", "three"], "")


def test_headers_change_one_answer() -> None:
    headers = {
        "X-Demo-Prefill": "0",
        "X-Demo-Pace": "0.01",
        "X-Demo-Words": "5",
        "X-Demo-Gap": "3",
        "X-Demo-Stall": "4",
        "X-Demo-First": "1",
    }
    how = manner(SETTINGS, headers.get)
    assert how.words == ["one", "two", "three", "one", "two"]
    assert (how.prefill, how.pace, how.gap, how.stall, how.first) == (0.0, 0.01, 3.0, 4.0, 1.0)


@pytest.mark.parametrize("way", FAILURES)
def test_each_failure_can_be_asked_for_by_header_and_by_query(way: str) -> None:
    assert manner(SETTINGS, {"X-Demo-Fail": way}.get).fail == way
    assert manner(SETTINGS, NONE.get, f"{way}=3").fail == way
    assert manner(SETTINGS, NONE.get, f"{way}=3").number == 3


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X-Demo-Fail": "explode"}, "explode.*hang-mid-event"),
        ({"X-Demo-Fail": "status=teapot"}, "teapot"),
        ({"X-Demo-Pace": "quick"}, "X-Demo-Pace.*quick"),
        ({"X-Demo-Pace": "-1"}, "X-Demo-Pace"),
        ({"X-Demo-Prefill": "nan"}, "X-Demo-Prefill"),
    ],
)
def test_what_is_not_understood_is_named(headers: dict[str, str], text: str) -> None:
    with pytest.raises(BadManner, match=text):
        manner(SETTINGS, headers.get)
