"""What the upstreams of one proxy have in common: groups, and the history of their starts."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from txsse.config import model
from txsse.config.errors import Refused
from txsse.upstream.state import Event, Standing, State
from txsse.upstream.wake.parts import Ended
from txsse.upstream.wake.shared import Shared
from txsse.upstream.wake.starter import Starter


class Idle:
    """An owner that does nothing."""

    def look(self) -> None: ...

    def wake_ended(self, ended: Ended) -> None: ...


def shared(folder: str = "") -> Shared:
    return Shared(folder, lambda name, ended: None)


def starter(common: Shared, name: str, group: str = "", **wake: str) -> tuple[Starter, Standing]:
    clock = Clock()
    standing = Standing(clock.seconds, lambda *_: None, State.DOWN)
    config = model.Upstream(name=name, group=group, wake=model.Wake(exec=("serve",), **wake))  # type: ignore[arg-type]  # of one kind
    return common.starter(clock, config, standing, Idle(), None), standing


def test_a_group_is_shared_and_lasts_as_long_as_somebody_is_in_it() -> None:
    common = shared()
    one, _ = starter(common, "one", "gpu0")
    two, _ = starter(common, "two", "gpu0")
    other, _ = starter(common, "other", "gpu1")
    assert one._group is two._group
    assert one._group is not other._group
    assert len(common._groups) == 2
    del one, two, other
    gc.collect()
    assert len(common._groups) == 0


def test_what_an_upstream_was_and_what_it_becomes_take_turns_and_strangers_do_not() -> None:
    common = shared()
    before, _ = starter(common, "llama")
    after, _ = starter(common, "llama")
    assert before._group is after._group
    stranger, _ = starter(common, "qwen")
    assert stranger._group is not before._group
    named_alike, _ = starter(common, "qwen", "llama")
    assert named_alike._group is not before._group


def test_the_history_is_kept_in_its_folder(tmp_path: Path) -> None:
    common = shared(str(tmp_path))
    first, standing = starter(common, "llama")
    first.wake()
    first._clock.advance(0)  # type: ignore[attr-defined]  # a Clock
    first._clock.advance(7)  # type: ignore[attr-defined]  # a Clock
    standing.hear(Event.PROBE_PASSED, "")
    first.looked(Event.PROBE_PASSED)
    again, _ = starter(shared(str(tmp_path)), "llama")
    assert again.eta == 7


def test_an_address_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(Refused, match="not a MAC address"):
        starter(shared(), "llama", wol="workstation")
