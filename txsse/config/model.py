"""The whole configuration as classes. Every default of the product is written here and nowhere else.

Attribute names are the keys of the TOML file (``configuration.route[0].hold.commit_after`` is ``commit_after`` in ``[route.hold]``).
Durations are floats in seconds, sizes are ints in bytes, lists are tuples. Objects made by hand are not checked;
:func:`txsse.config.load` and :func:`txsse.config.from_options` check.
"""

# ruff: noqa: RUF009 - the calls in class bodies are field specifiers, evaluated once as attrs.field() is

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from txsse.config.fields import Kind, choice, duration, flag, integer, mapping, option, several, size, table, tables, text
from txsse.config.secret import Secret

KIB: Final = 1024
MIB: Final = 1024 * KIB

LONGEST_NODE: Final = 32
"""Characters of a proxy's name: it stands in the ids of its streams."""

PRESETS: Final = ("llamacpp", "llamacpp-router", "vllm", "sglang", "tgi", "ollama", "lmstudio", "openai", "tcp", "auto", "none")
DIALECTS: Final = ("auto", "openai-chat", "openai-completions", "openai-responses", "anthropic", "ollama", "sse")
STORE_FILE: Final = "recordings.sqlite"


@attrs.frozen
class Server:
    """``[server]``: the listeners and what holds for every request."""

    listen: tuple[str, ...] = several(
        Kind.ENDPOINTS, "where clients connect, as Twisted endpoint strings", ("tcp:8787:interface=127.0.0.1",)
    )
    admin: str = text("tcp:9180:interface=127.0.0.1", "where status, probes and metrics are served; `none` switches it off", Kind.ENDPOINT)
    workers: int = integer(1, "processes that share the listening sockets", only=(1,), positive=True)
    max_connections: int = integer(
        10000,
        "client connections; over it a new one gets 503 and Retry-After at once. Never more than (descriptor limit - 200) / 2",
        positive=True,
    )
    max_head: int = size(16 * KIB, "request line and header fields; over it 431", positive=True)
    header_timeout: float = duration(10, "for a whole request head; single bytes do not extend it", positive=True)
    body_timeout: float = duration(60, "for a whole request body", positive=True)
    idle_timeout: float = duration(75, "how long a keep-alive connection may wait for its next request", positive=True)
    max_body: int = size(32 * MIB, "one request body; over it 413")
    max_buffered: int = size(128 * MIB, "all request bodies together; over it 503 and Retry-After")
    drain: float = duration(300, "after SIGTERM, how long open streams may go on")
    lame_duck: float = duration(0, "after SIGTERM, how long the proxy still listens while /readyz already answers 503")
    trusted_proxies: tuple[str, ...] = several(
        Kind.NETWORKS,
        "addresses, networks, or `unix:`, whose X-Forwarded-* and Forwarded fields are extended; anybody else's are replaced",
    )
    node: str = text("", "this proxy's name among its `peers`", Kind.NAME)
    peers: Mapping[str, str] = mapping(Kind.PEERS, "URLs of the proxies by their names: a stream that another one keeps is read through it")
    state_dir: str = text(
        "", "folder for what survives restarts: how long starts took, and the store of kind `sqlite`; empty = nothing does", Kind.FOLDER
    )
    log_format: str = choice("text", ("text", "json"), "form of the access lines")
    access_log: bool = flag(True, "one line per request at its end")
    cold_start_header: str = text(
        "X-Txsse-Cold-Start", "response header that tells whether the request waited for readiness; empty = off", Kind.HEADER_NAME
    )
    admin_hosts: tuple[str, ...] = several(Kind.STRINGS, "Host names the admin listener answers to, besides IP literals and localhost")
    admin_token: Secret = option(
        Secret(), Kind.SECRET, "bearer token of the admin listener; required when that does not listen on loopback"
    )


@attrs.frozen
class Auth:
    """``[auth]``: who may use the proxy."""

    keys_file: str = text("", "file of lines `name:sha256-hex`; empty = everybody is let in", Kind.FILE)
    forward: bool = flag(False, "pass the client's key on to the upstream")
    cookie: str = text("", "name of a cookie that may carry the key; empty = none")
    query: str = text("", "name of a query parameter that may carry the key; empty = none")


@attrs.frozen
class UpstreamTLS:
    """``[upstream.tls]``: how an ``https://`` upstream is verified, and who we say we are."""

    ca_file: str = text("", "PEM file of the authorities to trust; empty = the system's", Kind.FILE)
    cert: str = text("", "PEM file of our client certificate", Kind.FILE)
    key: str = text("", "PEM file of its private key", Kind.FILE)
    server_name: str = text("", "name to ask for and to verify; empty = the URL's host")


@attrs.frozen
class Pool:
    """``[upstream.pool]``: kept-alive connections to an upstream."""

    max_idle: int = integer(64, "idle connections kept")
    idle_timeout: float = duration(4, "how long an idle connection is kept; below the 5 s of uvicorn")


@attrs.frozen
class Probe:
    """``[upstream.probe]``: how readiness is found out. One probe per upstream, running only while somebody waits."""

    preset: str = choice("auto", PRESETS, "what is asked, and which answers mean ready; `none` takes the upstream for ready")
    path: str = text("", "path to GET; without a preset a plain HTTP probe, with one it overrides the preset's", Kind.PATH)
    expect: tuple[int, ...] = several(Kind.STATUSES, "statuses that mean ready", (200,))
    body_match: str = text("", "pattern the body must contain to mean ready; empty = any body", Kind.PATTERN)
    interval: float = duration(0.25, "between two probes", positive=True)
    max_interval: float = duration(1, "longest pause between probes of an upstream that is not on loopback", positive=True)
    timeout: float = duration(2, "for one probe", positive=True)
    ready_after: float = duration(0, "how long after the first good answer the upstream counts as ready")
    loading_status: tuple[int, ...] = several(Kind.STATUSES, "statuses of a data response that may mean `still loading`", (503,))
    loading_match: str = text("(?i)loading|not ready", "pattern in its first 4 KiB that makes it mean that", Kind.PATTERN)


@attrs.frozen
class WakeStep:
    """``[[upstream.wake.http]]``: one of the HTTP requests that start an upstream. Any answer but a 2xx means that it did not start."""

    url: str = text("", "where it goes, as in `http://host:port/wake_up?level=1`; required")
    method: str = text("POST", "its method, in capitals")
    headers: Mapping[str, Secret] = mapping(Kind.HEADERS, "its header fields")
    body: str = text("", "its body, sent as UTF-8")
    timeout: float = duration(5, "for the whole of it", positive=True)


@attrs.frozen
class Wake:
    """``[upstream.wake]``: how a sleeping upstream is started."""

    http: tuple[WakeStep, ...] = tables(WakeStep, "HTTP requests that start it, in order")
    exec: tuple[str, ...] = several(
        Kind.STRINGS, "command of a process owned by the proxy; `${PORT}` in it, and in `url`, is a free port that the proxy chooses"
    )
    stop_after_idle: float = duration(0, "stop that process when no request was open for this long; 0 = never")
    wol: str = text("", "MAC address to send a wake-on-LAN packet to")
    wol_broadcast: str = text("", "IPv4 address that packet is sent to, perhaps with a port; empty = everybody on the local network")
    cooldown: float = duration(30, "after a failed start, how long requests are refused at once")
    cancel_after: float = duration(0, "stop a start nobody waits for any more after this long; 0 = let it run")

    @property
    def does_something(self) -> bool:
        """There is a way to start the upstream."""
        return bool(self.http or self.exec or self.wol)


@attrs.frozen
class Timeouts:
    """``[upstream.timeouts]``: how long an upstream may take."""

    connect: float = duration(5, "to connect, TLS included", positive=True)
    first_byte: float = duration(600, "from dispatch to the first event", positive=True)
    idle: float = duration(300, "between two reads after that", positive=True)
    comments_count: bool = flag(True, "the upstream's own comments count as a sign of life")
    total: float = duration(0, "from the request's head to the end, hold included; 0 = no limit")


@attrs.frozen
class Upstream:
    """``[[upstream]]``: a named backend."""

    name: str = text("", "unique name, as in `route.upstream`, logs and metrics; required", Kind.NAME)
    url: str = text("", "`http://host:port`, `https://host:port` or `unix:/path`; required, unless there are `urls`", Kind.URL)
    urls: tuple[str, ...] = several(Kind.URLS, "instead of `url`, those of several replicas: a request goes to the least busy ready one")
    max_concurrency: int = integer(0, "slots: requests in flight at a time, the others wait their turn; 0 = no limit")
    fallback: str = text("", "name of the upstream to use when this one does not become ready; it gets no hold of its own")
    group: str = text("", "upstreams of one group are never run at the same time (one GPU); needs `wake.exec`")
    set_headers: Mapping[str, Secret] = mapping(Kind.HEADERS, "header fields set on every request to it")
    host: str = text("upstream", "the Host it is sent: `upstream` (its URL's), `preserve` (the client's) or a literal", Kind.HOST)
    tls: UpstreamTLS = table(UpstreamTLS, "TLS towards it")
    pool: Pool = table(Pool, "kept-alive connections")
    probe: Probe = table(Probe, "readiness")
    wake: Wake = table(Wake, "starting it")
    timeouts: Timeouts = table(Timeouts, "its limits in time")

    @property
    def all_urls(self) -> tuple[str, ...]:
        """Of its ``url`` and its ``urls`` whichever there is."""
        return self.urls or (self.url,)


@attrs.frozen
class Match:
    """``route.match``: globs a request must meet, all of them. Empty ones meet everything; in paths and hosts ``*`` stops at a slash."""

    path: str = text("/**", "decoded path; `*` stays inside a segment, `**` does not", Kind.GLOB)
    host: str = text("", "host of the request, without its port")
    method: str = text("", "method")
    header: Mapping[str, str] = mapping(Kind.GLOBS, "header fields by name")
    model: str = text("", "top-level member `model` of a JSON body")


@attrs.frozen
class Static:
    """``[route.static]``: an answer given here, which wakes nothing."""

    status: int = option(0, Kind.STATUS, "status of the answer; 0 = 200 if there is a body or a file, otherwise there is none")
    body: str = text("", "its body, sent as UTF-8")
    file: str = text("", "file that holds the body, read at the start and at each reload", Kind.FILE)
    content_type: str = text("", "its Content-Type; empty = by the file's extension, or by the body's look", Kind.FIELD_VALUE)
    headers: Mapping[str, str] = mapping(Kind.FIELDS, "its other header fields")
    when: str = choice("unavailable", ("unavailable", "always"), "whether a ready upstream answers itself")


@attrs.frozen
class NoWake:
    """``[route.no_wake]``: requests that a ready upstream answers, and for which one that is not ready is neither woken nor probed."""

    paths: tuple[str, ...] = several(Kind.PATH_GLOBS, "globs of their decoded paths; a GET of `/v1/models` is answered with a list")
    user_agents: tuple[str, ...] = several(Kind.STRINGS, "globs of their User-Agent")


@attrs.frozen
class Placeholder:
    """``[route.hold.placeholder]``: what is sent at once instead of a hold while the upstream is not ready. It is woken all the same."""

    status: int = option(
        0, Kind.STATUS, "status of the placeholder; 0 = 503 if there is a body, a file or files, otherwise requests are held"
    )
    body: str = text("", "its body, sent as UTF-8")
    file: str = text("", "file that holds the body, read at the start and at each reload", Kind.FILE)
    content_type: str = text("", "its Content-Type; empty = by the file's extension, or by the body's look", Kind.FIELD_VALUE)
    files: Mapping[str, str] = mapping(Kind.FILES, "files for decoded paths of their own, such as a style sheet's")
    page: str = choice(
        "auto",
        ("auto", "always", "never"),
        "whether browsers are shown the waiting page, whatever others get; auto = unless the placeholder is HTML itself",
    )
    page_file: str = text("", "template of that page; empty = the one that is built in", Kind.FILE)


@attrs.frozen
class Hold:
    """``[route.hold]``: what a request gets while its upstream is not ready."""

    timeout: float = duration(600, "for readiness and a slot together; 0 = no limit, refused together with a fallback")
    timeout_status: int = integer(503, "status when it is over before the commit", least=400, most=599)
    commit_after: float = duration(1, "from the request's end to the commit when the upstream is known not to be ready")
    max_waiting: int = integer(256, "requests that may wait; one more gets 429 and Retry-After", positive=True)
    overflow: str = choice(
        "reject", ("reject", "fallback", "placeholder"), "what that one gets; with `placeholder` only those over the limit are sent it"
    )
    message: str = text("", "visible text while held; `{elapsed}`, `{eta}`, `{position}` and `{model}` are replaced; empty = invisible")
    progress: str = text(".", "with a message, repeated each interval in place of the keepalive")
    separator: str = text("\n\n---\n\n", "with a message, divides it from the answer")
    channel: str = choice("reasoning", ("reasoning", "content"), "where the message is shown, in dialects that have both")
    status_comments: bool = flag(True, 'keepalives while held are `: txsse {"state":..}` comments')
    style: str = choice("default", ("default", "keda", "llama-swap", "hearth", "ds4"), "the bytes and defaults of another product")
    placeholder: Placeholder = table(Placeholder, "what is sent instead")


@attrs.frozen
class Keepalive:
    """``[route.keepalive]``: what keeps the client's connection alive while the upstream is silent."""

    commit_after: float = duration(5, "from dispatch to the commit when the upstream is silent")
    interval: float = duration(15, "between the last byte written to the client and the next keepalive", positive=True)
    form: str = choice("auto", ("auto", "line", "frame", "event", "none"), "form of a keepalive; `none` switches them off")
    heartbeat: float = duration(45, "between parsed no-op events before the first upstream event; 0 = off")
    heartbeat_midstream: bool = flag(False, "heartbeats also between events, after as long a silence")
    normalise: bool = flag(False, "rewrite or drop the upstream's own keepalives that break clients")
    json: str = choice(
        "off",
        ("off", "whitespace"),
        "`whitespace`: a JSON answer that does not stream is committed too, and kept alive by blanks before it",
    )


@attrs.frozen
class Stream:
    """``[route.stream]``: how an upstream's stream is relayed and ended."""

    hold_bytes: int = size(64 * KIB, "of an unfinished event held back; past it bytes pass as they come", positive=True)
    stall_timeout: float = duration(30, "a client whose socket accepted no byte for this long is aborted", positive=True)
    error_end: str = choice("abort", ("abort", "done"), "how a stream ends after an error frame: cut, or `[DONE]` and a clean end")
    error_event: bool = flag(False, "in dialect `sse`, an error event also after the upstream's own head was relayed")
    require_done: bool = flag(False, "a stream that ends without its terminal event is an error")


@attrs.frozen
class Resume:
    """``[route.resume]``: reading a stream again after a disconnect."""

    mode: str = choice(
        "off",
        ("off", "auto", "always"),
        "streams are recorded and can be read again; their events get ids where the client can use them (`auto`), or always",
    )
    max_bytes: int = size(MIB, "of one recording; what came first is forgotten then. 0 = nothing is kept, who comes back gets what follows")
    ttl: float = duration(300, "how long a finished stream can be read", positive=True)
    on_disconnect: str = choice(
        "grace",
        ("cancel", "grace", "continue"),
        "what becomes of a stream that nobody reads: it ends at once, after `grace`, or after `max_orphan`; for predictions the default is "
        "`cancel`",
    )
    grace: float = duration(30, "how long a stream waits for a reader to come back, within `max_orphan`", positive=True)
    max_orphan: float = duration(600, "how long a stream may go on without any reader", positive=True)
    max_readers: int = integer(64, "readers of one stream", positive=True)
    on_gap: str = choice(
        "skip", ("skip", "error"), "what a reader gets whose place is not recorded any more: the rest and the size of the gap, or an error"
    )


@attrs.frozen
class Cache:
    """``[route.cache]``: answering from a recording."""

    mode: str = choice(
        "off",
        ("off", "deterministic", "all", "opt-in"),
        "requests that are answered from it: those with a `temperature` of 0 or a `seed`, all, or those that ask for it by a header",
    )
    ttl: float = duration(3600, "how long an entry is served", positive=True)
    max_entry: int = size(MIB, "of one entry; a longer answer is relayed and not kept", positive=True)
    scope: str = text(
        "credential",
        "who shares entries: clients with the same `credential` (requests without one are not cached), everybody (`shared`), or those with "
        "the same value in a header (`header:<name>`)",
        Kind.SCOPE,
    )
    ignore: tuple[str, ...] = several(Kind.MEMBERS, "top-level members of the body that make no difference, such as `user`")
    replay: str = choice(
        "instant", ("instant", "original", "fixed"), "pace of a replay: at once, as it came, or with a `gap` between events"
    )
    speed: float = option(1.0, Kind.NUMBER, 'with `replay = "original"`, how many times as fast')
    max_gap: float = duration(2, 'with `replay = "original"`, the longest pause', positive=True)
    gap: float = duration(0.02, 'with `replay = "fixed"`, the pause between two events', positive=True)
    coalesce: bool = flag(True, "identical requests in flight share one upstream stream, where mode is not off")
    no_cache_writes: bool = flag(
        True, "the answer to a request with `Cache-Control: no-cache` replaces what is stored; else that stays as it is"
    )
    convert: bool = flag(False, "a stored stream also answers the same request without `stream`, and the other way round")


@attrs.frozen
class Route:
    """``[[route]]``: which requests go to which upstream, and the policy they get. The first match wins."""

    name: str = text("", "unique name in logs and metrics; default: the upstream's, with -2, -3 and so on where it is taken", Kind.NAME)
    match: Match = table(Match, "which requests")
    upstream: str = text("", "the upstream's name; may be left out when the file has only one")
    kind: str = choice(
        "proxy",
        ("proxy", "predictions"),
        "what clients speak: the upstream's own API, or replicate/cog's at `/predictions` (then `match.path` is the upstream's path)",
    )
    dialect: str = choice("auto", DIALECTS, "the API spoken on its streams; auto = by the path")
    streaming: str = choice("auto", ("auto", "always", "never"), "whether requests stream; auto = as the request says")
    priority: int = integer(0, "in the waiting room: the highest goes first")
    cors_origins: tuple[str, ...] = several(
        Kind.ORIGINS, "origins for which heads and errors of ours carry CORS fields, and preflights are answered while not ready"
    )
    static: Static = table(Static, "a fixed answer")
    no_wake: NoWake = table(NoWake, "requests that do not wake the upstream")
    hold: Hold = table(Hold, "while its upstream is not ready")
    keepalive: Keepalive = table(Keepalive, "while its upstream is silent")
    stream: Stream = table(Stream, "while its upstream speaks")
    resume: Resume = table(Resume, "reading again")
    cache: Cache = table(Cache, "answering from a recording")


@attrs.frozen
class Store:
    """``[store]``: where recordings are kept."""

    kind: str = choice("memory", ("memory", "sqlite", "redis"), "the store; `sqlite` survives a restart, `redis` is shared by machines")
    url: str = text(
        "",
        f"with `sqlite`, its file; empty = `{STORE_FILE}` in `server.state_dir`. With `redis`, its `redis://`, `rediss://` or `unix://` "
        "URL, which may be a secret",
        Kind.STORE,
    )
    max_bytes: int = size(64 * MIB, "of all recordings; over it the ones that were not used for the longest time go", positive=True)
    ca_file: str = text("", "with `rediss://`, PEM file of the authorities to trust; empty = the system's", Kind.FILE)


@attrs.frozen
class Webhooks:
    """``[webhooks]``: telling somebody else's server what becomes of a prediction."""

    allow: tuple[str, ...] = several(
        Kind.WEBHOOKS,
        "where they may go, as `https://host/path`; `*` as host or as its first label, as port, and in the path, where it stops at a slash "
        "and `**` does not. A path that ends in a slash, or none, is everything below. Private addresses only where the host is named",
    )
    secret: Secret = option(
        Secret(), Kind.SECRET, "what they are signed with, `whsec_..` of Standard Webhooks; several, divided by blanks, sign each"
    )
    ca_file: str = text("", "PEM file of the authorities to trust; empty = the system's", Kind.FILE)
    interval: float = duration(0.5, "between two that tell of output or logs, for one prediction")
    timeout: float = duration(15, "for one attempt to deliver one, name look-up, connecting and TLS included", positive=True)
    max_attempts: int = integer(12, "attempts to deliver the one that tells of the end; all others have one", positive=True)
    max_concurrency: int = integer(32, "under way at a time; half of them to one server", positive=True)
    max_body: int = size(MIB, "of one; a longer one is sent without input, output and logs, and says `truncated`", positive=True)
    max_queued: int = size(32 * MIB, "of all that wait to be sent; over it a new one is dropped", positive=True)


@attrs.frozen
class Configuration:
    """Everything the proxy is told. Immutable: a reload makes a new one."""

    server: Server = table(Server, "listeners and limits")
    auth: Auth = table(Auth, "client keys")
    upstream: tuple[Upstream, ...] = tables(Upstream, "backends")
    route: tuple[Route, ...] = tables(Route, "matches and policies, in order")
    store: Store = table(Store, "recordings")
    webhooks: Webhooks = table(Webhooks, "news of predictions")
