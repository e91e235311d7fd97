"""URLs of a Redis: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest

from txsse.config.errors import Refused
from txsse.redis.url import read_redis_url


@pytest.mark.parametrize(
    ("text", "endpoint", "username", "password", "database"),
    [
        ("redis://localhost", "http://localhost:6379", "", "", 0),
        ("redis://localhost:6380/", "http://localhost:6380", "", "", 0),
        ("redis://[::1]:6380/5", "http://[::1]:6380", "", "", 5),
        ("rediss://cache.example/2", "https://cache.example:6379", "", "", 2),
        ("redis://:p%40ss%2F@10.0.0.1", "http://10.0.0.1:6379", "", "p@ss/", 0),
        ("rediss://me:secret@cache.example:1", "https://cache.example:1", "me", "secret", 0),
        ("unix:///run/redis.sock", "unix:/run/redis.sock", "", "", 0),
        ("unix://me:secret@/run/redis.sock?db=4", "unix:/run/redis.sock", "me", "secret", 4),
    ],
)
def test_what_a_url_means(text: str, endpoint: str, username: str, password: str, database: int) -> None:
    url = read_redis_url(text)
    assert (url.endpoint, url.username, url.password.reveal(), url.database) == (endpoint, username, password, database)
    assert not password or password not in repr(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:6379",
        "http://u:secret@localhost",
        "redis://",
        "redis://u:secret@",
        "redis://u:secret@localhost:port",
        "redis://u:secret@localhost/name",
        "redis://u:secret@localhost?db=1",
        "unix://u:secret@host/path",
        "unix:///path?db=secret",
        "redis://[::1",
    ],
)
def test_what_is_no_url_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_redis_url(text)
    assert "secret" not in str(refused.value)
    assert "write 'redis://" in str(refused.value)
