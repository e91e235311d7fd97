from __future__ import annotations

import pytest

from txsse.demo.__main__ import parser, settings_of
from txsse.demo.settings import FAILURES, DemoSettings


def test_without_options_the_settings_are_the_defaults() -> None:
    assert settings_of(parser().parse_args([])) == DemoSettings()


def test_options_become_settings() -> None:
    arguments = parser().parse_args(["--wake", "3", "--closed", "--from-start", "--prefill", "1", "--pace", "0.5", "--text", "hello"])
    assert settings_of(arguments) == DemoSettings(wake_seconds=3, closed=True, from_start=True, prefill_seconds=1, pace=0.5, text="hello")


def test_the_help_lists_every_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in FAILURES)
