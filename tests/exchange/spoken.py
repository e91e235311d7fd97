"""The six dialects (Ollama's in both of its forms) as they stand on the wire: what an upstream says in them, and what we do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from tests.exchange.playbook import STREAM_HEAD
from tests.exchange.scripts import LINE, STATUS
from txsse.dialects import DIALECTS, Dialect, detect
from txsse.wire.http1 import ResponseHead

PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
NDJSON_HEAD: Final = ResponseHead(200, b"OK", b"HTTP/1.1", [(b"Content-Type", b"application/x-ndjson")])

Text = Callable[[str, str], bytes]


@attrs.frozen
class Spoken:
    """One dialect. Texts of ours are made for :data:`tests.exchange.playbook.SPEAKER`.

    :param opening, event, ending: of an upstream's stream: what comes first, what comes then, what ends it.
    :param after_message: opening and event as they are after a message of ours, where that makes a difference.
    :param sign, status: keepalives in the form ``auto``: with nothing to tell, and while held.
    :param beat: the heartbeat, ``b""`` where there is none.
    :param texts: the first visible text on a channel, and any further one; *separator*: before the answer on that channel.
    :param error: the frame for a message, a code and its two types.
    """

    dialect: Dialect
    opening: bytes
    event: bytes
    ending: bytes
    error: Callable[[str, str, str, str], bytes]
    after_message: bytes = b""
    sign: bytes = LINE
    status: bytes = STATUS
    beat: bytes = b""
    texts: tuple[Text, Text] | None = None
    separator: Callable[[str], bytes] = lambda channel: b""
    head: ResponseHead = STREAM_HEAD
    done: bytes = b""


def _chat(channel: str, text: str) -> bytes:
    name = "reasoning_content" if channel == "reasoning" else "content"
    return (
        'data: {"id":"chatcmpl-txsse-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"tiny",'
        f'"choices":[{{"index":0,"delta":{{"{name}":"{text}"}},"finish_reason":null}}]}}\n\n'
    ).encode()


def _completion(channel: str, text: str) -> bytes:
    return (
        'data: {"id":"cmpl-txsse-0123456789abcdef","object":"text_completion","created":1700000000,"model":"tiny",'
        f'"choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":null}}]}}\n\n'
    ).encode()


def _block_delta(channel: str, text: str) -> bytes:
    name = "thinking" if channel == "reasoning" else "text"
    return (
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        f'"delta":{{"type":"{name}_delta","{name}":"{text}"}}}}\n\n'
    ).encode()


def _message_start(channel: str, text: str) -> bytes:
    block = '"type":"thinking","thinking":"","signature":""' if channel == "reasoning" else '"type":"text","text":""'
    return (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_txsse_0123456789abcdef","type":"message",'
        b'"role":"assistant","content":[],"model":"tiny","stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":0,"output_tokens":0}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{%b}}\n\n' % block.encode()
    ) + _block_delta(channel, text)


def _ollama(channel: str, text: str) -> bytes:
    said = f'"content":"","thinking":"{text}"' if channel == "reasoning" else f'"content":"{text}"'
    return f'{{"model":"tiny","created_at":"2023-11-14T22:13:20Z","message":{{"role":"assistant",{said}}},"done":false}}\n'.encode()


def _generate(channel: str, text: str) -> bytes:
    said = f'"response":"","thinking":"{text}"' if channel == "reasoning" else f'"response":"{text}"'
    return f'{{"model":"tiny","created_at":"2023-11-14T22:13:20Z",{said},"done":false}}\n'.encode()


def _on_content_only(text: Text) -> Callable[[str], bytes]:
    return lambda channel: text(channel, r"\n\n---\n\n") if channel == "content" else b""


def _openai_error(message: str, code: str, openai: str, anthropic: str) -> bytes:
    return f'data: {{"error":{{"message":"{message}","type":"{openai}","param":null,"code":"{code}"}}}}\n\n'.encode()


def _anthropic_error(message: str, code: str, openai: str, anthropic: str) -> bytes:
    return f'event: error\ndata: {{"type":"error","error":{{"type":"{anthropic}","message":"{message}"}}}}\n\n'.encode()


def _sse_error(message: str, code: str, openai: str, anthropic: str) -> bytes:
    inner = f'{{"type":"{anthropic}","message":"{message}","code":"{code}"}}'
    return f'event: error\ndata: {{"type":"error","error":{inner}}}\n\n'.encode()


def _ollama_error(message: str, code: str, openai: str, anthropic: str) -> bytes:
    return f'{{"error":"{message}"}}\n'.encode()


def responses_error(message: str, openai: str = "server_error", *, number: int = 0, ident: str = "resp_txsse_0123456789abcdef") -> bytes:
    """The two events of an error; *number*: of the first."""
    inner = f'{{"type":"{openai}","code":"server_error","message":"{message}","param":null}}'
    return (
        f'event: error\ndata: {{"type":"error","sequence_number":{number},"code":"server_error","message":"{message}","param":null,'
        f'"error":{inner}}}\n\n'
        f'event: response.failed\ndata: {{"type":"response.failed","sequence_number":{number + 1},"response":{{"id":"{ident}",'
        f'"object":"response","created_at":1700000000,"status":"failed","error":{{"code":"server_error","message":"{message}"}},'
        '"incomplete_details":null,"model":"tiny","output":[],"parallel_tool_calls":true,"tool_choice":"auto","tools":[]}}\n\n'
    ).encode()


def _event(kind: str, members: str = "") -> bytes:
    return f'event: {kind}\ndata: {{"type":"{kind}"{members}}}\n\n'.encode()


SPOKEN: Final = {
    "openai-chat": Spoken(
        DIALECTS["openai-chat"],
        opening=b'data: {"id":"c1","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',
        event=b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        ending=b"data: [DONE]\n\n",
        error=_openai_error,
        beat=_chat("content", ""),
        texts=(_chat, _chat),
        separator=_on_content_only(_chat),
        done=b"data: [DONE]\n\n",
    ),
    "openai-completions": Spoken(
        DIALECTS["openai-completions"],
        opening=b"",
        event=b'data: {"id":"c1","choices":[{"index":0,"text":"a"}]}\n\n',
        ending=b"data: [DONE]\n\n",
        error=_openai_error,
        beat=_completion("content", ""),
        texts=(_completion, _completion),
        separator=lambda channel: _completion(channel, r"\n\n"),
        done=b"data: [DONE]\n\n",
    ),
    "openai-responses": Spoken(
        DIALECTS["openai-responses"],
        opening=_event("response.created", ',"sequence_number":0,"response":{"id":"resp_1"}'),
        event=_event("response.output_text.delta", ',"sequence_number":7,"delta":"a"'),
        ending=_event("response.completed", ',"sequence_number":8,"response":{"id":"resp_1"}'),
        error=lambda message, code, openai, anthropic: responses_error(message, openai),
    ),
    "anthropic": Spoken(
        DIALECTS["anthropic"],
        opening=_event("message_start", ',"message":{"id":"msg_1","usage":{"input_tokens":25,"output_tokens":1}}')
        + _event("content_block_start", ',"index":0,"content_block":{"type":"text","text":""}'),
        event=_event("content_block_delta", ',"index":0,"delta":{"type":"text_delta","text":"a"}'),
        ending=_event("message_stop"),
        after_message=_event("content_block_start", ',"index":1,"content_block":{"type":"text","text":""}')
        + _event("content_block_delta", ',"index":1,"delta":{"type":"text_delta","text":"a"}'),
        error=_anthropic_error,
        sign=PING,
        beat=PING,
        texts=(_message_start, _block_delta),
        separator=lambda channel: _event("content_block_stop", ',"index":0'),
    ),
    "ollama": Spoken(
        DIALECTS["ollama"],
        opening=b"",
        event=b'{"model":"m","message":{"role":"assistant","content":"a"},"done":false}\n',
        ending=b'{"model":"m","message":{"role":"assistant","content":""},"done":true}\n',
        error=_ollama_error,
        sign=b" ",
        status=b" ",
        beat=_ollama("content", ""),
        texts=(_ollama, _ollama),
        separator=_on_content_only(_ollama),
        head=NDJSON_HEAD,
    ),
    "ollama generate": Spoken(
        detect("/api/generate"),
        opening=b"",
        event=b'{"model":"m","response":"a","done":false}\n',
        ending=b'{"model":"m","response":"","done":true}\n',
        error=_ollama_error,
        sign=b" ",
        status=b" ",
        beat=_generate("content", ""),
        texts=(_generate, _generate),
        separator=_on_content_only(_generate),
        head=NDJSON_HEAD,
    ),
    "sse": Spoken(DIALECTS["sse"], opening=b"", event=b"id: 7\nevent: note\ndata: a\n\n", ending=b"", error=_sse_error),
}
