from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from txsse.client.policy import Backoff, retry_after


@given(
    st.floats(0, 1e12),
    st.integers(0, 10_000),
    st.floats(0, 1e9),
    st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_never_shorter_than_asked_for_and_ends(retry: float, failures: int, after: float, chance: float) -> None:
    wait = Backoff(random=lambda: chance).delay(retry, failures, after)
    assert max(retry, after) <= wait <= max(retry, after, 60) * 1.25


@pytest.mark.parametrize(("retry", "waits"), [(3, [3, 3, 6, 12]), (0, [0, 0, 0.2, 0.4]), (100, [100, 100, 100, 100])])
def test_waits_double_from_the_second_failure_on(retry: float, waits: list[float]) -> None:
    backoff = Backoff(jitter=0)
    assert [backoff.delay(retry, failures) for failures in range(4)] == waits


def test_a_hundred_clients_do_not_come_back_together() -> None:
    waits = {Backoff().delay(3, 1) for _ in range(100)}
    assert len(waits) > 90 and max(waits) - min(waits) > 0.3


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"Retry-After": ["7"]}, 7),
        ({"Retry-After": ["0"]}, 0),
        ({}, None),
        ({"Retry-After": [""]}, None),
        ({"Retry-After": ["-1"]}, None),
        ({"Retry-After": ["1.5"]}, None),
        ({"Retry-After": ["\u0663"]}, None),
        ({"Retry-After": ["9" * 400]}, None),
        ({"Retry-After": ["soon"], "Date": ["Tue, 17 Nov 2026 10:00:00 GMT"]}, None),
        ({"Retry-After": ["Tue, 17 Nov 2026 10:01:00 GMT"]}, None),
        ({"Retry-After": ["Tue, 17 Nov 2026 10:01:00 GMT"], "Date": ["Tue, 17 Nov 2026 10:00:00 GMT"]}, 60),
        ({"Retry-After": ["Tue, 17 Nov 2026 09:00:00 GMT"], "Date": ["Tue, 17 Nov 2026 10:00:00 GMT"]}, 0),
        ({"Retry-After": ["Tue, 17 Nov 2026 10:01:00 -0000"], "Date": ["Tue, 17 Nov 2026 10:00:00 GMT"]}, None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(fields: dict[str, list[str]], seconds: float | None) -> None:
    assert retry_after(Headers(fields)) == seconds
