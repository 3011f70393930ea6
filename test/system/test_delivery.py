#!/usr/bin/env python3
"""Leases, outcomes, redelivery, credit: what a subscriber may rely on."""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Failed, case, check, check_equal, main, wait_until
from session import RefusedReply


def with_orders(env, count=10, lease_ms=30000, **config):
    """A broker with a topic, a group `work` on it and `count` messages."""
    broker = env.broker(**config)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms=lease_ms)
    session = broker.session()
    if count:
        session.publish("orders", [f"body {i}" for i in range(1, count + 1)])
    return broker, session


def refusal_of(call):
    try:
        call()
    except RefusedReply as refused:
        return refused
    raise Failed("was not refused")


@case(short=True, threads=True)
def messages_come_in_order_with_all_their_parts(env):
    broker, session = with_orders(env, 0)
    odd = bytes(range(256))
    session.publish("orders", [
        {"key": "k1", "headers": {"a": "1", "ü": "ö"}, "body": "text ☃"},
        {"key": "", "body": ""},
        odd,
    ])
    reader = broker.session()
    attached = reader.attach("work")
    check_equal(int(attached["lease_ms"]), 30000, "lease_ms")
    check(int(attached["lease"]) > 0, "no lease number")
    one, two, three = reader.take(3)
    check_equal((one.seq, one.attempt, one.key, one.headers, one.body),
                (1, 1, "k1", {"a": "1", "ü": "ö"}, "text ☃".encode()), "first")
    check_equal((two.seq, two.key, two.body), (2, "", b""), "second")
    check_equal((three.seq, three.body), (3, odd), "third")
    check(abs(one.time_us / 1e6 - time.time()) < 60, f"time {one.time_us}")


@case(short=True, threads=True)
def ack_is_accepted_once_and_stays(env):
    broker, session = with_orders(env)
    session.attach("work")
    session.take(10)
    check_equal([r[:3] for r in session.settle("orders", "ack", ranges=[(1, 5)])],
                [(1, 5, "accepted")], "first ack")
    outcomes = session.settle("orders", "ack", ranges=[(1, 5)])
    check(all(r[2] in ("accepted", "late") for r in outcomes), f"second ack: {outcomes}")
    session.close()
    reader = broker.session()
    reader.attach("work")
    check_equal([d.seq for d in reader.take(5)], [6, 7, 8, 9, 10], "what is left")
    check(reader.none_comes(0.3), "an acked message came again")


@case()
def settling_what_was_never_delivered_is_unknown(env):
    _, session = with_orders(env, 3)
    session.attach("work", credit_messages=2)
    session.take(2)
    check_equal([r[:3] for r in session.settle("orders", "ack", seqs=[3])], [(3, 3, "unknown")],
                "not delivered yet")
    outcomes = session.settle("orders", "ack", ranges=[(1, 1000)])
    check_equal(sorted((r[0], r[1]) for r in outcomes)[0][0], 1, "first of the ranges")
    check_equal(max(r[1] for r in outcomes), 1000, "last of the ranges")
    by_outcome = {}
    for first, last, outcome, _ in outcomes:
        by_outcome[outcome] = by_outcome.get(outcome, 0) + last - first + 1
    check_equal(by_outcome.get("accepted"), 2, f"accepted in {outcomes}")
    check_equal(by_outcome.get("unknown"), 998, f"unknown in {outcomes}")


@case(short=True, threads=True)
def a_lease_that_ends_gives_the_message_to_another(env):
    broker, slow = with_orders(env, 1, lease_ms=300)
    other = broker.session()
    slow.attach("work")
    got = slow.next()
    lease = int(other.attach("work")["lease"])
    again = other.next(20)  # perhaps the slow one had it once more before
    check_equal((again.seq, again.body), (got.seq, got.body), "redelivery")
    check(again.attempt >= 2, f"attempt {again.attempt}")
    late = slow.ack("orders", got.seq)
    check_equal(late, [(1, 1, "late", lease)], "the slow one's ack, with the holder")
    check_equal([r[2] for r in other.ack("orders", again.seq)], ["accepted"], "the holder's ack")
    check_equal(slow.ping()["type"], "pong", "the slow one's connection")


@case()
def an_ack_after_the_lease_counts_while_nobody_else_holds(env):
    _, session = with_orders(env, 1, lease_ms=300)
    session.attach("work", credit_messages=1)
    session.next()
    again = session.next(5)
    check_equal((again.seq, again.attempt), (1, 2), "redelivery to the only member")
    check_equal([r[2] for r in session.ack("orders", 1)], ["accepted"], "ack")


@case()
def extend_keeps_the_lease(env):
    broker, session = with_orders(env, 1, lease_ms=400)
    other = broker.session()
    session.attach("work")
    session.next()
    other.attach("work")
    for _ in range(4):
        check_equal([r[2] for r in session.settle("orders", "extend", seqs=[1], delay_ms="800")],
                    ["accepted"], "extend")
        check(other.none_comes(0.3), "redelivered in spite of extend")
    check(other.next(20).attempt >= 2, "attempt after the last extension")


@case(short=True, threads=True)
def release_comes_back_at_once_and_uncounted(env):
    broker, session = with_orders(env, 1)
    session.attach("work")
    check_equal(session.next().attempt, 1, "attempt")
    check_equal([r[2] for r in session.settle("orders", "release", seqs=[1])], ["accepted"],
                "release")
    check_equal(session.next(5).attempt, 1, "attempt after a release")


@case(short=True)
def nack_counts_and_waits_its_delay(env):
    _, session = with_orders(env, 1)
    session.attach("work")
    session.next()
    began = time.monotonic()
    check_equal([r[2] for r in session.settle("orders", "nack", seqs=[1], delay_ms="700",
                                              reason="try later")], ["accepted"], "nack")
    again = session.next(10)
    check(time.monotonic() - began >= 0.65, "came before its delay was over")
    check_equal(again.attempt, 2, "attempt")


@case()
def nack_without_delay_backs_off(env):
    _, session = with_orders(env, 1)
    session.attach("work")
    session.next()
    began = time.monotonic()
    session.settle("orders", "nack", seqs=[1])
    again = session.next(20)
    check(time.monotonic() - began >= 0.45, "no backoff")
    check_equal(again.attempt, 2, "attempt")


@case(short=True, threads=True)
def a_lost_connection_gives_back_what_it_held(env):
    broker, session = with_orders(env, 20)
    session.attach("work")
    session.take(20)
    session.settle("orders", "ack", ranges=[(1, 5)])
    session.abort()
    reader = broker.session()
    reader.attach("work")
    check_equal(sorted(d.seq for d in reader.take(15, 10)), list(range(6, 21)), "given back")


@case()
def detach_gives_back_too(env):
    broker, session = with_orders(env, 5)
    session.attach("work")
    session.take(5)
    session.detach()
    reader = broker.session()
    reader.attach("work")
    again = [(d.seq, d.attempt) for d in reader.take(5, 10)]
    check_equal(sorted(again), [(seq, 1) for seq in range(1, 6)], "given back, not counted")


@case(short=True, threads=True)
def attempts_delays_and_acks_survive_kill_9(env):
    broker, session = with_orders(env, 6)
    session.attach("work")
    session.take(6)
    session.settle("orders", "nack", seqs=[1], delay_ms="1")
    check_equal((lambda d: (d.seq, d.attempt))(session.next(10)), (1, 2), "before the kill")
    delay = 8 if env.sanitized else 2  # longer than the restart
    due = time.monotonic() + delay
    session.settle("orders", "nack", seqs=[1, 2], delay_ms=str(delay * 1000))
    session.settle("orders", "ack", seqs=[3, 5])
    broker.kill()
    broker.start()
    reader = broker.session()
    reader.attach("work")
    first = {d.seq: d.attempt for d in reader.take(2, 10)}
    check_equal(sorted(first), [4, 6], "what is not acked and not delayed")
    later = {d.seq: d.attempt for d in reader.take(2, 20)}
    check_equal(later, {1: 3, 2: 2}, "attempts of the delayed ones")
    check(time.monotonic() >= due - 0.05, "came before they were due")
    check(reader.none_comes(0.3), "something more came")


@case(short=True, threads=True)
def credit_in_messages_bounds_what_is_unsettled(env):
    _, session = with_orders(env, 10)
    session.attach("work", credit_messages=3)
    session.take(3)
    check(session.none_comes(0.4), "more than the credit came")
    session.ack("orders", 2)
    check_equal(session.next().seq, 4, "one more for one settled")
    check(session.none_comes(0.3), "more than one came")


@case()
def credit_in_bytes_bounds_what_is_unsettled(env):
    broker, session = with_orders(env, 0)
    session.publish("orders", ["x" * 1000] * 10)
    session.attach("work", credit_messages=100, credit_bytes=3500)
    got = len(session.take(3))
    while not session.none_comes(0.3):
        got += 1
        session.next()
    check(3 <= got <= 4, f"{got} messages of 1,000 bytes for a credit of 3,500")


@case()
def a_message_larger_than_the_credit_still_comes(env):
    _, session = with_orders(env, 0)
    session.publish("orders", ["x" * 5000, "y"])
    session.attach("work", credit_messages=10, credit_bytes=1000)
    check_equal(session.next(5).seq, 1, "the large one")
    session.ack("orders", 1)
    check_equal(session.next(5).seq, 2, "the next")


@case()
def a_pattern_takes_topics_made_later(env):
    broker = env.broker()
    http = broker.http()
    http.make_group("trades", "trade.*")
    session = broker.session()
    session.attach("trades")
    http.make_topic("trade.fx")
    http.make_topic("other")
    session.publish("trade.fx", ["a"])
    session.publish("other", ["b"])
    got = session.next(5)
    check_equal((got.topic, got.body), ("trade.fx", b"a"), "delivery")
    check(session.none_comes(0.3), "a topic that does not match came")


@case()
def from_latest_skips_what_was_there(env):
    broker, session = with_orders(env, 5)
    http = broker.http()
    http.must(http.post("/v1/groups", {"name": "late", "topics": ["orders"], "from": "latest"}))
    session.publish("orders", ["new"])
    session.attach("late")
    check_equal((lambda d: (d.seq, d.body))(session.next(5)), (6, b"new"), "first for latest")
    broker.restart()
    session = broker.session()
    session.attach("late")
    check_equal(session.next(5).seq, 6, "after a restart")
    check(session.none_comes(0.2), "an old one came after the restart")


@case()
def two_groups_do_not_see_each_other(env):
    broker, session = with_orders(env, 3)
    broker.http().make_group("second", "orders")
    session.attach("work")
    session.take(3)
    session.settle("orders", "ack", ranges=[(1, 3)])
    other = broker.session()
    other.attach("second")
    check_equal([d.seq for d in other.take(3)], [1, 2, 3], "the second group's")


@case()
def a_deleted_group_detaches_its_members(env):
    broker, session = with_orders(env, 1)
    session.attach("work")
    session.next()
    http = broker.http()
    http.must(http.delete("/v1/groups/work"))
    reply = session.receive()
    check_equal(reply["type"], "detached", "reply")
    check_equal(refusal_of(lambda: session.attach("work")).reply["status"], "not_found",
                "attach to a deleted group")


@case()
def a_deleted_topic_is_unknown_to_publishers(env):
    broker, session = with_orders(env, 1)
    http = broker.http()
    http.must(http.delete("/v1/topics/orders"))
    check_equal(refusal_of(lambda: session.publish("orders", ["x"])).status, "not_found", "status")
    http.make_topic("orders")
    check_equal(session.publish("orders", ["y"])[0].seq, 1, "seq in the new topic")


@case()
def a_hundred_thousand_waiting_messages_come_in_order(env):
    broker, session = with_orders(env, 0)
    count = env.size(100000)
    pending = []
    for at in range(0, count, 1000):
        pending.append(session.publish_start("orders", [f"m{at + i}" for i in range(1000)]))
        if len(pending) > 5:
            session.publish_end(pending.pop(0), 1000)
    for first in pending:
        session.publish_end(first, 1000)
    reader = broker.session()
    reader.attach("work", credit_messages=5000)
    expected = 1
    while expected <= count:
        got = [reader.next()]
        while reader.deliveries:
            got.append(reader.next())
        for delivery in got:
            check_equal(delivery.seq, expected, "seq")
            expected += 1
        reader.settle("orders", "ack", ranges=[(got[0].seq, got[-1].seq)])
    lane = broker.http().get("/v1/groups/work").json["lanes"][0]
    check_equal(int(lane["acked"]), count, "acked")


@case(short=True, threads=True)
def who_hung_up_during_a_long_poll_gets_nothing(env):
    broker, _ = with_orders(env, 0, config={"workers": 1})
    http = broker.http()
    with socket.create_connection((broker.host, broker.port), timeout=10) as gone:
        gone.sendall(b"POST /v1/groups/work/pull?wait=10 HTTP/1.1\r\nHost: x\r\n"
                     b"Authorization: " + http.bearer.encode() + b"\r\n\r\n")
        wait_until(lambda: int(http.get("/v1/groups/work").json["members"]) == 1, what="the pull")
        gone.shutdown(socket.SHUT_WR)
        # The broker has seen it when the next request is answered.
        http.get("/health")
        http.publish("orders", "for whoever listens")
        _, messages, _ = http.pull("work", wait=5)
        check_equal(len(messages), 1, "messages for the one who listens")
        check_equal(int(messages[0]["attempt"]), 1, "attempt")


@case()
def requests_out_of_turn_are_refused(env):
    broker, session = with_orders(env, 1)
    check_equal(refusal_of(lambda: session.ack("orders", 1)).status in
                ("invalid", "closed", "not_found"), True, "settle without attach")
    check_equal(refusal_of(lambda: session.attach("nobody")).status, "not_found", "attach")
    session.attach("work", credit_messages=1)
    session.attach("work", credit_messages=5)  # only changes the credit
    broker.http().make_group("other", "orders")
    refused = refusal_of(lambda: session.attach("other"))
    check(refused.text, f"attach to a second group: {refused.reply}")
    for credit in (0, 65537):
        refused = refusal_of(lambda: session.attach("work", credit_messages=credit))
        check_equal(refused.limit, "credit_messages", f"limit for {credit}")
    check_equal(session.ping()["type"], "pong", "still alive")


main()
