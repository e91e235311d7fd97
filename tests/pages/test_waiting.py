"""The waiting page: who wants one, what stands in it, and what its policy lets it do."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.exchange.voice import HoldStatus
from txsse.pages.waiting import WaitingPage, wants_page
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead

CHROMIUM = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
TOKEN = "AbC-_" + "x" * 17


def head(accept: bytes | None, *more: tuple[bytes, bytes], method: bytes = b"GET") -> RequestHead:
    headers: Headers = [(b"Host", b"h"), *([] if accept is None else [(b"Accept", accept)]), *more]
    return RequestHead(method, b"/", b"HTTP/1.1", headers)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (CHROMIUM, True),
        (b"text/html", True),
        (b"TEXT/HTML; charset=utf-8", True),
        (b"application/xhtml+xml", True),
        (b"application/json;q=0.5, text/html;q=0.6", True),
        (b"text/html;q=1.000", True),
        (None, False),
        (b"", False),
        (b"*/*", False),
        (b"*/*, text/html", False),
        (b"text/event-stream", False),
        (b"application/json, text/event-stream, text/html", False),
        (b"text/event-stream, text/html", False),
        (b"text/html;q=0.5, application/json", False),
        (b"text/html;q=0", False),
        (b"text/htmlx", False),
        (b"image/avif,image/webp,*/*;q=0.8", False),
    ],
)
def test_who_prefers_html(accept: bytes | None, wanted: bool) -> None:
    assert wants_page(head(accept)) is wanted


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"OPTIONS", b"DELETE"])
def test_only_a_get_can_be_loaded_anew(method: bytes) -> None:
    assert not wants_page(head(CHROMIUM, method=method))


@pytest.mark.parametrize(
    ("mode", "wanted"), [(b"navigate", True), (b"Navigate", True), (b"cors", False), (b"no-cors", False), (b"same-origin", False)]
)
def test_a_script_of_a_page_is_nobody_who_looks_at_it(mode: bytes, wanted: bool) -> None:
    assert wants_page(head(CHROMIUM, (b"Sec-Fetch-Mode", mode))) is wanted


@given(st.binary(max_size=40).filter(lambda value: b"\r" not in value and b"\n" not in value))
def test_no_accept_is_a_mistake(accept: bytes) -> None:
    assert wants_page(head(accept)) in (True, False)


class Reader(HTMLParser):
    """What stands in a page, and where it is nested wrongly."""

    VOID = frozenset(("meta", "link", "br", "img", "input"))

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open:
            self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def by_id(self, name: str) -> dict[str, str | None]:
        (found,) = [attrs for _, attrs in self.tags if attrs.get("id") == name]
        return found


def built_in(status: HoldStatus | None = None) -> tuple[Reader, str, Headers]:
    body, headers = WaitingPage.built_in().render(TOKEN, status or HoldStatus("llama", "waking", 12.4, eta=31, position=2), 5)
    return Reader(body.decode()), body.decode(), headers


def test_it_is_an_accessible_page() -> None:
    page, _, _ = built_in()
    (html,) = page.attributes("html")
    assert html["lang"] == "en"
    assert page.texts["title"] == page.texts["h1"] == "llama is not ready yet"
    assert [tag for tag, _ in page.tags if tag in ("main", "h1")] == ["main", "h1"]
    news = page.by_id("news")
    assert (news["role"], news["aria-live"]) == ("status", "polite")
    assert page.by_id("bar")["aria-label"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.attributes("meta")


def test_it_tells_what_is_known() -> None:
    page, _, _ = built_in()
    assert page.texts["p"].count("State: waking") == 1
    assert page.texts["dd"] == "12 sabout 31 s more2"
    page, _, _ = built_in(HoldStatus("llama", "down", 0.0))
    assert page.texts["dd"] == "0 snot knownnot known"
    page, _, _ = built_in(HoldStatus("llama", "loading", 3.0, eta=0.2))
    assert page.texts["dd"] == "3 sany momentnot known"


def test_it_works_without_scripts() -> None:
    page, body, _ = built_in()
    assert {"http-equiv": "refresh", "content": "5"} in page.attributes("meta")
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in body, "with scripts it would disturb them"


def test_it_loads_nothing_from_elsewhere() -> None:
    page, body, _ = built_in()
    assert "//" not in re.sub(r"(?<=\s)//[^\n]*", "", body).replace("<!DOCTYPE html>", "")
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert all("src" not in attrs and "style" not in attrs and not any(name.startswith("on") for name in attrs) for _, attrs in page.tags)
    assert [attrs["href"] for _, attrs in page.tags if "href" in attrs] == [""], "itself"
    assert "@import" not in body and "url(" not in body


def test_it_follows_its_token_and_looks_right_in_the_dark() -> None:
    page, body, _ = built_in()
    (html,) = page.attributes("html")
    assert html["data-progress"] == f"/-/hold/{TOKEN}"
    assert "color-scheme: light dark" in body and "@media (prefers-color-scheme: dark)" in body
    assert not re.search(r"(?<!\$)\{(upstream|token|progress|state|elapsed|eta|position|refresh)\}", body)
    assert "`State: ${state}`" in body, "a script's own"


def digests(body: str, tag: str) -> list[str]:
    return [
        b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", body, re.DOTALL)
    ]


def policy(headers: Headers) -> dict[str, str]:
    text = (get(headers, b"content-security-policy") or b"").decode()
    return dict(rule.split(" ", 1) for rule in text.split("; "))


def test_its_policy_allows_its_own_script_and_style_and_nothing_else() -> None:
    _, body, headers = built_in()
    rules = policy(headers)
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["script-src"] == f"'sha256-{digests(body, 'script')[0]}'"
    assert rules["style-src"] == f"'sha256-{digests(body, 'style')[0]}'"
    assert "unsafe" not in "".join(rules.values()) and "*" not in "".join(rules.values())


def test_its_other_fields() -> None:
    _, _, headers = built_in()
    assert get(headers, b"content-type") == b"text/html; charset=utf-8"
    assert get(headers, b"cache-control") == b"no-store"
    assert get(headers, b"referrer-policy") == b"no-referrer"
    assert get(headers, b"x-content-type-options") == b"nosniff"


def render(template: str, status: HoldStatus | None = None) -> tuple[str, Headers]:
    body, headers = WaitingPage(template.encode(), own=True).render(TOKEN, status or HoldStatus("llama", "down", 3.0), 5)
    return body.decode(), headers


def test_a_template_has_names_to_be_filled_in() -> None:
    body, _ = render("{upstream}|{token}|{progress}|{state}|{elapsed}|{eta}|{position}|{refresh}|{other}|{ state }|${state}|{}")
    assert body == f"llama|{TOKEN}|/-/hold/{TOKEN}|down|3|not known|not known|5|{{other}}|{{ state }}|${{state}}|{{}}"


def test_what_is_filled_in_is_no_html() -> None:
    body, _ = render("{state}", HoldStatus("llama", '<img src=x onerror="a">', 0.0))
    assert body == "&lt;img src=x onerror=&quot;a&quot;&gt;"


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
def test_its_scripts_may_take_effect_whatever_ends_their_lines(line: str) -> None:
    body, headers = render(f"<SCRIPT type=module>{line}let a = '{{token}}'{line}</SCRIPT ><style></style><script src=/x.js></script>")
    script = f"\nlet a = '{TOKEN}'\n"
    assert script in body, "browsers compare with what they have read, in which every line ends in LF"
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy(headers)["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy(headers)["style-src"] == "'self'"


def test_a_template_without_anything_may_do_nothing() -> None:
    _, headers = WaitingPage(b"\xef\xbb\xbf<p>", own=False).render(TOKEN, HoldStatus("llama", "down", 0.0), 5)
    assert policy(headers)["script-src"] == policy(headers)["style-src"] == "'none'"


def test_what_is_no_text_is_no_template() -> None:
    with pytest.raises(ValueError, match=r"not UTF-8 \(at line 2\); save it as UTF-8"):
        WaitingPage(b"<p>\n\xff", own=True)
