"""The files behind a route's answers, looked at before the start. What is done with them: ``test_reception.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from txsse.config import loads
from txsse.proxy.fixed import LARGEST
from txsse.proxy.stand_ins import check_files
from txsse.proxy.verify import problems

UPSTREAM = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:1"\n[[route]]\n'


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(LARGEST + 1)
    return file


@pytest.mark.parametrize(
    "key", ["static = { file", "hold = { placeholder = { file", 'hold = { placeholder = { files = { "/a"', "page_file"]
)
def test_a_file_that_is_too_large_is_told_before_the_start(large: Path, key: str) -> None:
    if key == "page_file":
        key = "hold = { placeholder = { page_file"
    configuration = loads(f'{UPSTREAM}{key} = "{large}" {"}" * key.count("{")}')
    (problem,) = problems(configuration)
    assert problem.startswith(f"route llama: {str(large)!r} is larger than 1024 KiB")


def test_so_is_a_template_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(b"\xff")
    configuration = loads(f'{UPSTREAM}hold = {{ placeholder = {{ page_file = "{file}" }} }}')
    assert list(problems(configuration)) == [f"route llama: {str(file)!r}: not UTF-8 (at line 1); save it as UTF-8"]


def test_without_any_there_is_nothing_to_complain_about() -> None:
    configuration = loads(f'{UPSTREAM}static = {{ body = "a" }}\nhold = {{ placeholder = {{ body = "b" }} }}')
    assert list(problems(configuration)) == []
    check_files(configuration.route[0])
