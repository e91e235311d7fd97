"""What the upstreams of one proxy have in common where starting them is concerned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from txsse.config import model
from txsse.upstream.state import Standing
from txsse.upstream.wake.errands import errands_of
from txsse.upstream.wake.eta import Starts
from txsse.upstream.wake.group import Group
from txsse.upstream.wake.parts import Ended, Owner, Spawn
from txsse.upstream.wake.starter import Starter


class Shared:
    """The history of starts, the groups, and who keeps account. It outlives configurations.

    :param state_dir: folder that the history is kept in; "" = none.
    :param ended: told of the end of each start, with the upstream's name.
    """

    def __init__(self, state_dir: str, ended: Callable[[str, Ended], None]) -> None:
        self.ended = ended
        self._starts = Starts(state_dir)
        self._groups: WeakValueDictionary[str, Group] = WeakValueDictionary()  # as long as somebody is in them

    def starter(self, reactor: Any, config: model.Upstream, standing: Standing, owner: Owner, spawn: Spawn | None) -> Starter:
        """What starts and stops the upstream of *config*.

        :raises Refused: of :mod:`txsse.config.errors`: an address in its ``wake`` table cannot be used.
        """
        return Starter(
            reactor,
            config.name,
            config.wake,
            standing,
            owner,
            errands=errands_of(reactor, config.wake),
            spawn=spawn,
            group=self._group_of(config),
            starts=self._starts,
        )

    def _group_of(self, config: model.Upstream) -> Group:
        # Alone in its group it is not: what a new configuration makes of it, and what it was before, are two, and may want the same port.
        key = f"group {config.group}" if config.group else f"upstream {config.name}"
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group()
        return group
