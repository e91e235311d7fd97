"""Heads across the proxy: what the upstream receives, what the client gets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import attrs
import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.interfaces import Request
from txsse.proxy.forwarded import Forwarding, RequestIds, TrustedProxies, outline, response_headers, seen_own_via
from txsse.wire.headers import Headers, get, get_all
from txsse.wire.http1 import RequestHead, ResponseHead

AUTHORITY = b"127.0.0.1:8080"
PLAIN = Forwarding(instance="a1")
TRUSTING = attrs.evolve(PLAIN, trusted=TrustedProxies.parse(["192.0.2.0/24", "2001:db8::/32", "unix:"]))


def request(
    *headers: tuple[bytes, bytes],
    method: bytes = b"POST",
    path: bytes = b"/v1/chat/completions",
    version: bytes = b"HTTP/1.1",
    body: bytes = b"",
    peer: str = "192.0.2.7",
    secure: bool = False,
    host: bytes = b"proxy.example",
) -> Request:
    head = RequestHead(method, path, version, [(b"Host", host), *headers])
    return Request(head=head, body=body, peer=peer, secure=secure, host=host, path=path, began=0, received=0)


def upstream_head(given: Request, forwarding: Forwarding, *, writes_stream: bool) -> bytes:
    return outline(given, forwarding, writes_stream=writes_stream).fill(AUTHORITY, b"rid", len(given.body))


def sent(given: Request, forwarding: Forwarding = PLAIN, *, writes_stream: bool = False) -> tuple[bytes, Headers]:
    """The request line and the fields as they go upstream."""
    head = upstream_head(given, forwarding, writes_stream=writes_stream)
    assert head.endswith(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    return first, [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def field(name: bytes, given: Request, forwarding: Forwarding = PLAIN, **options: Any) -> list[bytes]:
    return get_all(sent(given, forwarding, **options)[1], name)


def test_the_whole_head_of_a_streaming_request() -> None:
    given = request((b"Content-Type", b"application/json"), (b"content-length", b"2"), (b"Accept-Encoding", b"gzip"), body=b"{}")
    assert upstream_head(given, PLAIN, writes_stream=True) == (
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        b"Host: 127.0.0.1:8080\r\n"
        b"Content-Type: application/json\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\n"
        b"X-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: proxy.example\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Via: 1.1 txsse-a1\r\n"
        b"X-Request-Id: rid\r\n"
        b"Content-Length: 2\r\n\r\n"
    )


def test_hop_by_hop_and_connection_named_fields_stay_here() -> None:
    given = request(
        (b"Connection", b"X-Debug, x_hop, keep-alive"),
        (b"X_Hop", b"secret"),
        (b"X-Debug", b"secret"),
        (b"TE", b"trailers"),
        (b"Proxy-Authorization", b"Basic x"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Upgrade", b"h2c"),
        (b"Expect", b"100-continue"),
        (b"OpenAI-Beta", b"responses=v1"),
        (b"Authorization", b"Bearer upstreams"),
    )
    names = {name.lower() for name, _ in sent(given)[1]}
    assert names == {
        b"host",
        b"openai-beta",
        b"authorization",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-request-id",
        b"via",
    }


@pytest.mark.parametrize("path", [b"/p/responses?api-version=2026-03-10", b"/a%2fb/../c?", b"/x?y=%zz&&", b"*", b"//a", b"/\xc3\xa9"])
def test_the_target_goes_upstream_byte_for_byte(path: bytes) -> None:
    assert sent(request(path=path))[0] == b"POST " + path + b" HTTP/1.1"


def test_our_own_fields_cannot_be_sent_by_a_client() -> None:
    given = request((b"X-Txsse-Cold-Start", b"true"), (b"x_txsse_stream", b"1"), (b"X-Txs", b"kept"))
    assert [value for name, value in sent(given)[1] if name.lower().startswith((b"x-txs", b"x_txs"))] == [b"kept"]


def test_a_stranger_cannot_say_who_it_is() -> None:
    given = request(
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"x_forwarded_for", b"10.0.0.2"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"evil"),
        (b"X-Forwarded-Port", b"1"),
        (b"X-Real-IP", b"10.0.0.3"),
        (b"Forwarded", b"for=10.0.0.4"),
    )
    _, headers = sent(given)
    assert not [value for _, value in headers if value.startswith((b"10.", b"for=10", b"evil"))]
    assert get_all(headers, b"x-forwarded-for") == [b"192.0.2.7"]
    assert get_all(headers, b"x-forwarded-proto") == [b"http"]
    assert get_all(headers, b"x-forwarded-host") == [b"proxy.example"]
    assert get(headers, b"forwarded") is None
    assert get(headers, b"x-forwarded-port") is None


def test_what_a_trusted_proxy_says_is_extended() -> None:
    given = request(
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"X-Forwarded-For", b"10.0.0.2"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"front.example"),
        (b"Forwarded", b"for=10.0.0.1;proto=https"),
    )
    _, headers = sent(given, TRUSTING)
    assert get_all(headers, b"x-forwarded-for") == [b"10.0.0.1, 10.0.0.2, 192.0.2.7"]
    assert get_all(headers, b"x-forwarded-proto") == [b"https"]
    assert get_all(headers, b"x-forwarded-host") == [b"front.example"]
    assert get_all(headers, b"forwarded") == [b"for=10.0.0.1;proto=https, for=192.0.2.7;proto=http"]


def test_a_trusted_proxy_that_says_nothing_is_the_client() -> None:
    _, headers = sent(request(peer="2001:db8::1", secure=True), TRUSTING)
    assert get_all(headers, b"x-forwarded-for") == [b"2001:db8::1"]
    assert get_all(headers, b"x-forwarded-proto") == [b"https"]
    assert get(headers, b"forwarded") is None


def test_forwarded_quotes_ipv6_and_knows_unix_sockets() -> None:
    told = (b"Forwarded", b"for=x")
    assert field(b"forwarded", request(told, peer="2001:db8::1"), TRUSTING) == [b'for=x, for="[2001:db8::1]";proto=http']
    assert field(b"forwarded", request(told, peer=""), TRUSTING) == [b"for=x, for=unknown;proto=http"]
    assert field(b"x-forwarded-for", request(peer=""), TRUSTING) == []


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("192.0.3.1", False),
        ("2001:db8::9", True),
        ("::1", False),
        ("", True),
        ("nonsense", False),
    ],
)
def test_trust_is_a_matter_of_addresses_and_networks(peer: str, trusted: bool) -> None:
    assert (peer in TRUSTING.trusted) is trusted
    assert peer not in PLAIN.trusted


def test_an_address_with_a_prefix_length_is_the_network_it_is_in() -> None:
    assert "10.9.9.9" in TrustedProxies.parse(["10.0.0.1/8"])


def test_a_bad_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"192\.0\.2\.0/33"):
        TrustedProxies.parse(["192.0.2.0/33"])


def test_via_is_extended_and_tells_the_version_received() -> None:
    given = request((b"Via", b"1.1 front"), (b"via", b"2 other"), version=b"HTTP/1.0")
    assert field(b"via", given) == [b"1.1 front, 2 other, 1.0 txsse-a1"]


def test_a_loop_is_recognised_by_our_own_via_only() -> None:
    looped = upstream_head(request((b"Via", b"1.1 front")), PLAIN, writes_stream=False)
    via = [(b"Via", line.partition(b": ")[2]) for line in looped.split(b"\r\n") if line.startswith(b"Via")]
    assert seen_own_via(via, "a1")
    assert seen_own_via([(b"via", b"1.1 x"), (b"VIA", b"1.1 TXSSE-A1 (comment)")], "a1")
    assert not seen_own_via(via, "a2")
    assert not seen_own_via([], "a1")


@pytest.mark.parametrize(
    ("policy", "expected"), [("upstream", b"127.0.0.1:8080"), ("preserve", b"proxy.example"), ("api.example", b"api.example")]
)
def test_host_follows_the_configuration(policy: str, expected: bytes) -> None:
    _, headers = sent(request(), attrs.evolve(PLAIN, host=policy))
    assert headers[0] == (b"Host", expected)
    assert get_all(headers, b"host") == [expected]
    assert get_all(headers, b"x-forwarded-host") == [b"proxy.example"]


def test_made_ids_are_uuids_to_those_who_parse_them_and_differ() -> None:
    ids = RequestIds()
    made = {ids.new() for _ in range(1000)}
    assert len(made) == 1000
    assert all(uuid.UUID(each.decode()).hex == each.decode() for each in made)


def test_one_request_id_goes_upstream() -> None:
    assert field(b"x-request-id", request((b"X-Request-ID", b"bad id"), (b"x_request_id", b"2"))) == [b"rid"]


def test_set_headers_replace_the_clients_in_any_letter_case() -> None:
    setting = attrs.evolve(PLAIN, set_headers=[(b"Authorization", b"Bearer ours"), (b"X-Tenant", b"t1"), (b"Cookie", b"")])
    given = request((b"aUTHORIZATION", b"Bearer theirs"), (b"x_tenant", b"t2"), (b"Cookie", b"a=b"), (b"Accept", b"*/*"))
    _, headers = sent(given, setting)
    assert get_all(headers, b"authorization") == [b"Bearer ours"]
    assert get_all(headers, b"x-tenant") == [b"t1"]
    assert not {b"cookie", b"x_tenant"} & {name.lower() for name, _ in headers}
    assert get_all(headers, b"accept") == [b"*/*"]


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Connection", b"Transfer-Encoding", b"Via", b"Bad Name", b""])
def test_set_headers_cannot_break_the_head(name: bytes) -> None:
    with pytest.raises(ValueError, match="set_headers"):
        Forwarding(instance="a1", set_headers=[(name, b"x")])


def test_a_secret_with_a_line_end_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        Forwarding(instance="a1", set_headers=[(b"Authorization", b"Bearer s3cret\n")])
    assert "s3cret" not in str(caught.value)
    assert "Bearer" not in repr(Forwarding(instance="a1", set_headers=[(b"Authorization", b"Bearer x")]))


def test_compression_is_forbidden_only_where_the_proxy_may_write() -> None:
    given = request((b"Accept-Encoding", b"gzip, br"))
    assert field(b"accept-encoding", given) == [b"gzip, br"]
    assert field(b"accept-encoding", given, writes_stream=True) == [b"identity"]


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ([(b"Transfer-Encoding", b"chunked")], b"abc", [b"3"]),
        ([(b"Transfer-Encoding", b"chunked")], b"", [b"0"]),
        ([(b"Content-Length", b"0003")], b"abc", [b"3"]),
        ([(b"Content-Length", b"0")], b"", [b"0"]),
        ([(b"Connection", b"Content-Length"), (b"Content-Length", b"3")], b"abc", [b"3"]),
        ([], b"", []),
    ],
)
def test_a_body_leaves_with_its_length_and_no_body_without(headers: Headers, body: bytes, expected: list[bytes]) -> None:
    _, fields = sent(request(*headers, body=body))
    assert get_all(fields, b"content-length") == expected
    assert get(fields, b"transfer-encoding") is None


_NAMES: Sequence[bytes] = [
    b"Connection",
    b"Via",
    b"X-Request-Id",
    b"Forwarded",
    b"Cookie",
    b"TE",
    b"X-A",
    b"Content-Length",
    b"Transfer-Encoding",
]
_VALUES = st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if 0x21 <= byte < 0x7F or byte > 0xA0))


@given(st.lists(st.tuples(st.sampled_from(_NAMES), _VALUES)), st.binary(max_size=30))
def test_another_parser_reads_the_head_as_one_request(headers: Headers, body: bytes) -> None:
    head = upstream_head(request(*headers, body=body), TRUSTING, writes_stream=True)
    server = h11.Connection(h11.SERVER)
    server.receive_data(head + body)
    parsed = server.next_event()
    assert isinstance(parsed, h11.Request)
    assert parsed.target == b"/v1/chat/completions"
    received = b""
    while isinstance(event := server.next_event(), h11.Data):
        received += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert received == body


def answered(*headers: tuple[bytes, bytes]) -> Headers:
    return response_headers(ResponseHead(202, b"Accepted", b"HTTP/1.1", list(headers)))


@pytest.mark.parametrize("status", [101, 204])
def test_what_has_no_body_has_no_length(status: int) -> None:
    head = ResponseHead(status, b"", b"HTTP/1.1", [(b"Content-Length", b"5"), (b"Connection", b"Content-Length"), (b"X-Upstream", b"a")])
    assert response_headers(head) == [(b"X-Upstream", b"a")]


def test_the_client_gets_the_end_to_end_fields_byte_for_byte() -> None:
    assert answered(
        (b"Connection", b"X-Upstream-Hop, close"),
        (b"X-Upstream-Hop", b"secret"),
        (b"X-Upstream", b"openai"),
        (b"Keep-Alive", b"timeout=5"),
        (b"CONTENT-length", b"11"),
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=\xe9"),
    ) == [(b"X-Upstream", b"openai"), (b"CONTENT-length", b"11"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=\xe9")]


def test_chunks_overrule_a_length() -> None:
    assert answered((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"11")) == []


def test_connection_cannot_take_the_length_away() -> None:
    assert answered((b"Connection", b"content-length"), (b"Content-Length", b"11")) == [(b"Content-Length", b"11")]
