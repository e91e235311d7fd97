"""Delivering: tries, turns, bounds, whom it connects to, and the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from zope.interface import implementer

from tests.webhooks.rig import EPOCH, HTTP, Post
from txsse.config.errors import Refused
from txsse.config.model import Webhooks
from txsse.config.secret import Secret
from txsse.config.webhooks import signing_keys
from txsse.webhooks import Channel, WebhookRefused
from txsse.webhooks.letter import Document, head_fields

KEY = "whsec_" + "A" * 32


def doc(**members: object) -> Document:
    return lambda: {"id": "p", **members}


def ended(post: Post, url: str = HTTP, ident: str = "prediction-1") -> Channel:
    """A prediction that is over at once."""
    channel = post.sender.prediction(url, ["completed"], ident)
    channel.completed(doc(status="succeeded"))
    return channel


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "webhooks" in event.get("log_namespace", ""):
            found.append(f"{event['log_level'].name} {eventAsText(event, includeTimestamp=False, includeSystem=False)}")

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


# -- tries


def test_the_end_is_told_again_with_growing_pauses_until_it_is_taken() -> None:
    post = Post()
    ended(post)
    pauses = []
    for status in ("500 X", "503 X", "429 X", "502 X", "504 X"):
        post.next().answer(status)
        began = post.net.seconds()
        while post.quiet:
            post.net.wait(0.05)
        pauses.append(post.net.seconds() - began)
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8], abs=0.6)
    assert all(pause >= least for pause, least in zip(pauses, (0.49, 0.99, 1.99, 3.99, 7.99), strict=True))
    post.next().answer("204 No Content")
    post.net.wait(100)
    assert post.quiet


def test_each_try_has_the_same_id_and_a_time_and_signature_of_its_own() -> None:
    post = Post(secret=Secret(KEY))
    ended(post)
    first = post.next()
    first.answer("500 X")
    post.net.wait(5)
    second = post.next()
    for delivery, seconds in ((first, EPOCH), (second, int(EPOCH + 0.5))):
        id = delivery.header("webhook-id")
        assert id == first.header("webhook-id")
        fields = dict(head_fields(id, seconds, bytes(delivery.request.body), signing_keys(KEY)))
        assert delivery.header("webhook-timestamp") == str(seconds)
        assert delivery.header("webhook-signature") == fields["Webhook-Signature"]
    second.answer()


def test_a_webhook_without_a_secret_is_not_signed() -> None:
    post = Post()
    ended(post)
    delivery = post.next()
    assert delivery.header("webhook-id") and delivery.request.header("webhook-signature") is None
    delivery.answer()


def test_failures_of_the_connection_are_tried_again() -> None:
    post = Post()
    ended(post)
    post.net.refuse()
    post.taken += 1
    post.net.wait(0.6)
    post.next().close()
    post.net.wait(1.2)
    post.next().send(b"220 mail.example ESMTP\r\n\r\n")
    post.net.wait(2.2)
    hanging = post.next()
    post.net.wait(15)
    assert hanging.cut
    post.net.wait(4.5)
    post.net.names["hooks.test"] = [[], ["203.0.114.5"]]
    post.next().close()
    post.net.wait(9)
    assert post.quiet  # the name was not found
    post.net.wait(17)
    post.next().answer()


def test_after_so_many_tries_it_is_given_up_and_said(lines: list[str]) -> None:
    post = Post(max_attempts=3)
    ended(post, HTTP + "?token=s3cret")
    for _ in range(3):
        post.next().answer("500 X")
        post.net.wait(3)
    assert post.quiet
    assert lines == ["warn webhook completed of prediction predicti… to http://hooks.test is lost after 3 tries: HTTP 500"]


@pytest.mark.parametrize("status", ["301 Moved", "307 Temporary Redirect", "400 Bad Request", "404 Not Found", "410 Gone"])
def test_other_answers_are_final_and_a_redirect_is_one(status: str, lines: list[str]) -> None:
    post = Post()
    ended(post)
    post.next().answer(status, "Location: http://hooks.test/elsewhere")
    post.net.wait(100)
    assert post.quiet
    assert lines[0].endswith(f"is lost after 1 tries: HTTP {status[:3]}")


@pytest.mark.parametrize(("field", "least", "most"), [("30", 30, 32), ("86400", 600, 602), ("soon", 0.5, 0.6)])
def test_a_server_that_asks_for_time_gets_it(field: str, least: float, most: float) -> None:
    post = Post()
    ended(post)
    post.next().answer("429 Too Many Requests", f"Retry-After: {field}")
    post.net.wait(least - 0.1)
    assert post.quiet
    post.net.wait(most - least + 0.1)
    post.next().answer()


def test_an_answer_whose_body_does_not_end_counts_by_its_head() -> None:
    post = Post()
    ended(post)
    delivery = post.next()
    delivery.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    assert not delivery.cut
    post.net.wait(1.1)
    assert delivery.cut
    post.net.wait(100)
    assert post.quiet


def test_a_body_without_end_is_not_read_for_ever() -> None:
    post = Post()
    ended(post)
    delivery = post.next()
    delivery.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65536)
    assert delivery.cut


# -- whom it connects to


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.1.1", "169.254.169.254", "::1", "fe80::1", "::ffff:192.168.0.1"])
def test_a_name_that_only_a_wildcard_covers_may_not_lead_inside(address: str, lines: list[str]) -> None:
    post = Post(allow=("http://*/",))
    post.net.names["hooks.test"] = [[address]]
    ended(post)
    post.net.wait(100)
    assert post.net.dialled == []
    assert lines[0].endswith("is lost after 1 tries: its host has no address that is allowed")


def test_a_name_that_is_listed_may_lead_inside_but_not_to_the_metadata() -> None:
    post = Post(allow=("http://hooks.test/",))
    post.net.names["hooks.test"] = [["10.1.1.1"], ["169.254.169.254"]]
    ended(post)
    post.next().answer()
    ended(post)
    assert post.net.dialled == [("10.1.1.1", 80)]


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to() -> None:
    post = Post(allow=("http://*/",))
    post.net.names["hooks.test"] = [["203.0.114.5"], ["127.0.0.1"]]  # another answer to whoever asks twice
    ended(post)
    delivery = post.next()
    assert post.net.dialled == [("203.0.114.5", 80)] and post.net.look_ups == ["hooks.test"]
    assert delivery.header("host") == "hooks.test"
    delivery.answer("500 X")
    post.net.wait(100)
    assert post.quiet  # the second try asked again, and did not like the answer


def test_of_several_addresses_those_that_are_allowed_are_tried_in_turn() -> None:
    post = Post(allow=("http://*/",))
    post.net.names["hooks.test"] = [["127.0.0.1", "203.0.114.5", "10.0.0.1", "2600::5"]]
    ended(post)
    post.net.refuse()
    assert post.net.dialled == [("203.0.114.5", 80), ("2600::5", 80)]
    post.taken += 1
    post.next().answer()


def test_an_address_needs_no_look_up() -> None:
    post = Post(allow=("http://127.0.0.1:9000/",))
    ended(post, "http://127.0.0.1:9000/x?y")
    delivery = post.next()
    assert post.net.look_ups == [] and post.net.dialled == [("127.0.0.1", 9000)]
    assert delivery.request.target == b"/x?y" and delivery.header("host") == "127.0.0.1:9000"
    delivery.answer()


def test_a_resolver_that_never_answers_costs_one_try() -> None:
    post = Post()
    post.net.silent = True
    ended(post)
    post.net.wait(15.1)
    post.net.silent = False
    for receiver in post.net.unanswered:
        receiver.resolutionComplete()  # nobody waits for it any more
    post.net.wait(0.6)
    post.next().answer()


# -- what is refused at once


def test_what_may_not_be_is_refused_before_there_is_a_prediction() -> None:
    post = Post()
    post.sender.check(HTTP)
    for url in ("http://other.test/", 5, None):
        with pytest.raises(WebhookRefused):
            post.sender.check(url)
    with pytest.raises(WebhookRefused):
        post.sender.prediction(HTTP, ["everything"], "p")


def test_a_new_configuration_holds_for_new_channels_and_a_bad_one_changes_nothing() -> None:
    post = Post()
    channel = post.sender.prediction(HTTP, None, "p")
    with pytest.raises(Refused):
        post.sender.configure(Webhooks(allow=("http://a.test/",), secret=Secret("s3cret")))
    post.sender.check(HTTP)
    post.sender.configure(Webhooks(allow=("http://a.test/",), secret=Secret(KEY)))
    with pytest.raises(WebhookRefused):
        post.sender.check(HTTP)
    channel.completed(doc())
    delivery = post.next()
    assert delivery.header("webhook-signature").startswith("v1,")
    delivery.answer()


# -- turns and bounds


def test_so_many_are_under_way_and_half_of_them_to_one_server() -> None:
    post = Post(max_concurrency=4, allow=("http://*/",))
    post.net.names["other.test"] = [["203.0.114.9"]]
    for _ in range(5):
        ended(post)
    assert len(post.net.dialled) == 2
    for _ in range(5):
        ended(post, "http://other.test/")
    assert [host for host, _ in post.net.dialled] == ["203.0.114.5"] * 2 + ["203.0.114.9"] * 2
    while not post.quiet:
        post.next().answer()
    assert len(post.net.dialled) == 10


def test_a_pause_between_tries_takes_nobodys_turn() -> None:
    post = Post(max_concurrency=1)
    ended(post)
    ended(post)
    post.next().answer("503 X", "Retry-After: 60")
    post.next().answer()
    post.net.wait(62)
    post.next().answer()


def test_what_waits_is_bounded_and_what_is_dropped_is_said(lines: list[str]) -> None:
    post = Post(max_concurrency=1, max_queued=5000)
    for _ in range(10):
        ended(post)
    assert len(lines) == 6 and lines[0].endswith("is lost after 0 tries: too many are waiting")
    delivered = 0
    while not post.quiet:
        post.next().answer()
        delivered += 1
    assert delivered == 4
    ended(post)
    post.next().answer()


def test_an_update_is_made_when_its_turn_has_come() -> None:
    post = Post(max_concurrency=1)
    ended(post)
    output = ["a"]
    channel = post.sender.prediction(HTTP, None, "p")
    channel.output(lambda: {"output": output})
    output.append("b")
    post.next().answer()
    delivery = post.next()
    assert delivery.document == {"output": ["a", "b"]}
    delivery.answer()


def test_a_document_that_cannot_be_sent_is_told_and_stops_nothing(expected_errors: Any) -> None:
    post = Post()
    channel = post.sender.prediction(HTTP, None, "p")
    channel.output(lambda: {"output": object()})
    assert len(expected_errors.flush(TypeError)) == 1
    with pytest.raises(TypeError):
        channel.started(lambda: {"input": object()})
    channel.completed(doc())
    post.next().answer()


# -- the end


def closing(post: Post, deadline: float = 5) -> list[None]:
    over: list[None] = []
    closed: Deferred[None] = post.sender.close(deadline)
    closed.addCallback(over.append)
    return over


def test_nothing_to_send_is_closed_at_once() -> None:
    post = Post()
    assert closing(post)
    ended(post)
    assert post.quiet


def test_at_the_end_the_last_news_is_waited_for_and_updates_are_not() -> None:
    post = Post()
    busy = post.sender.prediction(HTTP, None, "p")
    busy.output(doc())
    update = post.next()
    waiting = post.sender.prediction(HTTP, None, "q")
    waiting.output(doc())
    post.next().answer()
    waiting.output(doc())
    over = closing(post)
    assert update.cut and over
    post.net.wait(1)
    assert post.quiet


def test_what_comes_in_while_closing_is_sent_if_it_tells_of_an_end() -> None:
    post = Post()
    ended(post)
    channel = post.sender.prediction(HTTP, None, "p")
    channel.started(doc(status="processing"))
    slow, start = post.next(), post.next()
    over = closing(post)
    assert start.cut  # nobody waits for it, and what follows must not wait for it either
    channel.output(doc())
    channel.completed(doc(status="canceled"))
    last = post.next()
    assert last.document["status"] == "canceled"
    last.answer()
    assert not over
    slow.answer()
    assert over and post.quiet


def test_what_has_waited_for_its_turn_in_vain_is_not_sent_while_closing() -> None:
    post = Post(max_concurrency=1)
    ended(post)
    channel = post.sender.prediction(HTTP, None, "p")
    channel.started(doc())
    over = closing(post)
    post.next().answer()
    assert over and post.quiet


def test_what_waits_for_another_try_is_tried_at_once_and_more_often() -> None:
    post = Post()
    ended(post)
    post.next().answer("503 X", "Retry-After: 300")
    post.net.wait(1)
    over = closing(post)
    post.next().answer("503 X", "Retry-After: 300")
    post.net.wait(1.1)
    post.next().answer()
    assert over


def test_after_the_deadline_it_is_dropped_and_said(lines: list[str]) -> None:
    post = Post(max_concurrency=2)
    ended(post)
    ended(post)
    hanging = post.next()
    over = closing(post, 3)
    post.net.wait(2.9)
    assert not over and not hanging.cut
    post.net.wait(0.2)
    assert over and hanging.cut
    post.net.wait(100)
    assert post.quiet
    assert [line.rpartition(": ")[2] for line in lines] == ["there was no more time"] * 2
