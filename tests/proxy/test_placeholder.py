"""Placeholders: which path gets which file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from txsse.config import model
from txsse.proxy.fixed import Answer
from txsse.proxy.placeholder import Placeholder
from txsse.wire.http1 import RequestHead

HTML, CSS, JSON = b"text/html; charset=utf-8", b"text/css; charset=utf-8", b"application/json"


def load(**options: Any) -> Placeholder:
    found = Placeholder.load(attrs.evolve(model.Placeholder(), **options))
    assert found is not None
    return found


def ask(placeholder: Placeholder, path: bytes, method: bytes = b"GET") -> Answer:
    return placeholder.answer(RequestHead(method, path, b"HTTP/1.1", [(b"Host", b"h")]))


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_bytes(b"<p>Loading")
    (tmp_path / "x.css").write_bytes(b"p {}")
    return tmp_path


def test_there_is_none_unless_it_is_written() -> None:
    assert Placeholder.load(model.Placeholder()) is None
    assert Placeholder.load(model.Placeholder(page="always")) is None


def test_a_body_for_every_path() -> None:
    placeholder = load(body='{"status":"loading"}')
    for path, method in ((b"/", b"GET"), (b"/v1/chat/completions", b"POST"), (b"/v1/models/qwen3-0.6b", b"GET"), (b"/a.json", b"GET")):
        answer = ask(placeholder, path, method)
        assert (answer.status, answer.body) == (503, b'{"status":"loading"}')
        assert answer.headers == [(b"Content-Type", JSON), (b"Cache-Control", b"no-store")]


def test_an_empty_body_is_allowed() -> None:
    answer = ask(load(status=425), b"/")
    assert (answer.status, answer.body, answer.content_type) == (425, b"", b"")


def test_paths_with_files_of_their_own(pages: Path) -> None:
    placeholder = load(
        file=str(pages / "index.html"), files={"/styles.css": str(pages / "x.css"), "/a b": str(pages / "x.css")}, status=200
    )
    assert (ask(placeholder, b"/").body, ask(placeholder, b"/").content_type) == (b"<p>Loading", HTML)
    assert (ask(placeholder, b"/styles.css?v=1").body, ask(placeholder, b"/styles.css").content_type) == (b"p {}", CSS)
    assert ask(placeholder, b"/a%20b").body == b"p {}"
    assert {ask(placeholder, path).status for path in (b"/", b"/styles.css", b"/none.css")} == {200}


def test_what_a_page_would_load_and_is_not_there_has_an_empty_body(pages: Path) -> None:
    placeholder = load(file=str(pages / "index.html"))
    answer = ask(placeholder, b"/logo.png")
    assert (answer.status, answer.body, answer.content_type) == (503, b"", b"image/png")
    assert ask(placeholder, b"/other.html").body == b"<p>Loading"
    assert ask(placeholder, b"/logo.png", b"POST").body == b"<p>Loading"


def test_files_alone_leave_every_other_path_empty(pages: Path) -> None:
    placeholder = load(files={"/": str(pages / "index.html")})
    assert ask(placeholder, b"/").body == b"<p>Loading"
    assert (ask(placeholder, b"/x").status, ask(placeholder, b"/x").body) == (503, b"")


@pytest.mark.parametrize(
    ("options", "is_page"),
    [
        ({"body": '{"a":1}'}, False),
        ({"body": "<p>Loading"}, True),
        ({"body": "Loading", "content_type": "Text/HTML"}, True),
        ({"status": 503}, False),
    ],
)
def test_what_is_meant_for_browsers_itself(options: dict[str, object], is_page: bool) -> None:
    assert load(**options).is_page is is_page


def test_so_is_a_page_for_the_root(pages: Path) -> None:
    assert load(body="{}", files={"/": str(pages / "index.html")}).is_page
    assert not load(body="{}", files={"/x": str(pages / "index.html")}).is_page


def test_a_file_that_is_gone_is_an_error(pages: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.css' cannot be read"):
        load(files={"/": str(pages / "index.html"), "/x": str(pages / "gone.css")})
