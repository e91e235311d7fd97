"""Whatever a stream holds, however it is cut and wherever it pauses: what a client reads through the proxy is what it reads directly.

The reader here is stricter than the standard, as some clients are: after an ``id`` line every blank line is an event for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchange.playbook import Feed, FeedEnd, Player
from tests.exchange.spoken import SPOKEN
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.exchange.table import State
from txsse.interfaces import Failed, Fault
from txsse.wire.eventstream import EventStreamDecoder

FORMS: Final = ("auto", "line", "frame", "event", "none")
BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile("\r\n|\n|\r")

Parsed = tuple[str, str, str]
"""An event as a client gets it: type, data, last id. Of a line of JSON there is only data."""


# -- readers


def read_events(stream: bytes) -> list[Parsed]:
    """The events of an event stream; the beginning of one that never ended is the last."""
    found: list[Parsed] = []
    fields: dict[str, list[str]] = {}
    last_id = ""
    *lines, rest = _LINE_END.split(stream.removeprefix(BOM).decode("utf-8", "surrogateescape"))
    for line in lines:
        name, _, value = line.partition(":")
        if not line:
            if fields or last_id:
                found.append(("".join(fields.get("event", [""])[-1:]), "\n".join(fields.get("data", [])), last_id))
            fields = {}
        elif name:
            value = value.removeprefix(" ")
            fields.setdefault(name, []).append(value)
            last_id = value if name == "id" else last_id
    return [*found, ("unfinished", json.dumps(fields) + rest, last_id)]


def read_lines(stream: bytes) -> list[Parsed]:
    """The objects of newline-delimited JSON; anything else than an object in a line is a failure, an empty line as well."""
    *lines, rest = stream.removeprefix(BOM).split(b"\n")
    return [
        *(("", json.dumps(json.loads(line)), "") for line in lines),
        ("unfinished", rest.decode("utf-8", "surrogateescape").strip(), ""),
    ]


# -- what clients take no notice of


def _object(event: Parsed) -> dict[str, Any]:
    try:
        value = json.loads(event[1])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_empty_choice(event: Parsed) -> bool:
    choice: dict[str, object] = (_object(event).get("choices") or [{}])[0]
    return choice.get("delta") == {"content": ""} or choice.get("text") == ""


def _is_named(*names: str) -> Callable[[Parsed], bool]:
    return lambda event: _object(event).get("type") in names


def _is_empty_message(event: Parsed) -> bool:
    value: dict[str, object] = _object(event)
    return not value.get("done") and (value.get("message") == {"role": "assistant", "content": ""} or value.get("response") == "")


def _is_nothing(event: Parsed) -> bool:
    return False


# -- streams

texts: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
one_line: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=8)
# A stream that has shown lone CRs is taken to have no CRLF, or there would be no boundary to speak at before its next byte.
ends: Final = st.sampled_from(["\n", "\r\n"])
ids: Final = st.text("abc123.-", min_size=1, max_size=4)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@st.composite
def event_streams(draw: st.DrawFn, contents: st.SearchStrategy[Sequence[tuple[str, str]]]) -> bytes:
    """*contents* (type and data) in one of the many ways to write them: line ends, ids, comments, spaces, a mark, no end."""
    end = draw(st.one_of(st.sampled_from(["\n", "\r\n", "\r"]).map(st.just), st.just(ends)))
    with_ids = draw(st.booleans())
    text = draw(st.sampled_from(["", "\ufeff"]))
    for kind, data in draw(contents):
        lines = [f"event: {kind}"] if kind else []
        if with_ids and draw(st.booleans()):
            lines.append(f"id: {draw(ids)}")
        lines += [draw(st.sampled_from(["data: ", "data:"])) + line for line in data.split("\n")]
        if draw(st.integers(0, 9)) == 0:
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from([": inside", ":", "retry: 3000", "unknown: field"])))
        before = draw(st.sampled_from([[], [], [], [": ping"], [": ping", ""], [":"], ["event: ping", ""], ["retry: 3000", ""]]))
        if with_ids and draw(st.integers(0, 5)) == 0:
            before = [*before, f"id: {draw(ids)}", ""]
        text += "".join(line + draw(end) for line in [*before, *lines, ""])
    stream = text.encode()
    return stream[: draw(st.integers(0, len(stream)))] if draw(st.integers(0, 9)) == 0 else stream


def _chunk(piece: str) -> tuple[str, str]:
    choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
    return "", _dump({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]})


def _completion(piece: str) -> tuple[str, str]:
    choice = {"text": piece, "index": 0, "logprobs": None, "finish_reason": None}
    return "", _dump({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "tiny", "choices": [choice]})


def _typed(kind: str, **members: object) -> tuple[str, str]:
    return kind, _dump({"type": kind, **members})


def _with_done(pieces: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[Sequence[tuple[str, str]]]:
    return st.builds(lambda events, tail: [*events, *tail], st.lists(pieces, max_size=6), st.sampled_from([[], [("", "[DONE]")]]))


def _framed(
    first: list[tuple[str, str]], pieces: st.SearchStrategy[tuple[str, str]], last: list[tuple[str, str]]
) -> st.SearchStrategy[Sequence[tuple[str, str]]]:
    return st.builds(lambda events: [*first, *events, *last], st.lists(pieces, max_size=6))


responses: Final = _framed(
    [_typed("response.created", sequence_number=0, response={"id": "resp_1"})],
    st.builds(lambda piece: _typed("response.output_text.delta", sequence_number=1, delta=piece), texts),
    [_typed("response.completed", sequence_number=2, response={"id": "resp_1"})],
)
anthropic: Final = _framed(
    [_typed("message_start", message={"id": "msg_1"}), _typed("content_block_start", index=0, content_block={"type": "text", "text": ""})],
    st.one_of(
        st.builds(lambda piece: _typed("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}), texts),
        st.just(_typed("ping")),
    ),
    [_typed("content_block_stop", index=0), _typed("message_stop")],
)
plain: Final = st.lists(
    st.tuples(
        st.sampled_from(["", "", "note"]),
        st.one_of(st.lists(one_line, min_size=1, max_size=3).map("\n".join), st.just("[DONE]")),
    ),
    max_size=6,
)


def _said(piece: str) -> dict[str, object]:
    return {"message": {"role": "assistant", "content": piece}}


def _completed(piece: str) -> dict[str, object]:
    return {"response": piece}


@st.composite
def line_streams(draw: st.DrawFn, say: Callable[[str], dict[str, object]]) -> bytes:
    """Ollama's."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [{"model": "tiny", **say(piece), "done": False} for piece in draw(st.lists(texts, max_size=6))]
    last = draw(st.sampled_from([[], [{"model": "tiny", **say(""), "done": True}]]))
    stream = "".join(_dump(line) + end for line in [*lines, *last]).encode()
    return stream[: draw(st.integers(0, len(stream)))] if draw(st.integers(0, 9)) == 0 else stream


# -- what clients show


def _text_at(*path: str) -> Callable[[Parsed], str]:
    """Reads the text at a place in an event's object; of a list the first is taken."""

    def text(event: Parsed) -> str:
        value: Any = _object(event)
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
            value = value[0] if isinstance(value, list) and value else value
        return value if isinstance(value, str) else ""

    return text


@attrs.frozen
class Tongue:
    """A dialect: streams of it, how they are read, what of them no client takes notice of, and what it shows."""

    streams: st.SearchStrategy[bytes]
    is_noop: Callable[[Parsed], bool]
    text: Callable[[Parsed], str]
    read: Callable[[bytes], list[Parsed]] = read_events

    def hears(self, stream: bytes) -> list[Parsed]:
        return [event for event in self.read(stream) if not self.is_noop(event)]

    def shows(self, stream: bytes) -> str:
        return "".join(self.text(event) for event in self.read(stream))


TONGUES: Final = {
    "openai-chat": Tongue(event_streams(_with_done(st.builds(_chunk, texts))), _is_empty_choice, _text_at("choices", "delta", "content")),
    "openai-completions": Tongue(event_streams(_with_done(st.builds(_completion, texts))), _is_empty_choice, _text_at("choices", "text")),
    "openai-responses": Tongue(event_streams(responses), _is_named("keepalive"), _text_at("delta")),
    "anthropic": Tongue(event_streams(anthropic), _is_named("ping"), _text_at("delta", "text")),
    "ollama": Tongue(line_streams(_said), _is_empty_message, _text_at("message", "content"), read_lines),
    "ollama generate": Tongue(line_streams(_completed), _is_empty_message, _text_at("response"), read_lines),
    "sse": Tongue(event_streams(plain), _is_nothing, lambda event: event[1]),
}


# -- lives

BEGINNINGS: Final = ("held", "slow", "quick")
timers: Final = st.lists(st.sampled_from([Timer.KEEPALIVE, Timer.KEEPALIVE, Timer.HEARTBEAT]), max_size=3)


def relay(data: st.DataObject, dialect: str, stream: bytes, *, dies: bool = False, **policy: Any) -> Player:
    """What becomes of *stream*: cut at random places, with pauses of random lengths in between and before."""
    spoken = SPOKEN[dialect]
    player = Player(
        dialect=spoken.dialect,
        hold_bytes=data.draw(st.sampled_from([8, 64, 65536]), "hold_bytes"),
        heartbeat_midstream=data.draw(st.booleans(), "heartbeat_midstream"),
        **policy,
    )

    def pause() -> None:
        for timer in data.draw(timers, "pause"):
            if timer in player.running:
                player.play(ev.Elapsed(timer, silent=60))

    begin = data.draw(st.sampled_from(BEGINNINGS), "beginning")
    player.play(ev.Begin(ready=begin != "held"))
    if begin != "quick":
        player.play(ev.Elapsed(Timer.COMMIT))
        pause()
    if begin == "held":
        player.play(ev.UpstreamReady(cold=True))
        pause()
    player.play(ev.HeadCame(spoken.head, True))
    pause()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8), "cuts"))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < end:
            player.play(Feed(stream[start:end]))
        pause()
    player.play(ev.DispatchFailed(Failed(Fault.TRUNCATED, "gone")) if dies else FeedEnd())
    return player


def test_every_dialect_has_its_streams() -> None:
    assert set(TONGUES) == set(SPOKEN)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dialect", TONGUES)
def test_what_is_read_through_the_proxy_is_what_is_read_directly(dialect: str, form: str) -> None:
    tongue = TONGUES[dialect]

    # Inside, for pytest-twisted wraps a test with both @given and parameters once for each parameter, and then calls itself.
    @settings(max_examples=30)
    @given(st.data(), tongue.streams)
    def check(data: st.DataObject, stream: bytes) -> None:
        player = relay(data, dialect, stream, form=form)
        assert player.state is State.ENDED
        assert tongue.hears(player.client) == tongue.hears(stream)

    check()


@pytest.mark.parametrize("channel", ["content", "reasoning"])
@pytest.mark.parametrize("dialect", TONGUES)
def test_a_message_is_shown_before_the_text_and_takes_nothing_from_it(dialect: str, channel: str) -> None:
    tongue = TONGUES[dialect]
    # Completions have one channel only, the text.
    shown = re.compile(r"(Waking up\.*(---)?)?" if channel == "content" or dialect == "openai-completions" else "")

    @settings(max_examples=30)
    @given(st.data(), tongue.streams)
    def check(data: st.DataObject, stream: bytes) -> None:
        text = tongue.shows(relay(data, dialect, stream, message="Waking up", progress=".", separator="---", channel=channel).client)
        assert text.endswith(tongue.shows(stream))
        assert shown.fullmatch(text.removesuffix(tongue.shows(stream)))

    check()


@pytest.mark.parametrize("form", ["auto", "frame"])
@pytest.mark.parametrize("dialect", [name for name, tongue in TONGUES.items() if tongue.read is read_events])
def test_to_a_reader_by_the_standard_normalising_changes_nothing(dialect: str, form: str) -> None:
    tongue = TONGUES[dialect]

    def hears(stream: bytes) -> list[Parsed]:
        events = [(event.type, event.data, event.id) for event in EventStreamDecoder().feed(stream)]
        return [event for event in events if not tongue.is_noop(event)]

    @settings(max_examples=40)
    @given(st.data(), tongue.streams)
    def check(data: st.DataObject, stream: bytes) -> None:
        assert hears(relay(data, dialect, stream, form=form, normalise=True).client) == hears(stream)

    check()


@pytest.mark.parametrize("dialect", TONGUES)
def test_a_death_takes_nothing_but_the_event_it_fell_into_and_is_told(dialect: str) -> None:
    tongue = TONGUES[dialect]

    def is_error(event: Parsed) -> bool:
        return "error" in _object(event) or _object(event).get("type") == "response.failed"

    @settings(max_examples=40)
    @given(st.data(), tongue.streams)
    def check(data: st.DataObject, stream: bytes) -> None:
        player = relay(data, dialect, stream, dies=True)
        *heard, rest = tongue.read(player.client)
        heard = [event for event in heard if not tongue.is_noop(event)]
        direct = [event for event in tongue.read(stream)[:-1] if not tongue.is_noop(event)]
        if player.state is State.FAILING:
            frames = 2 if dialect == "openai-responses" else 1
            assert all(map(is_error, heard[-frames:]))
            assert heard[:-frames] == direct
            assert rest[1] in ("", "{}"), "no half event"
        else:
            assert heard == direct
            assert player.outcomes[-1] == act.Done("ok") or player.outcomes[-2] == act.Cut()

    check()
