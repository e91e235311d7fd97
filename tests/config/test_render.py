from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from txsse.config import Configuration, Route, Secret, Upstream, complete, loads, render
from txsse.config.model import Hold, Keepalive, Match, Probe, Server, Stream

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
BASE = complete(Configuration(upstream=(Upstream(name="llama", url="http://127.0.0.1:8080"),)))


def test_it_shows_every_default_in_the_files_own_words() -> None:
    text = render(BASE)
    for line in ('listen = ["tcp:8787:interface=127.0.0.1"]', 'drain = "300s"', 'max_body = "32MiB"', "lame_duck = 0", "set_headers = {}"):
        assert line in text.splitlines()
    assert '\n\n[[upstream]]\nname = "llama"\n' in text
    assert '\n\n[route.keepalive]\ncommit_after = "5s"\ninterval = "15s"\n' in text


def test_it_loads_again() -> None:
    assert loads(render(BASE)) == BASE


def test_several_tables_keep_their_order_and_their_own_sub_tables() -> None:
    two = complete(
        Configuration(
            upstream=(
                Upstream(name="a", url="http://a", probe=Probe(preset="tcp", expect=(200, 204))),
                Upstream(name="b", url="unix:/b.sock", host="preserve"),
            ),
            route=(Route(upstream="b", match=Match(path="/b/**", header={"X-A": 'q"*'})), Route(upstream="a", cors_origins=("*",))),
        )
    )
    assert loads(render(two)) == two


def test_secrets_are_masked_and_absent_ones_stay_absent() -> None:
    secret = attrs.evolve(
        BASE,
        server=Server(admin_token=Secret("hunter2")),
        upstream=(attrs.evolve(BASE.upstream[0], set_headers={"Authorization": Secret("Bearer hunter2")}),),
    )
    text = render(secret)
    assert "hunter2" not in text
    assert 'admin_token = "***"' in text
    assert 'set_headers = { Authorization = "***" }' in text
    assert loads(text).server.admin_token == Secret("***")
    assert 'admin_token = ""' in render(BASE)


@given(
    message=TEXT,
    separator=TEXT,
    timeout=st.floats(0, 10**6),
    interval=st.floats(0.001, 10**6),
    hold_bytes=st.integers(1, 2**50),
    tenant=TEXT,
)
def test_any_text_duration_and_size_survives(
    message: str, separator: str, timeout: float, interval: float, hold_bytes: int, tenant: str
) -> None:
    route = Route(
        name="r",
        upstream="llama",
        match=Match(header={"X-Tenant": tenant}),
        hold=Hold(message=message, separator=separator, timeout=timeout),
        keepalive=Keepalive(interval=interval),
        stream=Stream(hold_bytes=hold_bytes),
    )
    configuration = attrs.evolve(BASE, route=(route,))
    assert loads(render(configuration)) == configuration
