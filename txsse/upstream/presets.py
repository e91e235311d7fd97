"""How each kind of backend says that it is ready: one row a preset, and nothing here touches a socket.

A preset is a list of paths to GET, each with a judge that reads the answer: ready, not ready, or undecided, then the next path
is asked. What holds for every preset: a loading answer (:func:`is_loading_answer`) is not ready, the statuses of
``probe.expect`` stand where the list of presets says 200, and ``probe.body_match``, if set, must match as well.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from txsse.config import model

LOADING_PREFIX: Final = 4096  # bytes of an answer's body that are read to tell whether it is a loading answer


@attrs.frozen
class Answer:
    """A probed path's answer: its status, and the beginning of its body (which may be cut at a bound)."""

    status: int
    body: bytes


class Judgement(enum.Enum):
    READY = "ready"
    NOT_READY = "not ready"
    UNDECIDED = "undecided"


Judge: TypeAlias = Callable[[Answer, model.Probe], Judgement]


@attrs.frozen
class Step:
    """A path to GET and how to read its answer."""

    path: str
    judge: Judge


@attrs.frozen
class Preset:
    """The steps of a probe, asked in order until one decides; with none at all it is enough to connect."""

    steps: tuple[Step, ...] = ()


def is_loading_answer(status: int, body_prefix: bytes, config: model.Probe) -> bool:
    """Whether an answer says "still loading": a status in ``loading_status``, and ``loading_match`` in the body's first 4 KiB."""
    return status in config.loading_status and _matches(config.loading_match, body_prefix[:LOADING_PREFIX])


def _matches(pattern: str, body: bytes) -> bool:
    return re.search(pattern, body.decode("utf-8", "replace")) is not None


def _judged(ready: bool, answer: Answer, config: model.Probe) -> Judgement:
    return Judgement.READY if ready and _matches(config.body_match, answer.body) else Judgement.NOT_READY


def _expected(answer: Answer, config: model.Probe) -> Judgement:
    return _judged(answer.status in config.expect, answer, config)


def _says(pattern: bytes) -> Judge:
    """An expected answer whose body also holds *pattern*. Not parsed as JSON: a long list of models is cut at the probe's bound."""
    compiled = re.compile(pattern)

    def judge(answer: Answer, config: model.Probe) -> Judgement:
        return _judged(answer.status in config.expect and compiled.search(answer.body) is not None, answer, config)

    return judge


def _or_locked(judge: Judge) -> Judge:
    """401 and 403 are ready too: whoever asks for a key is up."""

    def judge_or_locked(answer: Answer, config: model.Probe) -> Judgement:
        return _judged(True, answer, config) if answer.status in (401, 403) else judge(answer, config)

    return judge_or_locked


def _answers(answer: Answer, config: model.Probe) -> Judgement:
    """Any answer that is not a failure: where readiness cannot be asked, being there is all there is to know."""
    return _judged(answer.status < 500, answer, config)


def _only(failures: range) -> Judge:
    """An expected answer is ready, a status in *failures* is not; any other says nothing: the page may just not exist there."""

    def judge(answer: Answer, config: model.Probe) -> Judgement:
        if answer.status in config.expect or answer.status in failures:
            return _expected(answer, config)
        return Judgement.UNDECIDED

    return judge


PRESETS: Final[Mapping[str, Preset]] = {
    "llamacpp": Preset((Step("/health", _says(rb'"status"\s*:\s*"ok"')),)),
    # The router, LM Studio and Ollama load a model when it is first asked for: ready means that they listen.
    "llamacpp-router": Preset((Step("/health", _answers),)),
    "vllm": Preset((Step("/health", _expected),)),
    # Not /health: that runs a generation.
    "sglang": Preset((Step("/ready", _expected),)),
    "tgi": Preset((Step("/health", _expected),)),
    "ollama": Preset((Step("/api/version", _expected),)),
    "lmstudio": Preset((Step("/v1/models", _expected),)),
    "openai": Preset((Step("/v1/models", _or_locked(_says(rb'"data"\s*:\s*\['))),)),
    "tcp": Preset(),
    "auto": Preset(
        (
            Step("/ready", _only(range(503, 504))),
            Step("/health", _only(range(500, 600))),
            # The last one decides: an HTTP server that has none of these pages has nothing to say about readiness.
            Step("/v1/models", _answers),
        )
    ),
    "none": Preset(),  # for completeness: its gate is always open and never asks
}


def preset_of(config: model.Probe) -> Preset:
    """The steps *config* asks for, with its own ``path`` if it has one.

    A path beside ``auto`` is a plain HTTP probe: somebody who names a path leaves nothing to be found out.
    """
    preset = PRESETS[config.preset]
    if not config.path or not preset.steps:
        return preset
    judge = _expected if config.preset == "auto" else preset.steps[0].judge
    return Preset((Step(config.path, judge),))
