"""Counts what a piece of work makes the interpreter do: no clock, so the same on every machine and on a busy one."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

OURS = str(Path(__file__).parent)  # the work of the fakes is not counted


@attrs.frozen
class Count:
    """:ivar calls: of Python functions; resumed generators and coroutines count as well.
    :ivar c_calls: of functions written in C.
    :ivar bytecodes: instructions of the interpreter.
    """

    calls: float
    c_calls: float
    bytecodes: float

    def __sub__(self, other: Count) -> Count:
        return Count(self.calls - other.calls, self.c_calls - other.c_calls, self.bytecodes - other.bytecodes)

    def per(self, number: float) -> Count:
        return Count(*(round(value / number, 2) for value in attrs.astuple(self)))


def possible() -> bool:
    """Whether nobody else, such as coverage, watches the interpreter."""
    return sys.gettrace() is None and sys.getprofile() is None


def count(work: Callable[[], object]) -> Count:
    """What *work* takes, without what it takes in the files of this folder."""
    calls = c_calls = bytecodes = 0
    fakes: dict[str, bool] = {}

    def of_fakes(frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        known = fakes.get(name)
        if known is None:
            known = fakes[name] = name.startswith(OURS)
        return known

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls, c_calls
        if event == "call" and not of_fakes(frame):
            calls += 1
        elif event == "c_call" and not of_fakes(frame):
            c_calls += 1

    def trace(frame: FrameType, event: str, argument: object) -> Any:  # itself, a type without an end
        nonlocal bytecodes
        if event == "call":
            if of_fakes(frame):
                return None
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
        elif event == "opcode":
            bytecodes += 1
        return trace

    gc.collect()
    gc.disable()  # it would run the finalizers of what was there before
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        sys.settrace(None)
        gc.enable()
    return Count(calls, c_calls, bytecodes)
