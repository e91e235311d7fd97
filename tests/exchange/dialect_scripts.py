"""A cold start written out in every dialect, with and without visible text."""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.exchange.playbook import RELAY, Feed, FeedEnd, Playbook, Starts, Stops, Through, Wait
from tests.exchange.scripts import Script, held
from tests.exchange.spoken import SPOKEN, Spoken
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer

THINKING: Final = ("openai-chat", "anthropic", "ollama", "ollama generate")


def cold_start(spoken: Spoken, channel: str, *, message: bool) -> Playbook:
    """Held, committed, a keepalive, a heartbeat, ready, a keepalive, the answer, a gap in it, its end."""
    shown = message and spoken.texts is not None
    words = more = spoken.status
    if message and spoken.texts is not None:
        words, more = (text(channel, said) for text, said in zip(spoken.texts, ("Waking tiny", "."), strict=True))
    passed = (shown and spoken.after_message) or spoken.opening + spoken.event
    play = (
        held(dialect=spoken.dialect, message="Waking {model}" if message else "", channel=channel)
        >> Wait(1)
        >> ev.Elapsed(Timer.COMMIT)
        << act.Commit(words, "" if shown else "hold")
        << Starts(Timer.KEEPALIVE, 15)
        << Starts(Timer.HEARTBEAT, 45)
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(more, "hold")
        >> Wait(30)
        >> ev.Elapsed(Timer.HEARTBEAT)
    )
    if spoken.beat:
        play = play << act.Send(spoken.beat, "hold") << Starts(Timer.HEARTBEAT, 45)
    play = (
        play
        >> ev.UpstreamReady(cold=True)
        << Stops(Timer.HOLD)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(spoken.sign, "first_byte")
        >> ev.HeadCame(spoken.head, True)
        << act.OpenRelay(RELAY)
        >> Feed(spoken.opening + spoken.event)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.IDLE, 300)
        << Stops(Timer.HEARTBEAT)
    )
    if shown and spoken.separator(channel):
        play = play << act.Send(spoken.separator(channel))
    play = play << Through(passed) >> Wait(15) >> ev.Elapsed(Timer.KEEPALIVE) << act.Send(spoken.sign, "gap")
    if spoken.ending:
        play = (
            play
            >> Feed(spoken.ending)
            << Stops(Timer.KEEPALIVE)
            << Stops(Timer.IDLE)
            << Starts(Timer.TRAIL, 1)
            << Through(spoken.ending)
        )  # fmt: skip
    return play >> FeedEnd() << act.Finish() << act.Done("ok")


COLD_STARTS: Final[dict[str, Script]] = {
    **{f"cold start, {name}": partial(cold_start, each, "content", message=False) for name, each in SPOKEN.items()},
    **{f"cold start with a message, {name}": partial(cold_start, each, "content", message=True) for name, each in SPOKEN.items()},
    **{f"cold start with a thought, {name}": partial(cold_start, SPOKEN[name], "reasoning", message=True) for name in THINKING},
}
