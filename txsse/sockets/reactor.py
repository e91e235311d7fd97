"""Twisted's epoll reactor, with a shorter way to what our descriptors read: ``twistd --reactor=txsse``.

Twisted makes a log context for each read and each write, so that what a protocol logs names its transport, and looks twice whether the
descriptor is still there. That is some 2 us, of the 13 that a relayed event costs in all. Errors are logged with their context here too.
"""

from __future__ import annotations

from twisted.internet.epollreactor import EPOLLIN, EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log

from txsse.sockets.descriptor import Descriptor


class DescriptorReactor(EPollReactor):
    """An epoll(7) reactor that calls a :class:`~txsse.sockets.descriptor.Descriptor` directly when it can be read and nothing else.
    All else goes Twisted's way.

    Private: ``_poller`` and ``_selectables`` of EPollReactor, which its own ``doPoll`` is made of, with ``_doReadOrWrite`` and
    ``_disconnectSelectable``.
    """

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events and handle them.

        :param timeout: seconds; ``None`` = until there are some.
        """
        selectables = self._selectables
        for number, event in self._poller.poll(timeout, len(selectables)):
            selectable = selectables.get(number)
            if event == EPOLLIN and isinstance(selectable, Descriptor):
                why: BaseException | None
                try:
                    why = selectable.doRead()
                except BaseException as error:  # all of them, as Twisted does: it is the end of this connection only
                    log.callWithLogger(selectable, log.err)
                    why = error
                if why is not None:
                    self._disconnectSelectable(selectable, why, True)
            elif selectable is not None:  # else the handler of an earlier event has removed it
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, number, event)

    doIteration = doPoll


def install() -> None:
    """Make it the reactor of this process; called by ``twistd --reactor=txsse``."""
    installReactor(DescriptorReactor())
