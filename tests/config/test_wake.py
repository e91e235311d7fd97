"""The addresses and commands of ``[upstream.wake]``, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from txsse.config.errors import Refused
from txsse.config.urls import Address
from txsse.config.wake import Page, check_command, read_broadcast, read_mac, read_page


@pytest.mark.parametrize("text", ["00:1b:63:84:45:e6", "00-1B-63-84-45-E6", "001b638445e6", "00:1B:63:84:45:e6"])
def test_the_usual_ways_to_write_a_mac_address(text: str) -> None:
    assert read_mac(text) == bytes.fromhex("001b638445e6")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "llama",
        "00:1b:63:84:45",
        "00:1b:63:84:45:e6:00",
        "00:1b:63:84:45:eg",
        "00:1b-63:84:45:e6",
        "001b.6384.45e6",
        "00:1b:63:84:45:e6\n",
    ],
)
def test_what_is_no_mac_address(text: str) -> None:
    with pytest.raises(Refused, match="is not a MAC address; write it as in 'aa:bb:cc:dd:ee:ff'"):
        read_mac(text)


def test_the_address_of_a_card_is_needed() -> None:
    with pytest.raises(Refused, match="of many network cards"):
        read_mac("ff:ff:ff:ff:ff:ff")
    with pytest.raises(Refused, match="of no network card"):
        read_mac("00:00:00:00:00:00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ("255.255.255.255", 9)), ("192.168.1.255", ("192.168.1.255", 9)), ("10.0.0.7:40000", ("10.0.0.7", 40000))],
)
def test_where_the_packet_goes(text: str, expected: tuple[str, int]) -> None:
    assert read_broadcast(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lan.example", "is not an IPv4 address; write the network's broadcast address, as in '192.168.1.255'"),
        ("192.168.1", "is not an IPv4 address"),
        ("ff02::1", "is not an IPv4 address"),
        ("192.168.1.255:", "'' is not a port; allowed: 1 to 65535, most often 9 or 7"),
        ("192.168.1.255:0", "is not a port"),
        ("192.168.1.255:70000", "is not a port"),
        ("192.168.1.255:\u0669", "is not a port"),
    ],
)
def test_where_it_cannot_go(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        read_broadcast(text)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000", Page(Address("http", "127.0.0.1", 8000), "/")),
        ("http://127.0.0.1:8000/", Page(Address("http", "127.0.0.1", 8000), "/")),
        ("https://gpu.example/wake_up?level=1&tags=a%20b", Page(Address("https", "gpu.example", 443), "/wake_up?level=1&tags=a%20b")),
        ("http://[::1]:8000/a//b/../c", Page(Address("http", "::1", 8000), "/a//b/../c")),
        ("http://gpu.example?now", Page(Address("http", "gpu.example", 80), "/?now")),
    ],
)
def test_the_url_of_a_step(text: str, expected: Page) -> None:
    assert read_page(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a URL"),
        ("/wake_up", "is not a URL"),
        ("gpu.example/wake_up", "has no scheme; write 'http://gpu.example'"),
        ("ftp://gpu.example/", "unknown scheme 'ftp'"),
        ("http://user:pw@gpu.example/", "a user name or password in the URL is not allowed"),
        ("http://gpu.example:x/", "'x' is not a port"),
        ("http://gpu.example/#top", "has a fragment, which no server sees; remove it"),
        ("http://gpu.example/a b", "percent-encode it"),
        ("http://gpu.example/\u00e9", "percent-encode it"),
        ("http://gpu.example/\r\nX: y", "percent-encode it"),
        ("unix:/run/gpu.sock", "a wake step goes to http:// or https://, not to a socket"),
    ],
)
def test_what_cannot_be_the_url_of_a_step(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        read_page(text)
    assert reason in str(refused.value)


def test_a_password_is_not_shown_whatever_else_is_wrong() -> None:
    with pytest.raises(Refused) as refused:
        read_page("http://user:pw@gpu.example/a b#top")
    assert "pw" not in str(refused.value).split("password")[1]


def test_a_command_that_the_system_can_be_handed() -> None:
    check_command([])
    check_command(["llama-server", "--port", "${PORT}", ""])


@pytest.mark.parametrize(("command", "reason"), [(["", "x"], "its first word, the program, is empty"), (["a", "b\0"], "has a null byte")])
def test_a_command_that_it_cannot(command: list[str], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check_command(command)
