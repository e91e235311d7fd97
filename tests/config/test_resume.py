"""``[route.resume]``: what cannot be meant is refused, and what has no effect is let be."""

from __future__ import annotations

import pytest

from txsse.config import ConfigError, loads

ONE = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n'


def problems(resume: str, store: str = "") -> list[str]:
    try:
        loads(f"{store}\n{ONE}[[route]]\n[route.resume]\n{resume}")
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("resume", "store", "problem"),
    [
        (
            'mode = "auto"\nmax_bytes = "65MiB"',
            "",
            "max_bytes (route 1, 'llama'): 65MiB is more than store.max_bytes, 64MiB, holds; lower it, or raise store.max_bytes",
        ),
        (
            'mode = "always"\nmax_bytes = "2MiB"',
            '[store]\nmax_bytes = "512KiB"',
            "max_bytes (route 1, 'llama'): 2MiB is more than store.max_bytes, 512KiB, holds; lower it, or raise store.max_bytes",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(resume: str, store: str, problem: str) -> None:
    assert problems(resume, store) == [f"route.resume.{problem}"]


@pytest.mark.parametrize(
    "resume",
    [
        'mode = "off"\nmax_bytes = "65MiB"\nmax_orphan = "10s"',
        'mode = "auto"\nmax_bytes = "64MiB"',
        'mode = "auto"\nmax_orphan = "10s"\non_disconnect = "continue"',
        'mode = "auto"\nmax_orphan = "10s"',
        'mode = "auto"\nmax_bytes = 0',
        'mode = "auto"\nmax_orphan = "1s"\non_disconnect = "cancel"',
    ],
)
def test_what_has_no_effect_is_let_be(resume: str) -> None:
    assert problems(resume) == []


def test_the_default_fits_a_small_store() -> None:
    assert problems('mode = "always"', '[store]\nmax_bytes = "512KiB"') == []


@pytest.mark.parametrize("option", ["ttl", "grace", "max_orphan", "max_readers"])
def test_nothing_is_not_much(option: str) -> None:
    (problem,) = problems(f'mode = "auto"\n{option} = 0')
    assert problem.startswith(f"route.resume.{option} (route 1")
