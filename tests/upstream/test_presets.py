"""How the answers of each kind of backend are read."""

from __future__ import annotations

import pytest

from txsse.config import model
from txsse.upstream.presets import LOADING_PREFIX, PRESETS, Answer, Judgement, is_loading_answer, preset_of

READY, NOT_READY, UNDECIDED = Judgement.READY, Judgement.NOT_READY, Judgement.UNDECIDED


def judge(config: model.Probe, status: int, body: bytes = b"", step: int = 0) -> Judgement:
    return preset_of(config).steps[step].judge(Answer(status, body), config)


def test_there_is_one_row_for_each_preset_of_the_configuration() -> None:
    assert set(PRESETS) == set(model.PRESETS)


@pytest.mark.parametrize(
    ("preset", "paths"),
    [
        ("llamacpp", ["/health"]),
        ("llamacpp-router", ["/health"]),
        ("vllm", ["/health"]),
        ("sglang", ["/ready"]),
        ("tgi", ["/health"]),
        ("ollama", ["/api/version"]),
        ("lmstudio", ["/v1/models"]),
        ("openai", ["/v1/models"]),
        ("tcp", []),
        ("auto", ["/ready", "/health", "/v1/models"]),
    ],
)
def test_each_preset_asks_its_own_pages(preset: str, paths: list[str]) -> None:
    assert [step.path for step in preset_of(model.Probe(preset=preset)).steps] == paths


@pytest.mark.parametrize(
    ("preset", "status", "body", "judgement"),
    [
        ("llamacpp", 200, b'{"status":"ok"}', READY),
        ("llamacpp", 200, b'{ "status" : "ok" }', READY),
        ("llamacpp", 200, b'{"status":"error"}', NOT_READY),
        ("llamacpp", 200, b"", NOT_READY),
        ("llamacpp", 503, b'{"status":"ok"}', NOT_READY),
        ("llamacpp-router", 200, b"", READY),
        ("llamacpp-router", 404, b"", READY),
        ("llamacpp-router", 502, b"", NOT_READY),
        ("vllm", 200, b"", READY),
        ("vllm", 503, b"", NOT_READY),
        ("sglang", 200, b"", READY),
        ("sglang", 503, b"", NOT_READY),
        ("tgi", 200, b"", READY),
        ("tgi", 503, b'{"error":"unhealthy","error_type":"healthcheck"}', NOT_READY),
        ("ollama", 200, b'{"version":"0.6.3"}', READY),
        ("ollama", 502, b"", NOT_READY),
        ("lmstudio", 200, b"{}", READY),
        ("lmstudio", 404, b"", NOT_READY),
        ("openai", 200, b'{"object":"list","data":[]}', READY),
        ("openai", 200, b'{"object":"list","data": [{"id":"a"' + b" " * 70000, READY),
        ("openai", 200, b'{"error":"no models"}', NOT_READY),
        ("openai", 401, b"", READY),
        ("openai", 403, b"", READY),
        ("openai", 404, b"", NOT_READY),
        ("openai", 502, b"", NOT_READY),
        ("openai", 503, b"", NOT_READY),
        ("openai", 504, b"", NOT_READY),
    ],
)
def test_each_preset_reads_the_answer_of_its_backend(preset: str, status: int, body: bytes, judgement: Judgement) -> None:
    assert judge(model.Probe(preset=preset), status, body) is judgement


@pytest.mark.parametrize(
    ("step", "status", "judgement"),
    [
        (0, 200, READY),
        (0, 503, NOT_READY),
        (0, 404, UNDECIDED),
        (0, 500, UNDECIDED),
        (0, 302, UNDECIDED),
        (1, 200, READY),
        (1, 503, NOT_READY),
        (1, 500, NOT_READY),
        (1, 404, UNDECIDED),
        (1, 401, UNDECIDED),
        (2, 200, READY),
        (2, 401, READY),
        (2, 404, READY),
        (2, 502, NOT_READY),
    ],
)
def test_auto_goes_on_until_a_page_decides(step: int, status: int, judgement: Judgement) -> None:
    assert judge(model.Probe(), status, step=step) is judgement


def test_a_path_without_a_preset_is_a_plain_probe() -> None:
    config = model.Probe(path="/up", expect=(200, 204), body_match="a.c")
    assert [step.path for step in preset_of(config).steps] == ["/up"]
    assert judge(config, 204, b"xabcx") is READY
    assert judge(config, 200, b"ab") is NOT_READY
    assert judge(config, 404, b"abc") is NOT_READY


def test_a_path_with_a_preset_moves_its_page_and_keeps_its_judge() -> None:
    config = model.Probe(preset="llamacpp", path="/gpu0/health")
    assert [step.path for step in preset_of(config).steps] == ["/gpu0/health"]
    assert judge(config, 200, b'{"status":"ok"}') is READY
    assert judge(config, 200, b"fine") is NOT_READY


@pytest.mark.parametrize(("preset", "status"), [("openai", 403), ("openai", 200), ("vllm", 200), ("llamacpp-router", 200), ("auto", 200)])
def test_a_body_that_shall_match_must_match_with_every_preset(preset: str, status: int) -> None:
    config = model.Probe(preset=preset, body_match="qwen3")
    assert judge(config, status, b'{"data":[{"id":"qwen2"}]}') is NOT_READY


def test_a_loading_answer_needs_both_the_status_and_the_words() -> None:
    config = model.Probe()
    assert is_loading_answer(503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', config)
    assert is_loading_answer(503, b"Not Ready yet", config)
    assert not is_loading_answer(503, b"too many requests", config)
    assert not is_loading_answer(500, b"Loading model", config)


def test_a_loading_answer_is_looked_for_in_the_first_4_kib_only() -> None:
    config = model.Probe()
    assert is_loading_answer(503, b"\xff" * (LOADING_PREFIX - 7) + b"loading", config)
    assert not is_loading_answer(503, b"\xff" * (LOADING_PREFIX - 6) + b"loading", config)


def test_what_counts_as_loading_can_be_configured() -> None:
    config = model.Probe(loading_status=(425, 503), loading_match="")
    assert is_loading_answer(425, b"", config)
    assert is_loading_answer(503, b"anything", config)
