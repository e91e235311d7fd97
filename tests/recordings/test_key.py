"""Keys: what two requests must have in common to be given the same answer."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings import key as module
from txsse.recordings.key import Digest, Uncacheable, digest, make_key, scope_of, twins
from txsse.wire.headers import Headers
from txsse.wire.peek import at_once

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hello\n\u00e9"}],
    "temperature": 0,
    "stream": True,
}
AUTHORIZED: Headers = [(b"Host", b"a"), (b"Authorization", b"Bearer sk-1"), (b"Accept", b"application/json")]


def digest_of(body: dict[str, Any] | bytes, *ignore: str) -> Digest:
    return at_once(digest(body if isinstance(body, bytes) else json.dumps(body).encode(), frozenset(ignore)))


def key_of(body: dict[str, Any] | bytes = CHAT, *, headers: Headers = AUTHORIZED, setting: str = "credential", **others: Any) -> bytes:
    parts: dict[str, Any] = {
        "route": "r",
        "upstream": b"http://u",
        "method": b"POST",
        "target": b"/v1/chat/completions",
        "dialect": "openai-chat",
        "headers": headers,
        "scope": scope_of(headers, setting),
        "digest": digest_of(body),
    }
    return make_key(**(parts | others))


def refusal(headers: Headers, setting: str, extra: bytes = b"") -> str:
    with pytest.raises(Uncacheable) as caught:
        scope_of(headers, setting, extra)
    return caught.value.reason


def test_order_of_members_and_blanks_do_not_count() -> None:
    backwards = dict(reversed(CHAT.items()))
    keys = {key_of(json.dumps(body, indent=indent).encode()) for body in (CHAT, backwards) for indent in (None, 2)}
    assert len(keys) == 1
    assert len(keys.pop()) == 32


CHANGES: dict[str, Any] = {
    "temperature": 0.5,
    "seed": 1,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_k": 1,
    "chat_template_kwargs": {"enable_thinking": False},
    "num_ctx": 2048,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "logit_bias": {"50256": -100},
    "stream_options": {"include_usage": True},
    "n": 2,
    "user": "u",
    "model": "M",
    "stream": False,
    "something_new": None,
    "messages": [{"role": "user", "content": "Hello"}],
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_member_counts(name: str) -> None:
    assert key_of(CHAT | {name: CHANGES[name]}) != key_of(CHAT)


def test_each_of_these_has_a_key_of_its_own() -> None:
    bodies = [CHAT | {name: value} for name, value in CHANGES.items()]
    options: list[Any] = [{"include_usage": False}, {}, None, [], ""]
    bodies += [CHAT | {"stream_options": each} for each in options]
    assert len({key_of(body) for body in bodies}) == len(bodies)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"1", b"1.0"),
        (b"1", b'"1"'),
        (b"null", b'"null"'),
        (b"[]", b"{}"),
        (b"9007199254740993", b"9007199254740992"),
        (b"123456789012345678901", b"123456789012345678902"),
    ],
)
def test_values_that_only_look_alike_are_no_hit(one: bytes, other: bytes) -> None:
    assert key_of(b'{"seed":%b}' % one) != key_of(b'{"seed":%b}' % other)


def test_how_the_stream_is_asked_for_can_be_ignored_like_any_other_member() -> None:
    asked = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert digest_of(asked, "stream_options") == digest_of({"model": "m", "stream": True})


def test_an_ignored_member_does_not_count_at_the_top_only() -> None:
    assert digest_of(CHAT | {"user": "a"}, "user", "metadata") == digest_of(CHAT, "user", "metadata") == digest_of(CHAT)
    assert digest_of(b'{"\\u0075ser":1}', "user") == digest_of(b"{}")
    assert digest_of({"a": {"user": "a"}}, "user") != digest_of({"a": {}}, "user")


def test_stream_and_its_options_stand_apart() -> None:
    found = [digest_of(CHAT | more) for more in ({"stream": False}, {"stream_options": {"include_usage": True}}, {})]
    assert len({each.rest for each in found}) == 1
    assert [each.stream for each in found] == [b"false", b"true", b"true"]
    assert [each.options is None for each in found] == [True, False, True]
    assert digest_of(b"{}").stream is None
    assert digest_of(b'{"str\\u0065am" : true}').stream == b"true"
    assert digest_of({"a": {"stream": True}}).stream is None


def test_a_member_given_twice_has_no_digest() -> None:
    with pytest.raises(Uncacheable, match="duplicate_member"):
        digest_of(b'{"messages":[{"role":"user","role":"system"}]}')


@pytest.mark.parametrize("text", [b"0", b"0.0", b"-0", b"-0.00", b"0e5", b"0.0E-3", b"0e+0"])
def test_temperature_zero_is_deterministic(text: bytes) -> None:
    assert digest_of(b'{"temperature":%b}' % text).deterministic
    assert digest_of(b'{"options":{"temperature" : %b}}' % text).deterministic


@pytest.mark.parametrize(
    "text", [b"1", b"0.1", b"1e-9", b"10", b"0.01", b'"0"', b"null", b"false", b"[]", b"{}", b"[0]", b'{"temperature":0}']
)
def test_another_temperature_is_not(text: bytes) -> None:
    assert not digest_of(b'{"temperature":%b}' % text).deterministic
    assert not digest_of(b'{"options":{"temperature":%b}}' % text).deterministic


@pytest.mark.parametrize(("text", "expected"), [(b"0", True), (b"42", True), (b'"x"', True), (b"null", False), (b"-1", False)])
def test_a_seed_is_deterministic(text: bytes, expected: bool) -> None:
    assert digest_of(b'{"seed":%b,"temperature":1}' % text).deterministic is expected
    assert digest_of(b'{"options":{"seed":%b,"temperature":1}}' % text).deterministic is expected


@pytest.mark.parametrize(
    "body", [b"{}", b'{"a":{"seed":1}}', b'{"options":[{"seed":1}]}', b'{"a":{"options":{"seed":1}}}', b'{"options":"seed"}', b'{"Seed":1}']
)
def test_a_seed_elsewhere_is_not(body: bytes) -> None:
    assert not digest_of(body).deterministic


@pytest.mark.parametrize("ignore", ["seed", "options", "temperature"])
def test_what_is_ignored_in_the_key_still_settles_the_answer(ignore: str) -> None:
    assert digest_of({"seed": 1, "options": {"seed": 1}}, ignore).deterministic


CREDENTIALS = ["Authorization", "Proxy-Authorization", "Cookie", "x-api-key", "api-key", "X-Goog-Api-Key"]


@pytest.mark.parametrize("name", CREDENTIALS)
def test_each_credential_has_its_scope(name: str) -> None:
    field = name.encode()
    one, other = ([(b"Host", b"a"), (field, value)] for value in (b"Bearer a", b"Bearer b"))
    assert scope_of(one, "credential") != scope_of(other, "credential")
    assert scope_of(one, "credential") == scope_of([(field.upper(), b"Bearer a"), (b"X-Other", b"1")], "credential")
    assert key_of(headers=one) != key_of(headers=other)
    assert key_of(headers=one, setting="shared") == key_of(headers=other, setting="shared")


def test_credentials_do_not_run_together() -> None:
    heads: list[Headers] = [[(name.encode(), b"a")] for name in CREDENTIALS]
    heads += [[*one, *other] for one, other in combinations(heads, 2)]
    heads += [
        [(b"Cookie", b"a"), (b"Cookie", b"b")],
        [(b"Cookie", b"b"), (b"Cookie", b"a")],
        [(b"Cookie", b"ab")],
        [(b"Cookie", b"a; b")],
        [(b"Cookie", b"a7:api-key1:a")],
        [(b"Cookie", b"a1:b")],
    ]
    scopes = {scope_of(head, "credential") for head in heads}
    assert len(scopes) == len(heads)
    assert {len(each) for each in scopes} == {32}


def test_the_order_of_different_fields_does_not_count() -> None:
    fields = [(b"Cookie", b"a"), (b"Authorization", b"b")]
    assert scope_of(fields, "credential") == scope_of(fields[::-1], "credential")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"Host", b"a"), (b"X-Api", b"b"), (b"x-api-key2", b"c")],
        [(b"Authorization", b"")],
        [(b"Authorization", b"Bearer "), (b"Cookie", b" ")],
        [(b"Authorization", b"basic")],
    ],
)
def test_without_a_credential_nothing_is_shared(headers: Headers) -> None:
    assert refusal(headers, "credential") == "no_credential"
    assert scope_of(headers, "shared") == scope_of([], "shared")


def test_a_credential_from_elsewhere_counts() -> None:
    scopes = [
        scope_of([], "credential", b"one"),
        scope_of([], "credential", b"two"),
        scope_of(AUTHORIZED, "credential"),
        scope_of(AUTHORIZED, "credential", b"one"),
        scope_of([(b"Cookie", b"one")], "credential"),
    ]
    assert len(set(scopes)) == len(scopes)
    assert scope_of([], "shared", b"one") == scope_of([], "shared", b"two")


def test_a_header_may_be_the_scope() -> None:
    one: Headers = [(b"X-Tenant", b"a"), (b"Authorization", b"1")]
    assert scope_of(one, "header:x-tenant") == scope_of([(b"x-tenant", b"a"), (b"Authorization", b"2")], "header:X-Tenant")
    assert scope_of(one, "header:x-tenant") != scope_of([(b"x-tenant", b"b")], "header:x-tenant")
    assert scope_of(one, "header:x-tenant") != scope_of([*one, (b"x-tenant", b"a")], "header:x-tenant")
    assert scope_of(one, "header:authorization") not in (scope_of(one, "credential"), scope_of([(b"Authorization", b"1")], "credential"))
    assert refusal([(b"Authorization", b"1")], "header:x-tenant") == "no_scope_header"
    assert refusal([(b"x-tenant", b" ")], "header:x-tenant", b"extra") == "no_scope_header"
    assert refusal(one, "a setting that is none") == "no_scope_header"


def test_a_scope_does_not_tell_the_secret() -> None:
    assert b"sk-1" not in scope_of(AUTHORIZED, "credential")


@pytest.mark.parametrize(
    "change",
    [
        {"route": "s"},
        {"upstream": b"http://v"},
        {"method": b"GET"},
        {"target": b"/v1/chat/completions?a"},
        {"dialect": "generic"},
        {"scope": b"x" * 32},
        {"route": "rhttp://u", "upstream": b""},
        {"route": "r8:http://u", "upstream": b""},
    ],
    ids=str,
)
def test_every_part_counts(change: dict[str, Any]) -> None:
    assert key_of(**change) != key_of()


@pytest.mark.parametrize(
    "name", [b"Accept", b"anthropic-version", b"Anthropic-Beta", b"OpenAI-Beta", b"OpenAI-Organization", b"OpenAI-Project"]
)
def test_a_field_that_chooses_the_answer_counts(name: bytes) -> None:
    more = [[], [(name, b"")], [(name, b"a")], [(name, b"b")], [(name, b"a"), (name, b"b")], [(name, b"b"), (name, b"a")], [(name, b"a,b")]]
    head = [(b"Host", b"a"), (b"Authorization", b"Bearer sk-1")]
    assert len({key_of(headers=head + each) for each in more}) == len(more)
    assert key_of(headers=[*head, (name.upper(), b"a")]) == key_of(headers=[(name.lower(), b"a"), *head])


def test_other_fields_do_not_count() -> None:
    assert key_of(headers=[*AUTHORIZED, (b"User-Agent", b"x"), (b"X-Request-Id", b"1")]) == key_of()


@given(st.lists(st.binary(max_size=4) | st.none(), max_size=6), st.lists(st.binary(max_size=4) | st.none(), max_size=6))
def test_lists_of_parts_do_not_run_together(one: list[bytes | None], other: list[bytes | None]) -> None:
    assert (module._hash(one) == module._hash(other)) == (one == other)


def with_form(form: dict[str, Any]) -> Digest:
    return digest_of({"model": "m", "temperature": 0} | form)


DOCUMENTS: list[dict[str, Any]] = [{}, {"stream": False}]
STREAMS: list[dict[str, Any]] = [
    {"stream": True},
    *({"stream": True, "stream_options": {"include_usage": usage}} for usage in (True, False)),
]


@pytest.mark.parametrize("form", DOCUMENTS, ids=str)
def test_the_twins_of_a_document_are_streams(form: dict[str, Any]) -> None:
    assert twins(with_form(form), streamed=False) == [with_form(each) for each in STREAMS]


@pytest.mark.parametrize("form", [*STREAMS, {"stream": True, "stream_options": {"other": 1}}], ids=str)
def test_the_twins_of_a_stream_are_documents(form: dict[str, Any]) -> None:
    assert twins(with_form(form), streamed=True) == [with_form(each) for each in DOCUMENTS]


def test_where_a_stream_needs_not_be_asked_for_a_request_is_not_its_own_twin() -> None:
    assert twins(with_form({}), streamed=True) == [with_form({"stream": False})]


def test_where_a_stream_needs_not_be_asked_for_a_request_without_a_word_is_a_documents_twin() -> None:
    assert twins(with_form({"stream": False}), streamed=False, unless_told=True) == [with_form(each) for each in ({}, *STREAMS)]
    assert twins(with_form({"stream": True}), streamed=True, unless_told=True) == [with_form({"stream": False})]


def test_twins_have_keys_of_their_own_that_the_twin_finds() -> None:
    question, other = with_form({"stream": True}), attrs.evolve(with_form({"stream": False}), rest=b"r" * 32)
    keys = [key_of(digest=each) for each in twins(question, streamed=True)]
    assert keys == [key_of(digest=with_form(form)) for form in DOCUMENTS]
    assert key_of(digest=question) not in keys
    assert not {*keys, key_of(digest=question)} & {key_of(digest=each) for each in (other, *twins(other, streamed=False))}


@pytest.mark.parametrize(("form", "expected"), [*((form, False) for form in DOCUMENTS), *zip(STREAMS, (False, True, False), strict=True)])
def test_a_stream_may_be_asked_to_tell_its_usage(form: dict[str, Any], expected: bool) -> None:
    assert with_form(form).wants_usage is expected
