from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from txsse.config import ConfigError, Configuration, Route, Upstream, from_options
from txsse.config.model import Hold, Keepalive, Probe, Server
from txsse.config.options import DEMO_URL

UPSTREAM = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n'


def problems_of(config: Path | None = None, **given: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_options(config, **given)
    return caught.value.problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "txsse.toml"


def test_one_upstream_gives_an_upstream_and_a_route_named_default() -> None:
    assert from_options(upstream="http://127.0.0.1:8080") == Configuration(
        upstream=(Upstream(name="default", url="http://127.0.0.1:8080"),), route=(Route(name="default", upstream="default"),)
    )


def test_every_option_lands_where_the_file_would_put_it() -> None:
    given = from_options(
        upstream="unix:/run/l.sock", preset="vllm", message="Waking", interval="250ms", listen=["tcp:1", "tcp:2"], admin="none", workers="1"
    )
    assert given == Configuration(
        server=Server(listen=("tcp:1", "tcp:2"), admin="none"),
        upstream=(Upstream(name="default", url="unix:/run/l.sock", probe=Probe(preset="vllm")),),
        route=(Route(name="default", upstream="default", hold=Hold(message="Waking"), keepalive=Keepalive(interval=0.25)),),
    )


def test_the_demo_backend_takes_the_place_of_the_upstream() -> None:
    assert from_options(demo=True, interval=2).upstream == (Upstream(name="default", url=DEMO_URL),)
    assert from_options(demo=True, demo_url="http://127.0.0.1:5").upstream[0].url == "http://127.0.0.1:5"
    assert problems_of(demo=True, upstream="http://a") == ["--demo: not together with --upstream; remove one of the two"]


@pytest.mark.parametrize("given", [{}, {"upstream": ""}, {"preset": "vllm"}])
def test_without_anything_to_proxy_to_the_ways_out_are_told(given: dict[str, Any]) -> None:
    assert problems_of(**given) == ["--upstream: there is none; give --upstream URL, or --config FILE with an [[upstream]], or --demo"]


def test_bad_options_are_all_named() -> None:
    found = problems_of(upstream="http://a/v1", preset="vlm", interval="soon", listen=["8787"], admin="nine", workers="4")
    assert [each.partition(":")[0] for each in found] == ["--listen", "--admin", "--workers", "--upstream", "--preset", "--interval"]
    assert "remove /v1" in found[3]
    assert "did you mean 'vllm'?" in found[4]


@pytest.mark.parametrize("workers", ["x", "-1", "0", "1.0", ""])
def test_workers_that_are_no_number_are_refused(workers: str) -> None:
    (problem,) = problems_of(upstream="http://a", workers=workers)
    assert problem.startswith(f"--workers: {workers!r}" if workers != "0" else "--workers: 0")


def test_a_problem_that_follows_from_an_option_names_the_option() -> None:
    (problem,) = problems_of(upstream="http://a", admin="tcp:9180")
    assert problem.startswith("--admin: 'tcp:9180' is not on loopback, so server.admin_token is required")


def test_options_of_one_upstream_are_refused_beside_a_file_with_upstreams(file: Path) -> None:
    file.write_text(UPSTREAM)
    found = problems_of(file, upstream="http://a", preset="vllm", message="m", interval="1", demo=True)
    assert [each.partition(":")[0] for each in found] == ["--upstream", "--preset", "--message", "--interval", "--demo"]
    assert all("not together with a --config file that has upstreams; remove" in each for each in found)


def test_other_options_win_over_the_file(file: Path) -> None:
    file.write_text('[server]\nlisten = ["tcp:1"]\nadmin = "none"\nmax_connections = 5\n' + UPSTREAM)
    assert from_options(file, listen=["tcp:2"]).server == Server(listen=("tcp:2",), admin="none", max_connections=5)


def test_a_file_without_upstreams_takes_one_from_the_command_line(file: Path) -> None:
    file.write_text("[server]\nmax_connections = 5\n")
    given = from_options(file, upstream="http://a", message="m")
    assert given.server.max_connections == 5
    assert given.route == (Route(name="default", upstream="default", hold=Hold(message="m")),)


def test_routes_of_such_a_file_are_kept_and_keep_their_policy(file: Path) -> None:
    file.write_text('[[route]]\nname = "chat"\n[route.hold]\nmessage = "Waking"\n')
    assert from_options(file, upstream="http://a").route == (Route(name="chat", upstream="default", hold=Hold(message="Waking")),)
    (problem,) = problems_of(file, upstream="http://a", message="m")
    assert problem.startswith("--message: not together with a --config file that has routes")


def test_problems_of_the_file_and_of_the_options_are_told_together(file: Path) -> None:
    file.write_text("[server]\nlame_duk = 3\n")
    found = problems_of(file, preset="vlm")
    assert [each.partition(":")[0] for each in found] == ["server.lame_duk", "--preset"]
