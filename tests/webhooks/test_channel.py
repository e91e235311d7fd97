"""What is told of one prediction: in order, each state once, and not too often."""

from __future__ import annotations

import pytest

from tests.webhooks.rig import HTTP, Post
from txsse.webhooks import EVENTS, Channel, WebhookRefused, read_events
from txsse.webhooks.letter import Document


def doc(**members: object) -> Document:
    return lambda: {"id": "p", **members}


def opened(post: Post, *events: str) -> Channel:
    return post.sender.prediction(HTTP, list(events) if events else None, "prediction-1")


def test_every_event_is_a_post_of_the_document_in_the_order_of_the_calls() -> None:
    post = Post(interval=0)
    channel = opened(post)
    channel.started(doc(status="processing"))
    first = post.next()
    assert first.request.method == b"POST" and first.request.target == b"/x"
    assert first.header("content-type") == "application/json"
    assert first.document == {"id": "p", "status": "processing"}
    channel.output(doc(output=["a"]))
    assert post.quiet  # the first is not answered yet
    first.answer()
    assert first.cut
    second = post.next()
    assert second.document["output"] == ["a"]
    channel.completed(doc(status="succeeded"))
    second.answer("500 Internal Server Error")  # an update has one try
    last = post.next()
    assert last.document["status"] == "succeeded"
    last.answer()
    assert post.quiet and not post.net.getDelayedCalls()


def test_updates_are_half_a_second_apart_and_the_last_state_wins() -> None:
    post = Post()
    channel = opened(post)
    states: list[str] = []
    channel.output(lambda: {"output": [*states]})
    post.next().answer()
    for number in range(40):
        states.append(str(number))
        channel.output(lambda: {"output": [*states]})
        channel.logs(lambda: {"output": [*states]})
    post.net.wait(0.45)
    assert post.quiet
    states.append("later still")
    post.net.wait(0.1)
    delivery = post.next()
    assert delivery.document["output"][-1] == "later still" and len(delivery.document["output"]) == 41
    delivery.answer()
    post.net.wait(5)
    assert post.quiet


def test_the_start_counts_for_the_pace_too() -> None:
    post = Post()
    channel = opened(post)
    channel.started(doc())
    post.next().answer()
    channel.logs(doc(logs="a"))
    assert post.quiet
    post.net.wait(0.55)
    post.next().answer()


def test_the_end_takes_the_place_of_an_update_that_waits_and_comes_at_once() -> None:
    post = Post()
    channel = opened(post)
    channel.output(doc(output=["a"]))
    post.next().answer()
    channel.output(doc(output=["a", "b"]))
    channel.completed(doc(status="succeeded"))
    delivery = post.next()
    assert delivery.document["status"] == "succeeded"
    delivery.answer()
    channel.output(doc())
    channel.completed(doc())
    post.net.wait(2)
    assert post.quiet


def test_only_the_events_that_were_asked_for_are_sent() -> None:
    post = Post()
    channel = opened(post, "logs")
    channel.started(doc())
    channel.output(doc())
    assert post.quiet
    channel.logs(doc(logs="a"))
    post.next().answer()
    channel.logs(doc(logs="ab"))
    channel.completed(doc())
    post.net.wait(0.6)
    delivery = post.next()  # without an end to be told, the last update is not lost
    assert delivery.document["logs"] == "ab"
    delivery.answer()
    assert post.quiet


def test_start_and_end_tell_of_the_moment_they_were_called() -> None:
    post = Post()
    channel = opened(post)
    state = {"status": "processing"}
    channel.output(doc())
    channel.started(lambda: state)
    state["status"] = "succeeded"
    post.next().answer()
    delivery = post.next()
    assert delivery.document == {"status": "processing"}
    delivery.answer()


def test_a_document_that_is_too_long_says_that_it_is_cut() -> None:
    post = Post(max_body=300)
    channel = opened(post, "output", "completed")
    channel.completed(doc(status="succeeded", output=["x" * 400], logs="y", metrics={"predict_time": 1.5}))
    delivery = post.next()
    assert delivery.document == {"id": "p", "status": "succeeded", "metrics": {"predict_time": 1.5}, "truncated": True}
    delivery.answer()
    other = opened(post)
    other.completed(doc(status="failed", error="x" * 400))
    delivery = post.next()
    assert delivery.document == {"id": "p", "status": "failed", "truncated": True}
    delivery.answer()


def test_the_filter_of_events_is_read_as_cog_reads_it() -> None:
    assert read_events(None) == set(EVENTS) == {"start", "output", "logs", "completed"}
    assert read_events(["start", "completed", "start"]) == {"start", "completed"}
    assert read_events([]) == set()


@pytest.mark.parametrize("value", ["start", ["begin"], [1], {"start": True}, [None], [["start"]]])
def test_any_other_filter_is_refused(value: object) -> None:
    with pytest.raises(WebhookRefused, match="not a list of some of: start, output, logs, completed"):
        read_events(value)
