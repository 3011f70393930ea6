#!/usr/bin/env python3
"""Settle requests that name far more than their session was given: each takes its share
of a turn and goes on in the next, in order, and is answered as if it had been small."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check_equal, main, wait_until
from operate import lane

MANY = 40000  # in flight: more than one session's settle requests look at in two turns
ASKED = 20


def continued(http):
    text = http.get("/metrics").body.decode()
    found = re.search(r"^godwit_settles_continued_total(?:{[^}]*})? (\d+)$", text, re.M)
    return int(found.group(1))


def publish_many(broker, count):
    publisher = broker.session()
    for begin in range(0, count, 10000):
        publisher.publish("orders", ["x"] * min(10000, count - begin), timeout=60)


def settle_all(session, action):
    """Without waiting for the answer."""
    request = session.next_id()
    session.send({"type": "settle", "id": str(request), "topic": "orders", "action": action,
                  "ranges": [{"first": "1", "last": "9000000000"}]})
    return request


def outcomes(reply):
    return [(int(r["first"]), int(r["last"]), r["outcome"]) for r in reply["ranges"]]


@case(timeout=120)
def a_request_for_all_that_others_have_takes_several_turns(env):
    broker = env.broker(config={"workers": 1})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms="600000")
    publish_many(broker, MANY)
    holder = broker.session()
    holder.attach("work", credit_messages=MANY, credit_bytes=1 << 26)
    wait_until(lambda: lane(http)["in_flight"] == MANY, 30, "all in flight")
    other = broker.session()
    other.attach("work", credit_messages=1)
    asked = [settle_all(other, "extend") for _ in range(ASKED)]
    ping = other.next_id()
    other.send({"type": "ping", "id": str(ping)})
    order = []
    while len(order) < ASKED + 1:
        reply = other.receive()
        order.append(int(reply["id"]))
        if reply["type"] != "pong":
            check_equal(outcomes(reply), [(1, MANY, "late"), (MANY + 1, 9000000000, "unknown")],
                        "outcomes")
    check_equal(order[:-1] if order[-1] == ping else [i for i in order if i != ping], asked,
                "the order of the answers")
    check_equal(continued(http), ASKED, "requests that took several turns")
    done = holder.reply_to(settle_all(holder, "ack"))
    check_equal(outcomes(done), [(1, MANY, "accepted"), (MANY + 1, 9000000000, "unknown")],
                "outcomes of the holder")
    check_equal(lane(http)["acked"], MANY, "acked")
    check_equal(continued(http), ASKED + 1, "with the holder's")


@case(timeout=120)
def who_goes_in_the_middle_of_one_leaves_the_rest(env):
    broker = env.broker(config={"workers": 1})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms="600000")
    publish_many(broker, MANY)
    holder = broker.session()
    holder.attach("work", credit_messages=MANY, credit_bytes=1 << 26)
    wait_until(lambda: lane(http)["in_flight"] == MANY, 30, "all in flight")
    for _ in range(ASKED):
        settle_all(holder, "extend")
    wait_until(lambda: continued(http) > 0, 20, "the first one going on")
    http.must(http.delete("/v1/groups/work"))
    holder.reply_to(holder.ids, timeout=30)
    holder.close()
    http.must(http.get("/health"), 200)


def reject_every_other(session, count):
    for begin in range(1, count, 2000):
        session.request({"type": "settle", "topic": "orders", "action": "reject",
                         "ranges": [{"first": str(i), "last": str(i)}
                                    for i in range(begin, begin + 2000, 2)]}, "settled")


@case(timeout=120)
def a_discard_in_thousands_of_pieces_is_answered_when_all_is_durable(env):
    broker = env.broker(config={"workers": 1})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms="600000")
    publish_many(broker, MANY)
    holder = broker.session()
    holder.attach("work", credit_messages=MANY, credit_bytes=1 << 26)
    wait_until(lambda: lane(http)["in_flight"] == MANY, 30, "all in flight")
    reject_every_other(holder, MANY)
    check_equal(lane(http)["dead"], MANY // 2, "dead")
    answer = http.must(http.post("/v1/groups/work/discard", {"topic": "orders"}), 200)
    check_equal(int(answer.json["discarded"]), MANY // 2, "discarded")
    broker.kill()
    broker.start()
    books = lane(broker.http())
    check_equal((books["dead"], books["deleted"]), (0, MANY // 2), "dead and deleted")


main()
