from __future__ import annotations

import os
from pathlib import Path

import pytest

import txsse
from txsse.cli.main import main


def test_check_prints_the_whole_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text('[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n')
    assert main(["check", str(file)]) == 0
    out, err = capsys.readouterr()
    assert 'url = "http://127.0.0.1:8080"' in out
    assert 'interval = "15s"' in out
    assert err == ""


def test_check_says_all_that_is_wrong_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text('[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080/v1"\n[server]\nmax_hed = 1\n')
    assert main(["check", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "max_hed" in err
    assert "max_head" in err
    assert "Traceback" not in err


def test_check_of_no_file_is_an_error_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def test_check_of_a_dash_reads_standard_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text('[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n')
    kept = os.dup(0)
    try:
        with file.open() as stream:
            os.dup2(stream.fileno(), 0)
        assert main(["check", "-"]) == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert 'name = "llama"' in capsys.readouterr().out


def test_its_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"txsse {txsse.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["wach"], ["watch"], ["check"], ["demo", "--fast"]])
def test_wrong_usage_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert "error" in (told := capsys.readouterr().err)
    assert arguments not in ([], ["wach"]) or all(command in told for command in ("demo", "watch", "check"))


def test_a_wrong_url_is_told_without_starting_a_reactor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "ftp://example.org"]) == 2
    assert "'ftp://example.org'" in capsys.readouterr().err
