from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from txsse.config import ConfigError, Configuration, Route, Secret, Upstream, load, loads
from txsse.config.model import Hold, Match, Probe

ONE = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n'


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_tables_become_objects_with_seconds_and_bytes() -> None:
    loaded = loads(
        '[[upstream]]\nname = "a"\nurl = "http://a:1"\n[upstream.probe]\ninterval = "100ms"\n'
        '[[upstream]]\nname = "b"\nurl = "http://b:1/"\n'
        '[[route]]\nname = "chat"\nmatch = { path = "/v1/**", header = { X-Tenant = "a*" } }\nupstream = "b"\nhold = { timeout = "10m" }\n'
    )
    assert loaded == Configuration(
        upstream=(Upstream(name="a", url="http://a:1", probe=Probe(interval=0.1)), Upstream(name="b", url="http://b:1")),
        route=(Route(name="chat", match=Match(path="/v1/**", header={"X-Tenant": "a*"}), upstream="b", hold=Hold(timeout=600)),),
    )


def test_all_problems_are_told_at_once_each_with_its_table() -> None:
    found = problems_of(
        '[server]\nmax_head = "16KB"\n[[upstream]]\nname = "a"\nurl = "http://a/v1"\n[upstream.probe]\npresett = "vllm"\n'
        '[[upstream]]\nurl = 5\n[[route]]\n[[route]]\nname = "chat"\n[route.hold]\ntimeout = -1\n[caching]\n'
    )
    assert [each.partition(":")[0] for each in found] == [
        "server.max_head",
        "upstream.url (upstream 1, 'a')",
        "upstream.probe.presett (upstream 1, 'a')",
        "upstream.url (upstream 2)",
        "route.hold.timeout (route 2, 'chat')",
        "caching",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[upstream]]\nnam = 'x'", "upstream.nam (upstream 1): unknown key; did you mean 'name'? Allowed: name, url,"),
        ("[sever]", "sever: unknown key; did you mean 'server'? Allowed: server, auth, upstream, route, store"),
        ("[[route]]\nhold_bytes = 1", "route.hold_bytes (route 1): unknown key here; it belongs into [route.stream]"),
        ("[[route]]\ninterval = 1", "route.interval (route 1): unknown key here; it belongs into [upstream.probe] or [route.keepalive]"),
        ("[upstream.probe]\npreset = 'vllm'", "upstream: not an array of tables; write [[upstream]]"),
        ("server = 3", "server: 3 is not a table"),
        ("[server]\naccess_log = 'yes'", "server.access_log: 'yes' is not allowed; allowed: true, false"),
        ("[server]\nlog_format = 'jsno'", "server.log_format: 'jsno' is not allowed; did you mean 'json'? Allowed: text, json"),
        ("[server]\nlog_format = []", "server.log_format: [] is not allowed; Allowed: text, json"),
        ("[server]\nmax_connections = true", "server.max_connections: true is not allowed; allowed: a whole number of at least 1"),
        ("[server]\nlisten = 'tcp:1'", "server.listen: 'tcp:1' is not a list; write it as in ["),
        ("[server]\nlisten = []", "server.listen: the list is empty"),
        ("[server]\nlisten = ['none']", "server.listen: 'none': unknown prefix 'none'"),
        ("[server]\nadmin = 'of'", "server.admin: 'of': unknown prefix 'of'"),
        ("[server]\nheader_timeout = 0", "server.header_timeout: 0 is not allowed; allowed: a duration above 0"),
        ("[server]\nmax_head = 0", "server.max_head: 0 is not allowed; allowed: a size above 0"),
        ("[server]\ntrusted_proxies = ['10.0.0.0/33']", "server.trusted_proxies: '10.0.0.0/33' is not an IP address or network"),
        ("[server]\ncold_start_header = 'X Cold'", "server.cold_start_header: 'X Cold' is not a header name"),
        ("[auth]\nkeys_file = '/nowhere/keys'", "auth.keys_file: '/nowhere/keys' cannot be read: No such file"),
        ("[auth]\ncookie = 3", "auth.cookie: 3 is not a string; write it in quotes"),
        ("[[upstream]]\nname = 'a b'", "upstream.name (upstream 1, 'a b'): 'a b' is not a name; allowed: 1 to 64"),
        ("[[upstream]]\nhost = 'a b'", "upstream.host (upstream 1): 'a b' is not a host; allowed: upstream, preserve"),
        ("[[upstream]]\nset_headers = 'a'", "upstream.set_headers (upstream 1): not a table"),
        ("[[upstream]]\nset_headers = { Host = 'a' }", "upstream.set_headers (upstream 1): Host is written by the proxy itself"),
        ('[[upstream]]\nset_headers = { A = "b\\r\\nc" }', "upstream.set_headers (upstream 1): A: its value has control characters"),
        (
            "[[upstream]]\n[upstream.probe]\npreset = 'llama.cpp'",
            "upstream.probe.preset (upstream 1): 'llama.cpp' is not allowed; did you mean 'llamacpp'?",
        ),
        ("[[upstream]]\n[upstream.probe]\npath = 'health'", "upstream.probe.path (upstream 1): 'health' is not a URL path"),
        ("[[upstream]]\n[upstream.probe]\nexpect = [99]", "upstream.probe.expect (upstream 1): 99 is not a status; allowed: 100 to 599"),
        (
            "[[upstream]]\n[upstream.probe]\nloading_match = '('",
            "upstream.probe.loading_match (upstream 1): '(' is not a regular expression",
        ),
        (
            "[[route]]\nmatch = { path = 'v1/*' }",
            "route.match.path (route 1): 'v1/*' would never match, paths begin with a slash; write '/v1/*'",
        ),
        ("[[route]]\nmatch = { header = 'x' }", "route.match.header (route 1): 'x' is not a table"),
        ("[[route]]\ncors_origins = ['https://a/']", "route.cors_origins (route 1): 'https://a/' is not an origin"),
        ("[[route]]\ndialect = 'openai'", "route.dialect (route 1): 'openai' is not allowed; did you mean 'openai-chat'?"),
        (
            "[[route]]\n[route.hold]\ntimeout_status = 200",
            "route.hold.timeout_status (route 1): 200 is not allowed; allowed: a whole number from 400 to 599",
        ),
        ("[[route]]\n[route.cache]\nspeed = 0", "route.cache.speed (route 1): 0 is not allowed; allowed: a number above 0"),
    ],
)
def test_an_error_names_key_value_what_is_allowed_and_the_nearest(text: str, expected: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(expected)


def test_secrets_come_from_the_text_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("BACKEND_KEY", "from-env")
    loaded = loads(
        f"[server]\nadmin_token = {{ file = '{tmp_path / 'token'}' }}\n{ONE}"
        "set_headers = { Authorization = { env = 'BACKEND_KEY' }, X-Team = 'blue' }\n"
    )
    assert loaded.server.admin_token.reveal() == "from-file"
    assert {name: each.reveal() for name, each in loaded.upstream[0].set_headers.items()} == {"Authorization": "from-env", "X-Team": "blue"}
    assert "from-file" not in repr(loaded)
    assert "from-env" not in repr(loaded)
    assert "***" in repr(loaded)
    assert f"{Secret('x')}{Secret()}" == "***"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("{ env = 'TXSSE_NOT_SET' }", "the environment variable TXSSE_NOT_SET is not set or empty"),
        ("{ file = '/nowhere/token' }", "the file '/nowhere/token' cannot be read: No such file"),
        ("{ fiel = 'x' }", "unknown source 'fiel' of a secret; did you mean 'file'?"),
        ("{ file = 'a', env = 'b' }", "a secret has one source"),
        ("{}", "a secret has one source"),
        ("['hunter2']", "a secret is a string"),
    ],
)
def test_a_secret_that_cannot_be_had_is_refused_and_never_shown(token: str, expected: str) -> None:
    (problem,) = problems_of(f"[server]\nadmin_token = {token}\n{ONE}")
    assert problem.startswith(f"server.admin_token: {expected}")
    assert "hunter2" not in problem


def test_an_empty_secret_file_does_not_switch_protection_off(tmp_path: Path) -> None:
    empty = tmp_path / "token"
    empty.write_text("\n")
    (problem,) = problems_of(f"[server]\nadmin_token = {{ file = '{empty}' }}\n{ONE}")
    assert problem.endswith("is empty")


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "txsse.toml"
    file.write_text("[server]\n\nlisten = [\n")
    with pytest.raises(ConfigError, match=r"txsse\.toml: not TOML: .*(line|end of document)"):
        load(file)
    file.write_text("[server]\n= 3\n")
    with pytest.raises(ConfigError, match=r"txsse\.toml: not TOML: .*line 2"):
        load(file)


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "9" * 5000])
def test_toml_that_breaks_the_parser_is_an_error_like_others(text: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith("configuration: not TOML")


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
        load(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="name of the configuration file is empty"):
        load("")
    (tmp_path / "latin.toml").write_bytes(b"[server]\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.toml: not UTF-8 \(at line 2\)"):
        load(tmp_path / "latin.toml")


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf" + ONE.encode())
    assert load(tmp_path / "bom.toml").upstream[0].name == "llama"


def test_reading_a_configuration_installs_no_reactor() -> None:
    program = "import sys, txsse.config, txsse.config.reference; print('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_folder_need_not_be_there_but_must_not_be_something_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for name in ("", str(tmp_path), str(tmp_path / "new")):
        assert loads(f'[server]\nstate_dir = "{name}"\n{ONE}').server.state_dir == name
    for name in (str(file), "a\\u0000b"):
        (problem,) = problems_of(f'[server]\nstate_dir = "{name}"\n{ONE}')
        assert problem.startswith("server.state_dir: ")
        assert problem.endswith(" is not a folder; name one, it is made if it is not there")
