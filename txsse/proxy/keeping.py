"""What becomes of an answer that a cache did not have: others may join it, and at its end it is judged and kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.dialects import DIALECTS
from txsse.metrics import Metrics
from txsse.proxy.answers import objection_to
from txsse.proxy.run import Run
from txsse.recordings.entry import Entry
from txsse.recordings.forms import uncommented
from txsse.recordings.heads import told_again
from txsse.recordings.lookup import CacheLookup, Question
from txsse.recordings.verdict import Verdict, judge
from txsse.wire.eventstream import is_event_stream
from txsse.wire.headers import get, tokens
from txsse.wire.http1 import ResponseHead
from txsse.wire.peek import at_once

if TYPE_CHECKING:
    from txsse.recordings.store import Quota, Store

T = TypeVar("T")

JUDGED_AT_ONCE: Final = 64 * 1024
"""Bytes of an answer that is looked through in one go before its readers hear of its end; a longer one is looked through in turns."""

_CREDENTIALS: Final = frozenset((b"authorization", b"cookie", b"x-api-key", b"api-key"))


class Keeping:
    """Of one proxy. Implements :class:`~txsse.proxy.run.RunWatcher`.

    :param wall: Unix time in seconds.
    :param space: the memory of all recordings together.
    :param lookup: is told of what is stored.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        cooperator: Cooperator,
        wall: Callable[[], float],
        space: Quota,
        lookup: CacheLookup | None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._cooperator = cooperator
        self._wall = wall
        self._space = space
        self._lookup = lookup
        self._runs: dict[bytes, list[Run]] = {}  # under way; the last to begin is joined
        self._questions: dict[Run, Question] = {}
        self._outdated: set[Run] = set()  # under way, but their answers are not to be kept
        self._settling: dict[bytes, list[Deferred[None]]] = {}  # being looked through: who waits for the verdict
        self._judging: dict[Run, Question] = {}  # over, and their answers are to be kept if the verdict is good

    # -- what is under way

    def began(self, run: Run, question: Question) -> None:
        """*run* asks upstream what *question* is; whoever asks it meanwhile may join."""
        self._runs.setdefault(question.key, []).append(run)
        self._questions[run] = question

    @property
    def flights(self) -> int:
        """How many can be joined."""
        return len(self._runs)

    def under_way(self, key: bytes) -> Run | None:
        """The last run that was begun for it, unless what it answers is for one client alone, or too much already."""
        runs = self._runs.get(key)
        return None if runs is None or _for_one(runs[-1]) or _too_long(runs[-1]) else runs[-1]

    def verdict(self, key: bytes) -> Deferred[None] | None:
        """Fires when an answer that is being looked through has been kept or not; ``None``: there is none."""
        waiting = self._settling.get(key)
        if waiting is None:
            return None
        verdict: Deferred[None] = Deferred()
        waiting.append(verdict)
        return verdict

    # -- what ends (RunWatcher)

    def run_complete(self, run: Run) -> None:
        """A clean end: keep it, if it may be kept."""
        question = self._questions.get(run)
        if question is not None and run not in self._outdated:
            try:
                self._consider(run, question)
            except Exception:
                self._log.failure("an answer was not stored")  # its readers are to hear of their stream's end all the same

    def _consider(self, run: Run, question: Question) -> None:
        head = run.head
        assert head is not None
        reason = objection_to(head) or _fault(run) or _varies(head, run.home.config.cache.scope)
        if reason:
            self._metrics.cache_refusals[reason] += 1
            return
        kind = get(head.headers, b"content-type")
        streamed = run.streamed or DIALECTS[question.dialect].is_stream(kind) or is_event_stream(kind)
        if question.streamed and question.digest.stream == b"true" and not streamed:  # in time it is relayed, later it is an error
            self._metrics.cache_refusals["not_streamed"] += 1
            return
        self._supersede(run, question.key)
        body, ends, times = run.recording.joined()
        run.let_go()
        if len(body) > run.home.config.cache.max_entry:  # what is kept to be come back to may be longer
            self._metrics.cache_refusals["too_large"] += 1
            return
        entry = Entry(
            question.key,
            question.route,
            question.dialect,
            streamed,
            told_again(head.headers),
            body,
            ends,
            times,
            self._wall() - _age_of(head),
            run.home.config.cache.ttl,
            *run.usage(),
        )
        steps = judge(question.dialect, streamed, body)
        if len(body) <= JUDGED_AT_ONCE:
            self._keep(entry, at_once(steps), question)
            return
        if not self._space.take(entry.size):
            self._metrics.cache_refusals["too_large"] += 1
            return
        self._settling.setdefault(question.key, [])
        self._judging[run] = question
        verdicts: list[Verdict] = []
        looking = self._cooperator.coiterate(_collect(steps, verdicts))
        looking.addBoth(self._give_back, entry.size)
        looking.addCallback(lambda _: self._keep(entry, verdicts[0], question) if run in self._judging else None)
        looking.addErrback(self._not_stored)
        looking.addCallback(lambda _: self._settled(run, question.key))

    def _supersede(self, run: Run, key: bytes) -> None:
        """What began before *run* and ends after it is not to replace its answer with an older one."""
        runs = self._runs[key]
        self._outdated.update(runs[: runs.index(run)])
        for each in self._judged(key):
            del self._judging[each]

    def _judged(self, key: bytes) -> list[Run]:
        """Runs for it whose answers are being looked through."""
        return [run for run, question in self._judging.items() if question.key == key]

    def _give_back(self, result: T, size: int) -> T:
        self._space.give(size)
        return result

    def _not_stored(self, failure: Failure) -> None:
        if not failure.check(SchedulerStopped):  # the proxy was closed
            self._log.failure("an answer was not stored", failure)

    def _settled(self, run: Run, key: bytes) -> None:
        self._judging.pop(run, None)
        if not self._judged(key):
            for waiting in self._settling.pop(key, ()):
                waiting.callback(None)

    def _keep(self, entry: Entry, verdict: Verdict, question: Question) -> None:
        if verdict.reason:
            self._metrics.cache_refusals[verdict.reason] += 1
            return
        if not verdict.plain:
            entry = uncommented(entry)
        if not self._store.put(entry, self._wall()):
            self._metrics.cache_refusals["too_large"] += 1
            return
        self._metrics.cache["store"] += 1
        if self._lookup is not None:
            try:
                self._lookup.stored(question)
            except Exception:
                self._log.failure("a cache look-up's `stored` failed")

    def run_over(self, run: Run) -> None:
        """The end, whatever it was."""
        question = self._questions.pop(run, None)
        self._outdated.discard(run)
        if question is not None:
            self._leave(run, question.key)

    def _leave(self, run: Run, key: bytes) -> None:
        runs = self._runs.get(key, [])
        if run in runs:
            runs.remove(run)
            if not runs:
                del self._runs[key]

    # -- what is not to be kept

    def outdate_route(self, route: str | None) -> None:
        """What is under way for a route, or for all of them, or is looked through, is neither joined nor kept any more."""
        for run, question in [*self._questions.items(), *self._judging.items()]:
            if route is None or question.route == route:
                self._outdate(run, question.key)

    def outdate(self, key: bytes) -> None:
        """The same for one key."""
        for run in [*self._runs.get(key, ()), *self._judged(key)]:
            self._outdate(run, key)

    def _outdate(self, run: Run, key: bytes) -> None:
        """Who reads it goes on; but nobody is told an answer to what was asked before a purge."""
        if self._judging.pop(run, None) is None:
            self._outdated.add(run)
            self._leave(run, key)


def _fault(run: Run) -> str:
    """Why what *run* has recorded is not kept, whatever it is."""
    if run.route.backend is not run.home.backend:
        return "fallback"
    if run.recording.torn:
        return "too_large"
    return "" if run.whole else "unfinished"


def _for_one(run: Run) -> bool:
    """Upstream has said that its answer is not for everybody, where others than those with the same credential would ask for it."""
    scope = run.home.config.cache.scope
    if run.head is None or scope == "credential":
        return False
    return objection_to(run.head) in ("no_store", "vary") or bool(_varies(run.head, scope))


def _too_long(run: Run) -> bool:
    return not run.resumable and run.recording.held > run.home.config.cache.max_entry


def _varies(head: ResponseHead, scope: str) -> str:
    """Upstream says that its answer depends on the credential, which is not in the key unless it is the scope."""
    return "vary" if scope != "credential" and not _CREDENTIALS.isdisjoint(tokens(head.headers, b"vary")) else ""


def _age_of(head: ResponseHead) -> int:
    """Seconds for which the answer has been in the caches behind us (RFC 9111 section 5.1)."""
    told = (get(head.headers, b"age") or b"").strip()
    return int(told) if told.isdigit() and len(told) < 10 else 0


def _collect(steps: Generator[None, None, Verdict], into: list[Verdict]) -> Generator[None, None, None]:
    into.append((yield from steps))
