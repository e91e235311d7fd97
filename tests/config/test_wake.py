"""The addresses and commands of ``[upstream.wake]``, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from txsse.config import ConfigError, loads, render
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


STEP = '[[upstream.wake.http]]\nurl = "http://gpu.example/wake_up"\n'
EXEC = 'wake = { exec = ["llama-server", "--port", "${PORT}"] }'


def upstream(more: str, url: str = "http://127.0.0.1:${PORT}") -> str:
    return f'[[upstream]]\nname = "llama"\nurl = "{url}"\n{more}\n'


@pytest.mark.parametrize(
    "text",
    [
        upstream(f'{EXEC}\ngroup = "gpu0"'),
        upstream('wake = { exec = ["./serve"], stop_after_idle = "10m" }', "http://127.0.0.1:8080"),
        upstream('wake = { wol = "001b638445e6", wol_broadcast = "10.0.0.255:7" }', "http://gpu.example"),
        upstream(STEP + 'method = "PUT"\nheaders = { Authorization = "k" }\n' + STEP, "http://gpu.example"),
        upstream('wake = { cooldown = "1m", cancel_after = "5s" }', "http://gpu.example"),
    ],
)
def test_ways_to_start_an_upstream_load_and_load_again(text: str) -> None:
    configuration = loads(text)
    rendered = render(configuration).replace('"***"', '"k"')
    assert loads(rendered) == configuration


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            upstream(f'{EXEC}\nprobe = {{ preset = "none" }}'),
            "upstream.probe.preset (upstream 1, 'llama'): 'none' takes the upstream for ready, so it would never be started; "
            "choose another one",
        ),
        (
            upstream("", "http://127.0.0.1:${PORT}"),
            "upstream.url (upstream 1, 'llama'): nobody listens on ${PORT}; write it into wake.exec too, or the number here",
        ),
        (
            upstream('wake = { exec = ["serve"] }'),
            "upstream.url (upstream 1, 'llama'): nobody listens on ${PORT}; write it into wake.exec too, or the number here",
        ),
        (
            upstream(EXEC, "http://127.0.0.1:8080"),
            "upstream.url (upstream 1, 'llama'): wake.exec listens on ${PORT}; write url = \"http://127.0.0.1:${PORT}\"",
        ),
        (
            upstream('wake = { stop_after_idle = "10m" }', "http://a"),
            "upstream.wake.stop_after_idle (upstream 1, 'llama'): only a process that the proxy runs can be stopped; "
            "set wake.exec, or remove it",
        ),
        (
            upstream('group = "gpu0"', "http://a"),
            "upstream.group (upstream 1, 'llama'): only a process that the proxy runs can be stopped; set wake.exec, or remove it",
        ),
        (
            upstream('wake = { exec = ["", "x"] }', "http://a"),
            "upstream.wake.exec (upstream 1, 'llama'): its first word, the program, is empty; "
            'write it as in ["llama-server", "--port", "${PORT}"]',
        ),
        (
            upstream('wake = { wol = "gpu.example" }', "http://a"),
            "upstream.wake.wol (upstream 1, 'llama'): 'gpu.example' is not a MAC address; write it as in 'aa:bb:cc:dd:ee:ff'",
        ),
        (
            upstream('wake = { wol = "001b638445e6", wol_broadcast = "lan" }', "http://a"),
            "upstream.wake.wol_broadcast (upstream 1, 'llama'): 'lan' is not an IPv4 address; "
            "write the network's broadcast address, as in '192.168.1.255'",
        ),
        (
            upstream('wake = { wol_broadcast = "10.0.0.255" }', "http://a"),
            "upstream.wake.wol_broadcast (upstream 1, 'llama'): there is no packet to be sent; "
            "set wol to the machine's MAC address, or remove it",
        ),
        (
            upstream('[[upstream.wake.http]]\nbody = "x"', "http://a"),
            "upstream.wake.http (upstream 1, 'llama'): step 1 has no url; write url = \"http://host:port/path\"",
        ),
        (
            upstream(STEP + STEP.replace("wake_up", "#up"), "http://a"),
            "upstream.wake.http (upstream 1, 'llama'): step 2: 'http://gpu.example/#up' has a fragment, which no server sees; remove it",
        ),
        (
            upstream(STEP + 'method = "post"', "http://a"),
            "upstream.wake.http (upstream 1, 'llama'): step 1: 'post' is not a method; write it in capitals, as in 'POST'",
        ),
        (
            upstream(STEP + STEP + "timeout = 0", "http://a"),
            "upstream.wake.http.timeout (upstream 1, 'llama', http 2): 0 is not allowed; allowed: a duration above 0",
        ),
    ],
)
def test_ways_that_lead_nowhere_are_told_with_their_remedy(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert caught.value.problems == [problem]
