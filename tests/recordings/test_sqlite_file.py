"""The file of a store: that it tells what it was told, its bound, and what becomes of a file that is not as it should be."""

from __future__ import annotations

import sqlite3
import stat
from array import array
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.recordings.entries import an_entry, key_of
from txsse.dialects.usage import Usage
from txsse.recordings.entry import Entry
from txsse.recordings.sqlite_file import VERSION, Corrupt, File

LIMIT = 1024 * 1024

Open = Callable[..., File]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings.sqlite"


@pytest.fixture
def open_file(path: Path) -> Generator[Open]:
    files: list[File] = []

    def opened(limit: int = LIMIT) -> File:
        files.append(File(str(path), limit))
        return files[-1]

    yield opened
    for each in files:
        each.close()


def run(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return [row for each in statements for row in connection.execute(each)]
    finally:
        connection.close()


def size_of(path: Path) -> int:
    ((pages,),) = run(path, "PRAGMA page_count")
    return 4096 * int(pages)


def keys(file: File) -> list[bytes]:
    return [each.key for each in file.load()]


fields = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=5)
seconds = st.floats(0, 1e10)
entries = st.builds(
    Entry,
    key=st.binary(min_size=32, max_size=32),
    route=st.text(st.characters(exclude_categories=["Cs"])),
    dialect=st.sampled_from(["openai", "ollama"]),
    streamed=st.booleans(),
    headers=fields,
    body=st.binary(max_size=10_000),
    ends=st.lists(st.integers(0, 2**32 - 1), max_size=20).map(lambda them: array("I", them)),
    times=st.lists(st.floats(0, 1e6, width=32), max_size=20).map(lambda them: array("f", them)),
    stored=seconds,
    ttl=seconds,
    usage=st.none() | st.builds(Usage, prompt=st.integers(0, 10**9), completion=st.integers(0, 10**9)),
    model=st.text(st.characters()),  # JSON may hold half a surrogate pair
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries)
def test_what_is_read_is_what_was_written(open_file: Open, entry: Entry) -> None:
    file = open_file()
    assert file.write(entry, 0, {}) == []
    got = file.read(entry.key)
    summary = {each.key: each for each in file.load()}[entry.key]
    file.close()
    assert got is not None
    assert attrs.asdict(got) == attrs.asdict(entry)
    assert (summary.route, summary.dialect, summary.model, summary.size) == (entry.route, entry.dialect, entry.model, entry.size)
    assert (summary.stored, summary.ttl) == (entry.stored, entry.ttl)


def test_numbers_lie_in_the_file_with_the_lowest_byte_first(open_file: Open, path: Path) -> None:
    file = open_file()
    file.write(attrs.evolve(an_entry(), ends=array("I", [1, 0x01020304]), times=array("f", [1.0])), 0, {})
    file.close()
    assert run(path, "SELECT ends, times FROM entries") == [(b"\1\0\0\0\4\3\2\1", b"\0\0\x80\x3f")]


def test_only_its_owner_may_read_it(open_file: Open, path: Path) -> None:
    file = open_file()
    file.write(an_entry(), 0, {})
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {path.name + end: 0o600 for end in ("", "-wal", "-shm")}


@pytest.mark.parametrize("length", [10, 1500, 4100, 20_000, 300_000])
def test_the_file_never_grows_beyond_its_bound(open_file: Open, path: Path, length: int) -> None:
    file = open_file()
    gone = []
    count = 3 * LIMIT // (length + 200)
    for number in range(count):
        told = file.write(an_entry(number, length), number, {})
        assert told is not None
        gone += [key for key, _ in told]
        if number % 20 == 0:
            assert size_of(path) <= LIMIT
    assert size_of(path) <= LIMIT
    assert gone == [key_of(number) for number in range(len(gone))]
    assert keys(file) == [key_of(number) for number in range(len(gone), count)]
    assert len(keys(file)) * (length + 200) > LIMIT * 0.4  # and is made use of


def test_what_was_used_goes_last(open_file: Open) -> None:
    file = open_file()
    for number in range(3):
        file.write(an_entry(number, 300_000), number, {})
    assert file.write(an_entry(3, 300_000), 10, {key_of(0): 5.0}) == [(key_of(1), 0.0)]
    file.touch({key_of(2): 11.0, key_of(77): 12.0})
    assert keys(file) == [key_of(0), key_of(3), key_of(2)]


def test_what_is_too_large_takes_nobody_elses_place(open_file: Open) -> None:
    file = open_file()
    file.write(an_entry(1, 10_000), 0, {})
    file.write(an_entry(2, 10_000), 0, {})
    assert file.write(an_entry(2, LIMIT - 20_000), 0, {}) is None
    assert keys(file) == [key_of(1)]


def test_a_file_shrinks_with_its_limit(open_file: Open, path: Path) -> None:
    file = open_file()
    for number in range(9):
        file.write(an_entry(number, 100_000), number, {})
    file.close()
    file = open_file(LIMIT // 4)
    assert keys(file) == [key_of(7), key_of(8)]
    file.close()
    assert path.stat().st_size <= LIMIT // 4


def test_the_last_to_write_wins(open_file: Open) -> None:
    one, other = open_file(), open_file()
    one.write(an_entry(1, fill=b"1"), 0, {})
    other.write(an_entry(1, fill=b"2"), 0, {})
    got = one.read(key_of(1))
    assert got is not None and got.body == b"2" * 100
    assert keys(one) == [key_of(1)]


def test_what_has_expired_is_deleted_unless_it_was_replaced(open_file: Open) -> None:
    file = open_file()
    file.write(an_entry(1, stored=0, ttl=60), 0, {})
    file.expire(key_of(1), 59)
    assert keys(file) == [key_of(1)]
    file.expire(key_of(1), 60)
    assert keys(file) == []


def test_deleting_and_purging(open_file: Open) -> None:
    file = open_file()
    for number in range(6):
        file.write(an_entry(number, route="chat" if number % 3 else "code"), number, {})
    file.delete(key_of(1))
    file.purge("code")
    assert keys(file) == [key_of(2), key_of(4), key_of(5)]
    file.purge(None)
    assert keys(file) == []


def test_a_file_of_another_version_begins_anew(open_file: Open, path: Path) -> None:
    file = open_file()
    file.write(an_entry(1), 0, {})
    file.close()
    run(path, "ALTER TABLE entries RENAME body TO was", f"PRAGMA user_version = {VERSION + 1}")
    assert keys(file) == []
    file.write(an_entry(2), 0, {})
    assert keys(file) == [key_of(2)]
    assert not path.with_name(path.name + ".corrupt").exists()


def test_a_lost_table_is_made_anew_after_one_failure(open_file: Open, path: Path) -> None:
    file = open_file()
    file.load()
    run(path, "DROP TABLE entries")
    with pytest.raises(sqlite3.OperationalError):
        file.read(key_of(1))
    assert file.read(key_of(1)) is None


def test_the_database_of_another_program_is_left_alone(open_file: Open, path: Path) -> None:
    run(path, "CREATE TABLE entries (precious)", "INSERT INTO entries VALUES (1)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another program"):
        open_file().load()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 8000])
def test_what_is_no_database_is_moved_aside(open_file: Open, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    file = open_file()
    with pytest.raises(Corrupt, match="moved to"):
        file.load()
    assert path.with_name(path.name + ".corrupt").read_bytes() == content
    assert file.load() == []


def test_a_file_that_rots_while_it_is_used_is_moved_aside(open_file: Open, path: Path) -> None:
    file = open_file()
    for number in range(20):
        file.write(an_entry(number, 10_000), number, {})
    file.close()
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(Corrupt):
        file.read(key_of(3))
    file.write(an_entry(3), 0, {})
    assert keys(file) == [key_of(3)]


def test_an_entry_that_makes_no_sense_is_corruption_too(open_file: Open, path: Path) -> None:
    file = open_file()
    file.write(an_entry(1), 0, {})
    run(path, "UPDATE entries SET ends = x'00'")
    with pytest.raises(Corrupt):
        file.read(key_of(1))
    file.write(an_entry(1), 0, {})
    run(path, "UPDATE entries SET head = '[]'")
    with pytest.raises(Corrupt):
        file.load()


@pytest.mark.parametrize("rot", ["head = CAST(x'ff' AS TEXT)", "head = '[1, 2, 3, 4, 5]'", "stored = 'soon'"])
def test_whatever_rotted_it_is_corruption(open_file: Open, path: Path, rot: str) -> None:
    file = open_file()
    file.write(an_entry(1), 0, {})
    run(path, f"UPDATE entries SET {rot}")
    with pytest.raises(Corrupt):
        file.load()
    assert keys(file) == []


def test_a_fresh_file_is_not_moved_aside_by_who_found_the_old_one_corrupt(open_file: Open, path: Path) -> None:
    slow, quick = open_file(), open_file()
    slow.write(an_entry(1), 0, {})
    run(path, "UPDATE entries SET head = '[]'")
    with pytest.raises(Corrupt):
        quick.load()
    quick.write(an_entry(2), 0, {})
    with pytest.raises(Corrupt):
        slow.load()
    assert keys(slow) == [key_of(2)]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        File(str(tmp_path / "missing" / "file"), LIMIT).load()
