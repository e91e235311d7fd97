"""Client keys: the file, where a request may carry one, and what goes upstream of it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from txsse.interfaces import Request
from txsse.proxy.auth import Keys, KeysError
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

ALICE = b"sk-alice"
BOB = b"sk-b\xc3\xb6b+1"


def keys(*, cookie: bytes = b"", query: bytes = b"") -> Keys:
    return Keys((("alice", sha256(ALICE).digest()), ("bob", sha256(BOB).digest())), cookie, query)


def request(*headers: tuple[bytes, bytes], path: bytes = b"/v1/models") -> Request:
    head = RequestHead(b"GET", path, b"HTTP/1.1", list(headers))
    return Request(head=head, body=b"", peer="192.0.2.7", secure=False, host=b"a", path=path, began=0, received=0)


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_has_comments_blank_lines_and_names_twice(tmp_path: Path) -> None:
    one, other = sha256(b"one").hexdigest(), sha256(b"other").hexdigest().upper()
    loaded = Keys.load(write(tmp_path, f"# ours\n\nalice:{one}\r\n  alice:{other}  \n"))
    assert loaded.check([(b"X-Api-Key", b"one")], b"/") == "alice"
    assert loaded.check([(b"X-Api-Key", b"other")], b"/") == "alice"
    assert loaded.check([(b"X-Api-Key", b"third")], b"/") is None


@pytest.mark.parametrize(
    "line", ["alice", "al ice:" + "0" * 64, ":" + "0" * 64, "alice:sk-in-clear", "alice:" + "g" * 64, "alice:" + "0" * 63]
)
def test_a_bad_line_is_named_by_its_number_and_never_shown(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, f"# first\n{line}\n")
    with pytest.raises(KeysError) as caught:
        Keys.load(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert "sk-in-clear" not in str(caught.value)


@pytest.mark.parametrize(("content", "why"), [("# nobody\n", "holds no key"), (b"\xff\xfe", "not UTF-8")])
def test_a_useless_file_is_refused(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(KeysError, match=why):
        Keys.load(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="keys: cannot be read: No such file"):
        Keys.load(tmp_path / "keys")


@pytest.mark.parametrize(
    "field",
    [
        (b"Authorization", b"Bearer sk-alice"),
        (b"authorization", b"bearer  sk-alice "),
        (b"X-API-Key", b"sk-alice"),
        (b"api-key", b"sk-alice"),
    ],
)
def test_the_key_is_found_where_clients_put_it(field: tuple[bytes, bytes]) -> None:
    assert keys().check([field], b"/") == "alice"


@pytest.mark.parametrize(
    "field",
    [
        (b"Authorization", b"sk-alice"),
        (b"Authorization", b"Basic sk-alice"),
        (b"Authorization", b"Bearer sk-alice2"),
        (b"Authorization", b"Bearer "),
        (b"X-Api-Key", b""),
        (b"Cookie", b"key=sk-alice"),
    ],
)
def test_nothing_else_is_a_key(field: tuple[bytes, bytes]) -> None:
    assert keys().check([field], b"/v1?key=sk-alice") is None


def test_a_wrong_key_beside_the_right_one_does_not_matter() -> None:
    assert keys().check([(b"Authorization", b"Bearer upstreams-own"), (b"x-api-key", ALICE)], b"/") == "alice"


def test_cookie_and_query_are_opt_in() -> None:
    accepting = keys(cookie=b"key", query=b"k")
    assert accepting.check([(b"Cookie", b'a=b; key="sk-alice"')], b"/") == "alice"
    assert accepting.check([], b"/v1?x=1&k=sk-b%C3%B6b+1") == "bob"
    assert accepting.check([(b"Cookie", b"other=sk-alice")], b"/v1?kk=sk-alice") is None


def test_repr_shows_no_digest() -> None:
    assert "alice" not in repr(keys())


def test_strip_takes_out_our_keys_only_and_leaves_the_rest_byte_for_byte() -> None:
    kept: Headers = [(b"aUTHORIZATION", b"Bearer upstreams-own"), (b"Accept", b"*/*"), (b"Cookie", b"a=b;  c=d")]
    given = request(*kept, (b"x-api-key", ALICE), (b"Api-Key", BOB), path=b"/v1?k=%20&&key=1")
    head, path = keys(cookie=b"key", query=b"k").strip(given.head, given.path)
    assert head.headers == kept
    assert path == given.path
    assert len(given.head.headers) == 5


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"a=b; key=sk-alice; c=d", b"a=b; c=d"), (b"key=sk-alice; c=d", b"c=d"), (b"key=wrong", b"key=wrong"), (b"key=sk-alice", None)],
)
def test_strip_takes_the_key_out_of_the_cookie(before: bytes, after: bytes | None) -> None:
    head, _ = keys(cookie=b"key").strip(request((b"Cookie", before)).head, b"/")
    assert [value for _, value in head.headers] == ([] if after is None else [after])


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"/v?k=sk-alice", b"/v"), (b"/v?a=%2f&k=sk-alice&b", b"/v?a=%2f&b"), (b"/v?k=wrong", b"/v?k=wrong"), (b"/v?", b"/v?")],
)
def test_strip_takes_the_key_out_of_the_query(before: bytes, after: bytes) -> None:
    assert keys(query=b"k").strip(request().head, before)[1] == after


def test_what_strip_leaves_is_no_longer_accepted() -> None:
    accepting = keys(cookie=b"key", query=b"k")
    given = request((b"Authorization", b"Bearer sk-alice"), (b"Cookie", b"key=sk-alice; key=sk-alice"), path=b"/?k=sk-alice&k=sk-alice")
    head, path = accepting.strip(given.head, given.path)
    assert accepting.check(head.headers, path) is None
