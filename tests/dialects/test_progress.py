"""Progress as llama.cpp and its router report it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.dialects.progress import Progress, progress_of

CHUNK = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1757141666,'
    b'"id":"chatcmpl-1","model":"m","system_fingerprint":"b6399","object":"chat.completion.chunk",'
    b'"prompt_progress":{"total":237,"cache":30,"processed":128,"time_ms":181}}\n\n'
)


def router(event: str, data: object, model: str = "qwen") -> bytes:
    return f"data: {json.dumps({'model': model, 'event': event, 'data': data})}\n\n".encode()


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (CHUNK, Progress("prefill", 128, 237, 30, 0.181)),
        (CHUNK + CHUNK.replace(b"128", b"237"), Progress("prefill", 237, 237, 30, 0.181)),
        (b'data: {"content":"","prompt_progress":{"total":10,"processed":5}}\n\n', Progress("prefill", 5, 10)),
        (
            router(
                "model_status",
                {"status": "loading", "progress": {"stages": ["text_model", "mmproj_model"], "current": "mmproj_model", "value": 0.5}},
            ),
            Progress("loading", 1.5, 2, model="qwen"),
        ),
        (
            router("status_change", {"status": "loading", "progress": {"stage": "text_model", "value": 0.42}}),
            Progress("loading", 0.42, 1, model="qwen"),
        ),
        (router("status_change", {"status": "loading", "progress": {"stage": "fit_params"}}), Progress("loading", 0, 1, model="qwen")),
        (
            router("download_progress", {"https://a": {"done": 1, "total": 4}, "https://b": {"done": 2, "total": 6}}),
            Progress("downloading", 3, 10, model="qwen"),
        ),
        (
            router("model_status", {"status": "downloading", "progress": {"https://a": {"done": 1, "total": 4}}}),
            Progress("downloading", 1, 4, model="qwen"),
        ),
    ],
)
def test_what_is_reported(frames: bytes, expected: Progress) -> None:
    assert progress_of(frames) == expected
    assert progress_of(b": x\n" + frames + b'data: {"choices":[]}\n\n') == expected


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        b": prompt_progress\n\n",
        b'data: {"choices":[{"delta":{"content":"\\"prompt_progress\\":{\\"total\\":1}"}}]}\n\n',
        b'event: response.in_progress\ndata: {"type":"response.in_progress","response":{"status":"in_progress"}}\n\n',
        b'data: {"prompt_progress":null}\n\n',
        b'data: {"prompt_progress":{"total":0,"processed":0}}\n\n',
        b'data: {"prompt_progress":{"total":NaN,"processed":1}}\n\n',
        b'data: {"prompt_progress":{"total":1e999}}\n\n',
        b'data: {"prompt_progress":{"total":"many"}}\n\n',
        b'data: {"prompt_progress":{\n\n',
        b'data: ["prompt_progress",{}]\n\n',
        b'data: {"a":{"prompt_progress":{"total":9}}}\n\n',
        b"data: " + b'{"progress":' * 2000 + b"\n\n",
        router("model_status", {"status": "loading"}),
        router("model_status", {"status": "loaded", "progress": {}}),
        router("model_status", ["progress"]),
        router("download_progress", {}),
        b'data: {"event":"model_status","progress":{},"data":7}\n\n',
        CHUNK[:-1],  # half an event
    ],
)
def test_where_nothing_is_reported(frames: bytes) -> None:
    assert progress_of(frames) is None


@pytest.mark.parametrize(
    ("progress", "fraction", "remaining"),
    [
        (Progress("prefill", 50, 100, 0, 2.0), 0.5, 2.0),
        (Progress("prefill", 60, 100, 20, 4.0), 0.6, 4.0),
        (Progress("prefill", 20, 100, 20, 4.0), 0.2, None),
        (Progress("prefill", 100, 100, 20, 4.0), 1.0, 0.0),
        (Progress("prefill", 120, 100, 20, 4.0), 1.0, 0.0),
        (Progress("loading", 1, 4), 0.25, None),
    ],
)
def test_how_far_and_how_long(progress: Progress, fraction: float, remaining: float | None) -> None:
    assert progress.fraction == fraction
    assert progress.remaining == remaining


NUMBERS = st.one_of(st.floats(), st.integers(-5, 5), st.integers(), st.booleans(), st.none(), st.text(max_size=2))


@given(told=st.dictionaries(st.sampled_from(("total", "cache", "processed", "time_ms")), NUMBERS))
def test_whatever_is_told_gives_numbers_that_can_be_written(told: dict[str, Any]) -> None:
    found = progress_of(f"data: {json.dumps({'prompt_progress': told})}\n\n".encode())
    assert found is None or 0 <= found.fraction <= 1
    assert found is None or found.remaining is None or 0 <= found.remaining < 1e300
