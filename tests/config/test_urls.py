from __future__ import annotations

import pytest

from txsse.config.errors import Refused
from txsse.config.urls import Address, is_ip, read_url, read_url_with_port, with_port


@pytest.mark.parametrize(
    ("text", "address", "authority"),
    [
        ("http://127.0.0.1:8080", Address("http", "127.0.0.1", 8080), "127.0.0.1:8080"),
        ("http://llama", Address("http", "llama", 80), "llama"),
        ("http://llama:80/", Address("http", "llama", 80), "llama"),
        ("HTTPS://api.example", Address("https", "api.example", 443), "api.example"),
        ("https://my_service.local:8443", Address("https", "my_service.local", 8443), "my_service.local:8443"),
        ("http://[::1]:8080", Address("http", "::1", 8080), "[::1]:8080"),
        ("unix:/run/llama.sock", Address("unix", path="/run/llama.sock"), "localhost"),
    ],
)
def test_an_address_is_read(text: str, address: Address, authority: str) -> None:
    assert read_url(text) == address
    assert address.authority == authority
    assert read_url(address.url) == address


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("http://llama:8080/v1", "remove /v1"),
        ("http://llama:8080?x=1", r"remove \?x=1"),
        ("http://llama:8080#x", "remove #x"),
        ("http://user:hunter2@llama", "set_headers"),
        ("http://user:hunter2@llama/v1", "set_headers"),
        ("user:hunter2@llama", "set_headers"),
        ("llama:8080", "write 'http://llama:8080'"),
        ("htp://llama", "did you mean 'http'"),
        ("ws://llama", "'http://host:port'"),
        ("http://", "'http://host:port'"),
        ("http://ll ama", "'http://host:port'"),
        ("http://::1:8080", "brackets"),
        ("http://[::g]:8080", "IPv6"),
        ("http://[::1", "not closed"),
        ("http://llama:0", "1 to 65535"),
        ("http://llama:65536", "1 to 65535"),
        ("http://llama:", "1 to 65535"),
        ("http://llama:٨", "1 to 65535"),
        ("http://llama:${PORT}", "is for the port of an upstream"),
        ("unix:run/llama.sock", "absolute"),
        ("unix:///run/llama.sock", "one slash"),
        ("unix:/" + "x" * 107, "107 bytes"),
        ("", "http://host:port"),
    ],
)
def test_anything_else_is_refused_with_its_remedy(text: str, remedy: str) -> None:
    with pytest.raises(Refused, match=remedy) as caught:
        read_url(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", False), ("1.2.3", False), ("", False)])
def test_is_ip(host: str, expected: bool) -> None:
    assert is_ip(host) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:${PORT}", "http://127.0.0.1:${PORT}"),
        ("HTTPS://Llama65535:${PORT}/", "https://Llama65535:${PORT}"),
        ("http://[::1]:${PORT}", "http://[::1]:${PORT}"),
        ("http://llama:80/", "http://llama"),
    ],
)
def test_a_port_that_is_chosen_later(text: str, expected: str) -> None:
    assert read_url_with_port(text) == expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("http://127.0.0.1:1${PORT}", "is for the port"),
        ("http://127.0.0.1:${PORT}/v1", "is for the port"),
        ("http://${PORT}:${PORT}", "is for the port"),
        ("unix:/run/${PORT}.sock", "is for the port"),
        ("unix:/run/llama.sock:${PORT}", "is for the port"),
        ("127.0.0.1:${PORT}", "has no scheme"),
    ],
)
def test_it_is_only_a_port(text: str, remedy: str) -> None:
    with pytest.raises(Refused, match=remedy):
        read_url_with_port(text)


def test_a_chosen_port_takes_its_place() -> None:
    assert with_port("http://127.0.0.1:${PORT}", 5801) == "http://127.0.0.1:5801"
