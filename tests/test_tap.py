"""The command line of the plugin: refusals with a name, a remedy and status 2; ``--check``; the service that comes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import MultiService
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage

from txsse import __version__
from txsse.demo import DemoService
from txsse.service import ProxyService
from txsse.tap import Options, makeService
from txsse.testing import free_port

ONE = ["--upstream", "http://127.0.0.1:8080"]
FILE = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n'


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is printed about a mistake; nothing goes to standard output, and it is no traceback."""
    with pytest.raises(SystemExit) as end:
        parsed(*arguments)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert all(line.startswith("sse-proxy: ") for line in err.splitlines())
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--upstrem", "http://x"], "unknown option --upstrem; did you mean --upstream?"),
        (["--mesage=x"], "unknown option --mesage; did you mean --message?"),
        (["--xyzzy"], "unknown option --xyzzy; see --help"),
        (["-z"], "unknown option -z; see --help"),
        (["--interval"], "option --interval requires argument"),
        (["http://x"], "unexpected argument 'http://x'; every setting is an option, such as --upstream http://x"),
        ([], "--upstream: there is none; give --upstream URL, or --config FILE with an [[upstream]], or --demo"),
        ([*ONE, "--preset", "vlm"], "did you mean 'vllm'?"),
        ([*ONE, "--interval", "soon"], "--interval: 'soon'"),
        ([*ONE, "--workers", "2"], "--workers: 2"),
        ([*ONE, "--listen", "tpc:1"], "--listen: 'tpc:1'"),
        (["--upstream", "http://127.0.0.1:1/v1"], "remove /v1"),
        (["--upstream", "http://u:p@127.0.0.1:1"], "--upstream: "),
        (["--demo", *ONE], "--demo: not together with --upstream"),
        (["--config", "/nonexistent.toml"], "/nonexistent.toml: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, *arguments)


def test_every_mistake_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(refused(capsys, *ONE, "--preset", "x", "--interval", "y", "--workers", "z").splitlines()) == 3


def test_a_mistake_in_the_file_names_key_value_and_nearest_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text(FILE + '[server]\nmax_conections = 3\nlog_format = "xml"\n')
    said = refused(capsys, "--config", str(file))
    assert "server.max_conections: unknown key; did you mean 'max_connections'?" in said
    assert "server.log_format: 'xml'" in said


@pytest.mark.parametrize("option", ["--upstream=http://127.0.0.1:1", "--preset=vllm", "--message=x", "--interval=5"])
def test_options_of_one_upstream_do_not_go_with_a_file_that_has_some(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text(FILE)
    assert f"{option.partition('=')[0]}: not together with a --config file" in refused(capsys, "--config", str(file), option)


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text('[server]\nlisten = ["tcp:1"]\nadmin = "none"\n' + FILE)
    server = parsed("--config", str(file), "--listen", "tcp:2", "--listen", "tcp:3")["configuration"].server
    assert (server.listen, server.admin) == (("tcp:2", "tcp:3"), "none")


def test_check_prints_everything_as_toml_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed("--check", *ONE, "--message", "Waking", "--interval", "250ms")
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    table: dict[str, Any] = tomllib.loads(out)
    assert table["upstream"][0]["name"] == "default"
    assert table["route"][0]["hold"]["message"] == "Waking"
    assert table["server"]["max_connections"] == 10000


def test_check_hides_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text(FILE + 'set_headers = { Authorization = "Bearer s3cret" }\n[server]\nadmin_token = "t0ken"\n')
    with pytest.raises(SystemExit) as end:
        parsed("--check", "--config", str(file))
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "***" in out
    assert "s3cret" not in out
    assert "t0ken" not in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed("--version")
    assert (end.value.code, capsys.readouterr().out) == (0, f"txsse {__version__}\n")


def test_the_help_tells_each_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(str(Options()).split())
    for option in (
        "--config",
        "--listen",
        "--admin",
        "--upstream",
        "--preset",
        "--message",
        "--interval",
        "--workers",
        "--demo",
        "--check",
    ):
        assert option in text
    for default in ("[tcp:8787:interface=127.0.0.1]", "[tcp:9180:interface=127.0.0.1]", "[auto]", "[15"):
        assert default in text


# -- the service


def service_of(*arguments: str) -> tuple[MultiService, MemoryReactorClock]:
    reactor = MemoryReactorClock()
    service = makeService(parsed(*arguments), reactor)
    assert isinstance(service, MultiService)
    return service, reactor


def test_a_service_with_one_upstream_and_signals_once_the_reactor_runs() -> None:
    service, reactor = service_of(*ONE)
    (proxy,) = service
    assert isinstance(proxy, ProxyService)
    assert proxy.proxy.configuration.upstream[0].url == "http://127.0.0.1:8080"
    assert [hook.__name__ for hook, _, _ in reactor.whenRunningHooks] == ["install", "settle"]
    assert proxy.reload() is False


def test_the_demo_backend_runs_beside_it() -> None:
    service, _ = service_of("--demo")
    demo, proxy = service
    assert isinstance(demo, DemoService)
    assert isinstance(proxy, ProxyService)
    assert proxy.proxy.configuration.upstream[0].url.startswith("http://127.0.0.1:")


def test_with_a_file_it_can_be_reloaded(tmp_path: Path) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text(FILE)
    service, _ = service_of("--config", str(file))
    (proxy,) = service
    assert isinstance(proxy, ProxyService)
    file.write_text(FILE.replace("8080", "8081"))
    assert proxy.reload() is True
    assert proxy.proxy.configuration.upstream[0].url.endswith(":8081")
    file.write_text("nonsense")
    assert proxy.reload() is False
    assert proxy.proxy.configuration.upstream[0].url.endswith(":8081")


def test_check_opens_the_files_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, pem, keys = tmp_path / "txsse.toml", tmp_path / "ca.pem", tmp_path / "keys"
    pem.write_text("nonsense")
    keys.write_text("in the clear")
    file.write_text(f'[auth]\nkeys_file = "{keys}"\n' + FILE.replace("http:", "https:") + f'tls.ca_file = "{pem}"\n')
    with file.open("a") as more:
        more.write(f'[store]\nkind = "redis"\nurl = "rediss://cache"\nca_file = "{pem}"\n')
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--config", str(file), "--check"])
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, second, third = told.err.splitlines()
    assert first.startswith(f"sse-proxy: auth.keys_file: {keys}, line 1: ")
    assert second == f"sse-proxy: upstream llama: tls.ca_file: {pem} holds no PEM certificate"
    assert third == f"sse-proxy: store.ca_file: {pem} holds no PEM certificate"


def test_a_file_that_holds_something_else_ends_with_2_and_the_upstreams_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, pem = tmp_path / "txsse.toml", tmp_path / "ca.pem"
    pem.write_text("nonsense")
    file.write_text(FILE.replace("http:", "https:") + f'tls.ca_file = "{pem}"\n')
    with pytest.raises(SystemExit) as ended:
        service_of("--config", str(file))
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"sse-proxy: upstream llama: tls.ca_file: {pem} holds no PEM certificate\n"


def test_check_looks_for_the_files_of_the_listeners(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, *ONE, "--listen", "ssl:443:privateKey=/gone/key.pem", "--check")
    assert (
        told == "sse-proxy: server.listen: 'ssl:443:privateKey=/gone/key.pem': '/gone/key.pem' cannot be read: No such file or directory\n"
    )


def test_a_listener_that_cannot_be_opened_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    service, _ = service_of(*ONE, "--listen", "unix:/nonexistent/folder/socket")
    (proxy,) = service
    assert isinstance(proxy, ProxyService)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no such folder")

    proxy._reactor.listenUNIX = fail
    with pytest.raises(SystemExit) as end:
        service.privilegedStartService()
    assert end.value.code == 2
    assert "sse-proxy: cannot listen on unix:/nonexistent/folder/socket" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hidden"),
    [
        ([], True),
        (["--listen", "unix:/run/txsse.sock"], True),
        (["--admin", "none"], True),
        (["--listen", "ssl:443:privateKey=tests/test_tap.py"], False),
        (["--admin", "ssl:9180:privateKey=tests/test_tap.py:interface=127.0.0.1"], False),
        (["--upstream", "HTTPS://127.0.0.1:8443"], False),
    ],
)
def test_pyopenssl_is_hidden_where_nothing_speaks_tls(arguments: list[str], hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "OpenSSL")
    parsed(*ONE, *arguments)
    assert (sys.modules.get("OpenSSL", "") is None) is hidden


def test_pyopenssl_is_not_hidden_from_a_log_observer_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "OpenSSL")
    options = Options()
    options.parent = usage.Options()
    options.parent["logger"] = "somebody.observer"
    options.parseOptions(ONE)
    assert "OpenSSL" not in sys.modules or sys.modules["OpenSSL"] is not None


# -- as a process


def modules_after(code: str) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*(name for name, module in sys.modules.items() if module))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ended.stdout.split())


HEAVY = {
    "OpenSSL",
    "cryptography",
    "treq",
    "klein",
    "werkzeug",
    "prometheus_client",
    "twisted.web",
    "txsse.admin.site",
    "txsse.upstream.tls",
}


def test_importing_the_plugin_imports_no_socket_and_nothing_heavy() -> None:
    assert modules_after("import txsse.tap") & {*HEAVY, "twisted.internet.tcp", "twisted.internet.reactor"} == set()


def test_a_proxy_that_listens_has_not_imported_what_it_may_never_need() -> None:
    seen = modules_after(
        """
from txsse.tap import Options, makeService
options = Options()
options.parseOptions(["--upstream=http://127.0.0.1:9", "--listen=tcp:0:interface=127.0.0.1", "--admin=tcp:0:interface=127.0.0.2"])
service = makeService(options)
service.privilegedStartService()
service.startService()
"""
    )
    assert "txsse.admin.listener" in seen
    assert seen & HEAVY == set()


def test_the_collector_need_not_look_at_what_the_start_has_made() -> None:
    code = "import gc\nfrom txsse.tap import settle\nsettle()\nprint(gc.get_freeze_count(), len(gc.get_objects()))"
    frozen, seen = map(int, subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split())
    assert frozen > 10_000
    assert seen < 1_000


def twistd(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "sse-proxy", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_twistd_ends_with_2_and_not_with_its_own_1(tmp_path: Path) -> None:
    ended = twistd("--upstrem=x", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "sse-proxy: unknown option --upstrem; did you mean --upstream?\n"


def test_twistd_with_a_port_that_is_taken(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = twistd(*ONE, "--admin=none", f"--listen=tcp:{port}:interface=127.0.0.1", folder=tmp_path)
    assert ended.returncode == 2
    # By now twistd has turned both into its log.
    assert f"sse-proxy: cannot listen on tcp:{port}" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_a_daemon_with_a_port_that_is_taken_does_not_leave_its_parent_waiting(tmp_path: Path) -> None:
    import socket

    command = [str(Path(sys.executable).with_name("twistd")), "--pidfile=pid", "--logfile=log", "sse-proxy", *ONE, "--admin=none"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*command, f"--listen=tcp:{port}:interface=127.0.0.1"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
    assert ended.returncode == 1  # twistd's own, for whatever its child could not do
    assert f"cannot listen on tcp:{port}" in ended.stdout + ended.stderr
    deadline = time.monotonic() + 60
    while (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # the parent does not wait for its child to tidy up
    assert not (tmp_path / "pid").exists()


def test_twistd_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    import http.client

    port = free_port()
    command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "sse-proxy", "--upstream=http://127.0.0.1:9"]
    process = subprocess.Popen(
        [*command, "--preset=none", "--admin=none", f"--listen=tcp:{port}:interface=127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        seen = ""
        while "listens on" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/chat/completions", body=b"{}")
        answer = connection.getresponse()
        assert (answer.status, b'"code":"upstream_unavailable"' in answer.read()) == (502, True)
        connection.close()
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
    assert "Traceback" not in seen + rest
    assert "outcome=upstream_error code=upstream_unavailable" in rest


def test_a_log_that_twisted_would_rename_is_refused(tmp_path: Path) -> None:
    """LogFile rotates at a megabyte whatever it is: a device or a pipe would be moved away."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = str(Path(sys.executable).with_name("twistd"))
    command = [program, "-n", "--pidfile=", f"--logfile={pipe}", "sse-proxy", "--upstream=http://127.0.0.1:1"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "--logfile" in ended.stderr
    assert "regular file" in ended.stderr
    assert list(tmp_path.glob("pipe*")) == [pipe]
