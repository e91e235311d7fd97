"""How long starts take: the median, the file, and that no file is bad enough to matter."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, globalLogPublisher

from txsse.upstream.wake import eta as module
from txsse.upstream.wake.eta import FILE, KEPT, Starts


@pytest.fixture
def warnings() -> Generator[list[str]]:
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == module.__name__ + ".Starts":
            said.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a function is enough of an ILogObserver
    yield said
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]  # the same


def test_nothing_is_known_before_the_first_start() -> None:
    starts = Starts()
    assert starts.expected("llama") is None
    assert starts.remaining("llama", 3) is None


def test_the_median_of_the_last_starts_is_expected() -> None:
    starts = Starts()
    for seconds in (500, 30, 31, 32, 33, 34):  # the first one came from a cold disk
        starts.add("llama", seconds)
    assert starts.expected("llama") == 32
    assert starts.expected("qwen") is None


def test_what_remains_is_never_less_than_nothing() -> None:
    starts = Starts()
    starts.add("llama", 30)
    assert [starts.remaining("llama", elapsed) for elapsed in (0, 12.5, 30, 90)] == [30, 17.5, 0, 0]


def test_they_are_kept_across_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when needed"
    starts = Starts(str(folder))
    for seconds in range(1, 9):
        starts.add("llama", seconds + 0.12345)
    starts.add("qwen", 7)
    again = Starts(str(folder))
    assert again.expected("llama") == 6.123
    assert again.expected("qwen") == 7
    assert [each.name for each in folder.iterdir()] == [FILE]
    assert len(json.loads((folder / FILE).read_text())["starts"]["llama"]) == KEPT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'"starts"',
        b'{"starts": []}',
        b'{"starts": {"llama": 5}}',
        b'{"starts": {"llama": ["x", null, true, -1, 1e99, NaN, {}]}}',
        b'{"starts": {"llama": [' + b"9" * 5000 + b"]}}",
        b"[" * 100_000,
    ],
)
def test_a_broken_file_is_no_history_and_is_replaced_with_the_next_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    starts = Starts(str(tmp_path))
    assert starts.expected("llama") is None
    starts.add("llama", 3)
    assert Starts(str(tmp_path)).expected("llama") == 3


def test_what_is_good_in_a_broken_file_counts(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"starts": {"llama": [30, "x", 31.5], "qwen": {}}, "more": 1}')
    assert Starts(str(tmp_path)).expected("llama") == 30.75


@settings(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_json_breaks_it(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / FILE).write_text(json.dumps({"starts": content}))
    starts = Starts(str(folder))
    starts.add("llama", 1)
    assert starts.expected("llama") is not None


def test_a_file_that_cannot_be_read_or_written_costs_a_warning(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / FILE).mkdir()
    starts = Starts(str(tmp_path))
    starts.add("llama", 3)
    assert starts.expected("llama") == 3
    assert [each.partition(": ")[0] for each in warnings] == ["no history of starts", "the history of starts is not kept"]


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "file").write_text("")
    starts = Starts(str(tmp_path / "file" / "folder"))
    starts.add("llama", 3)
    assert len(warnings) == 2


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Starts().add("llama", 3)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_used_no_more_do_not_gather() -> None:
    starts = Starts()
    starts.add("first", 1)
    starts.add("kept in use", 1)
    for number in range(1500):
        starts.add(f"upstream-{number}", 1)
        if number % 500 == 0:
            starts.add("kept in use", 1)
    assert starts.expected("first") is None
    assert starts.expected("kept in use") == 1
