"""Fixed answers: where their bodies come from, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from txsse.config.model import Static
from txsse.proxy.fixed import LARGEST, StaticAnswer, look_of, make_answer, read_file, type_of

TEXT = b"text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("loading.html", b"text/html; charset=utf-8"),
        ("a/b.min.JS", b"text/javascript; charset=utf-8"),
        ("/styles.css", b"text/css; charset=utf-8"),
        ("loading.json", b"application/json"),
        ("/favicon.ico", b"image/x-icon"),
        ("/v1/models/qwen3-0.6b", None),
        ("/v1/chat/completions", None),
        ("/", None),
        ("", None),
    ],
)
def test_types_by_extension(name: str, kind: bytes | None) -> None:
    assert type_of(name) == kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"status":"loading"}', b"application/json"),
        (b" [1]\n", b"application/json"),
        (b"\n<!doctype html><p>", b"text/html; charset=utf-8"),
        (b"{status}", TEXT),
        (b"healthy", TEXT),
        (b"", TEXT),
        (b"[" * 200_000, TEXT),
    ],
)
def test_types_by_look(body: bytes, kind: bytes) -> None:
    assert look_of(body) == kind


def test_a_named_type_wins(tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_bytes(b"{}")
    assert make_answer(200, "", str(file), "").headers == [(b"Content-Type", b"text/html; charset=utf-8")]
    assert make_answer(200, "", str(file), "application/x-own").content_type == b"application/x-own"
    assert make_answer(200, "{}", "", "text/x-own").content_type == b"text/x-own"


def test_a_file_of_no_known_kind_is_bytes(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"\xff\x00")
    answer = make_answer(503, "", str(file), "")
    assert (answer.content_type, answer.body) == (b"application/octet-stream", b"\xff\x00")


def test_without_a_body_there_is_no_type() -> None:
    assert (make_answer(503, "", "", "").content_type, make_answer(503, "", "", "").body) == (b"", b"")


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ValueError, match="large' is larger than 1024 KiB, and would be kept in memory"):
        read_file(str(large))
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_file(str(tmp_path / "nowhere"))
    large.write_bytes(b"x" * 10)
    assert read_file(str(large)) == b"x" * 10


def test_a_static_answer_says_what_it_is() -> None:
    found = StaticAnswer.load(Static(body="ünwell", status=500, headers={"Cache-Control": "no-store"}, when="always"))
    assert found is not None
    assert (found.always, found.answer.status, found.answer.body) == (True, 500, "ünwell".encode())
    assert found.answer.headers == [(b"Content-Type", TEXT), (b"Cache-Control", b"no-store"), (b"X-Static", b"true")]


def test_its_status_is_200_unless_told() -> None:
    found = StaticAnswer.load(Static(body="ok"))
    assert found is not None and (found.answer.status, found.always) == (200, False)
    assert StaticAnswer.load(Static()) is None


def test_a_status_without_a_body_has_no_type() -> None:
    found = StaticAnswer.load(Static(status=204))
    assert found is not None and found.answer.headers == [(b"X-Static", b"true")]
