"""The styles, by the suites of the systems they stand for."""

from __future__ import annotations

import json

import attrs
import pytest

from txsse.config.model import Hold, Keepalive, Stream
from txsse.dialects import DIALECTS, Dialect, Speaker
from txsse.dialects.styles import STYLES
from txsse.errors import ProxyError

CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, OLLAMA, SSE = DIALECTS.values()
SPEAKER = Speaker("00", 1_700_000_000, "qwen3:4b")
NEVER_READY = ProxyError("readiness_timeout", "The upstream was not ready within 600 s.")


def test_a_style_has_defaults_only_for_what_a_route_can_say() -> None:
    sections = {"hold": Hold, "keepalive": Keepalive, "stream": Stream}
    for style in STYLES.values():
        for section, options in style.defaults.items():
            fields = attrs.fields_dict(sections[section])
            for name, value in options.items():
                assert isinstance(value, (type(fields[name].default), int)), f"{section}.{name}"


def test_the_names_are_those_of_the_option() -> None:
    assert list(STYLES) == ["default", "keda", "llama-swap", "hearth", "ds4"]
    assert all(style.name == name for name, style in STYLES.items())


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda each: each.name)
def test_the_default_style_changes_nothing(dialect: Dialect) -> None:
    style = STYLES["default"]
    assert style.vary(dialect) is dialect
    assert style.defaults == {}
    assert style.cache_control == b"no-cache, no-transform"


# -- KEDA

KEDA = STYLES["keda"].vary(CHAT)
KEDA_CHUNK = (
    'data: {{"id":"keda-cold-start","object":"chat.completion.chunk","created":1700000000,"model":"system",'
    '"choices":[{{"index":0,"delta":{{"content":{}}},"finish_reason":null}}]}}\n\n'
)


def test_keda_speaks_in_chunks_of_the_system() -> None:
    assert KEDA.message(SPEAKER, "Model is waking up...", "content", first=True) == KEDA_CHUNK.format('"Model is waking up..."').encode()
    assert KEDA.sign_of_life("event", lambda: SPEAKER) == KEDA_CHUNK.format('""').encode()
    assert KEDA.before_answer(SPEAKER, "\n\n---\n\u200b", "content") == KEDA_CHUNK.format('"\\n\\n---\\n\u200b"').encode()


def test_kedas_head() -> None:
    for dialect in DIALECTS.values():
        varied = STYLES["keda"].vary(dialect)
        assert varied.content_type == dialect.content_type.partition(b";")[0]
        assert varied.name == dialect.name
    assert STYLES["keda"].cache_control == b"no-cache"
    assert CHAT.content_type == b"text/event-stream; charset=utf-8"


def test_keda_says_in_words_that_the_backend_did_not_come() -> None:
    said = KEDA_CHUNK.format('"Backend did not become ready: The upstream was not ready within 600 s."').encode()
    assert KEDA.error_frame(NEVER_READY, SPEAKER, None) == said
    assert KEDA.done == b"data: [DONE]\n\n"


def test_what_went_wrong_later_is_an_error_in_that_style_too() -> None:
    error = ProxyError("upstream_error", "boom", members={"message": "boom", "type": "x"}, upstream_status=500)
    assert KEDA.error_frame(error, SPEAKER, None) == CHAT.error_frame(error, SPEAKER, None)
    assert KEDA.error_body(NEVER_READY) == CHAT.error_body(NEVER_READY)


def test_kedas_habits() -> None:
    hold = STYLES["keda"].defaults["hold"]
    assert (hold["timeout_status"], hold["commit_after"], hold["channel"], hold["progress"]) == (504, 0, "content", "")
    assert hold["separator"] == "\n\n---\n\u200b"
    assert STYLES["keda"].defaults["stream"] == {"error_end": "done"}


# -- llama-swap

SWAP = STYLES["llama-swap"]


def test_llama_swap_thinks_aloud_and_names_the_model() -> None:
    chat = SWAP.vary(CHAT)
    assert chat.message(SPEAKER, ".", "reasoning", first=True) == b'data: {"choices":[{"delta":{"reasoning_content":"."}}]}\n\n'
    assert "{model}" in str(SWAP.defaults["hold"]["message"])
    assert SWAP.defaults["hold"]["channel"] == "reasoning"


def test_llama_swap_is_done_only_before_an_answer() -> None:
    chat = SWAP.vary(CHAT)
    separator = str(SWAP.defaults["hold"]["separator"])
    last = chat.before_answer(SPEAKER, separator, "reasoning")
    text = json.loads(last.removeprefix(b"data: "))["choices"][0]["delta"]["reasoning_content"]
    assert "Done!" in text
    assert text.endswith("\n")
    assert b"Done" not in chat.error_frame(NEVER_READY, SPEAKER, None)
    assert chat.before_answer(SPEAKER, "", "reasoning") == b""


@pytest.mark.parametrize("dialect", [COMPLETIONS, ANTHROPIC, OLLAMA, SSE], ids=lambda each: each.name)
def test_llama_swap_shows_text_in_chats_only(dialect: Dialect) -> None:
    assert SWAP.vary(CHAT).may_show_text({})
    assert not SWAP.vary(dialect).may_show_text({})
    assert dialect is SSE or dialect.may_show_text({})


# -- Hearth, ds4


@pytest.mark.parametrize(("name", "word"), [("hearth", "heartbeat"), ("ds4", "prefill")])
@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, SSE], ids=lambda each: each.name)
def test_comments_with_another_word(name: str, word: str, dialect: Dialect) -> None:
    style = STYLES[name]
    form = str(style.defaults["keepalive"]["form"])
    varied = style.vary(dialect)
    assert varied.sign_of_life(form, lambda: SPEAKER) == f": {word}\n\n".encode()
    assert varied.sign_of_life(form, lambda: SPEAKER, after_id=True) == f": {word}\n".encode()
    assert style.defaults["hold"]["status_comments"] is False
    assert dialect.keepalive() == b": txsse\n"
    assert varied.error_frame(NEVER_READY, SPEAKER, None) == dialect.error_frame(NEVER_READY, SPEAKER, None)


def test_a_style_leaves_ollamas_blank() -> None:
    assert all(style.vary(OLLAMA).keepalive() == b" " for style in STYLES.values())
