from __future__ import annotations

import attrs
import pytest

from txsse.config import ConfigError, Configuration, Route, Secret, Upstream, complete, loads
from txsse.config.model import Hold, Server, UpstreamTLS

A = Upstream(name="a", url="http://a")
B = Upstream(name="b", url="http://b")


def problems_of(configuration: Configuration) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        complete(configuration)
    return caught.value.problems


def test_a_sole_upstream_gets_a_catch_all_route_of_its_name() -> None:
    assert complete(Configuration(upstream=(A,))).route == (Route(name="a", upstream="a"),)


def test_a_sole_upstream_is_that_of_every_route() -> None:
    assert [route.upstream for route in complete(Configuration(upstream=(A,), route=(Route(), Route()))).route] == ["a", "a"]


def test_routes_get_their_upstreams_name_and_a_number_where_it_is_taken() -> None:
    routes = (Route(upstream="a"), Route(upstream="a"), Route(upstream="b"), Route(name="a-2", upstream="b"), Route(upstream="a"))
    completed = complete(Configuration(upstream=(A, B), route=routes))
    assert [route.name for route in completed.route] == ["a", "a-3", "b", "a-2", "a-4"]
    assert complete(completed) == completed


def test_a_made_up_name_stays_within_64_characters() -> None:
    long = attrs.evolve(A, name="x" * 64)
    assert [each.name for each in complete(Configuration(upstream=(long,), route=(Route(), Route()))).route] == ["x" * 64, "x" * 62 + "-2"]


def test_without_upstreams_there_is_nothing_to_proxy_to() -> None:
    assert problems_of(Configuration()) == ["upstream: there is none; write an [[upstream]] with name and url"]


def test_several_upstreams_need_routes() -> None:
    (problem,) = problems_of(Configuration(upstream=(A, B)))
    assert problem == "route: there is none, and several upstreams ('a', 'b'); write a [[route]] with upstream = .. for each"


def test_an_upstream_needs_name_and_url() -> None:
    assert problems_of(Configuration(upstream=(Upstream(),))) == [
        'upstream.name (upstream 1): it has none; write name = ".."',
        'upstream.url (upstream 1): it has none; write url = "http://host:port"',
    ]


def test_a_route_needs_an_upstream_that_exists() -> None:
    found = problems_of(Configuration(upstream=(attrs.evolve(A, name="llama"), B), route=(Route(upstream="lama"), Route(name="chat"))))
    assert found == [
        "route.upstream (route 1, 'lama'): 'lama' is not the name of an upstream; did you mean 'llama'? Allowed: llama, b",
        "route.upstream (route 2, 'chat'): it has none; write upstream = \"..\". Allowed: llama, b",
    ]


def test_names_are_unique() -> None:
    found = problems_of(Configuration(upstream=(A, A), route=(Route(name="r", upstream="a"), Route(name="r", upstream="a"))))
    assert found == [
        "upstream.name (upstream 2): 'a' is already the name of upstream 1; names are unique",
        "route.name (route 2): 'r' is already the name of route 1; names are unique",
    ]


def test_an_endless_hold_together_with_a_fallback_is_refused() -> None:
    upstreams = (attrs.evolve(A, fallback="b"), B)
    (problem,) = problems_of(Configuration(upstream=upstreams, route=(Route(name="r", upstream="a", hold=Hold(timeout=0)),)))
    assert problem.startswith("route.hold.timeout (route 1, 'r'): 0 holds for ever, so the fallback 'b' of upstream 'a' is never used")
    endless = Route(name="r", upstream="b", hold=Hold(timeout=0))
    assert complete(Configuration(upstream=upstreams, route=(endless,))).route == (endless,)


def test_an_admin_listener_that_others_can_reach_needs_a_token() -> None:
    open_to_all = Server(admin="tcp:9180")
    (problem,) = problems_of(Configuration(upstream=(A,), server=open_to_all))
    assert problem.startswith("server.admin: 'tcp:9180' is not on loopback, so server.admin_token is required")
    for server in (attrs.evolve(open_to_all, admin_token=Secret("t")), Server(admin="none"), Server(admin="unix:/run/admin.sock")):
        assert complete(Configuration(upstream=(A,), server=server)).server == server


def test_an_endpoint_is_listened_on_once() -> None:
    server = Server(listen=("tcp:1", "tcp:1"), admin="tcp:1", admin_token=Secret("t"))
    assert [each.partition(";")[0] for each in problems_of(Configuration(upstream=(A,), server=server))] == [
        "server.listen: 'tcp:1' is there twice",
        "server.admin: 'tcp:1' is also in server.listen",
    ]


def test_a_client_certificate_needs_its_key() -> None:
    (problem,) = problems_of(Configuration(upstream=(attrs.evolve(A, tls=UpstreamTLS(cert="c.pem")),)))
    assert problem == "upstream.tls (upstream 1, 'a'): cert and key go together; set both or none"


def test_an_upstream_has_url_or_urls() -> None:
    several = Upstream(name="a", urls=("http://a", "http://b"))
    assert complete(Configuration(upstream=(several,))).upstream[0].all_urls == ("http://a", "http://b")
    assert A.all_urls == ("http://a",)
    (problem,) = problems_of(Configuration(upstream=(attrs.evolve(several, url="http://c"),)))
    assert problem == "upstream.urls (upstream 1, 'a'): not together with url; remove one of the two"


@pytest.mark.parametrize(
    ("urls", "twice"),
    [
        (("http://a", "http://b", "http://a"), "http://a"),
        (("http://gpu1:8080", "http://GPU1:8080"), "http://GPU1:8080"),
        (("unix:/a", "unix:/A", "unix:/a"), "unix:/a"),
    ],
)
def test_a_url_is_given_once(urls: tuple[str, ...], twice: str) -> None:
    assert problems_of(Configuration(upstream=(Upstream(name="a", urls=urls),))) == [
        f"upstream.urls (upstream 1, 'a'): {twice!r} is there twice; remove one"
    ]


def test_urls_are_read_as_url_is() -> None:
    read = loads('upstream = [{ name = "a", urls = ["HTTP://a:80/", "https://b", "unix:/c"] }]')
    assert read.upstream[0].urls == ("http://a", "https://b", "unix:/c")


@pytest.mark.parametrize(
    ("urls", "remedy"),
    [
        ('"http://a"', 'not a list; write it as in ["http://'),
        ('["http://a/v1"]', "remove /v1"),
        ('["http://a", ""]', "is not a URL"),
        ('["http://u:hunter2@a"]', "set_headers"),
        ('["http://a", 1]', "is not a string"),
        ('["http://a:${PORT}"]', "only url"),
    ],
)
def test_a_bad_one_among_urls_is_refused_with_its_remedy(urls: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(f'upstream = [{{ name = "a", urls = {urls} }}]')
    (problem,) = caught.value.problems
    assert problem.startswith("upstream.urls (upstream 1, 'a'): ")
    assert remedy in problem
    assert "hunter2" not in problem
