#!/usr/bin/env python3
"""A group begins anew somewhere else."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main, wait_until
from operate import dead_seqs, explain, kill_messages, lane, seek


def with_orders(env, count=6, config=None, **group):
    broker = env.broker(config=config)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", **group)
    for i in range(1, count + 1):
        http.must(http.publish("orders", f"body {i}"))
    return broker, http


def ack_all(http, group="work"):
    """What comes at once, acked; the seqs."""
    lease, messages, _ = http.pull(group, 1000, 1)
    for topic in {m["topic"] for m in messages}:
        http.settle(group, lease, topic, "ack",
                    seqs=[m["seq"] for m in messages if m["topic"] == topic])
    return [int(m["seq"]) for m in messages]


@case(short=True, threads=True)
def back_and_forth(env):
    _, http = with_orders(env)
    check_equal(ack_all(http), [1, 2, 3, 4, 5, 6], "at first")
    check_equal(seek(http, "work", topic="orders", seq="3"), {"orders": 3}, "back")
    check_equal(ack_all(http), [3, 4, 5, 6], "again")
    check_equal(seek(http, "work", topic="orders", to="earliest"), {"orders": 1}, "earliest")
    check_equal(seek(http, "work", topic="orders", seq="5"), {"orders": 5}, "forth")
    check_equal(ack_all(http), [5, 6], "those before are done")
    check_equal(seek(http, "work", to="earliest"), {"orders": 1}, "earliest, of all topics")
    check_equal(seek(http, "work", to="latest"), {"orders": 7}, "latest")
    check_equal(ack_all(http), [], "nothing waits")
    http.must(http.publish("orders", "news"))
    check_equal(ack_all(http), [7], "what comes then")
    books = lane(http, "work")
    check_equal((books["ready"], books["in_flight"]), (0, 0), "books")


@case(short=True)
def by_time(env):
    _, http = with_orders(env)
    ack_all(http)
    shown = http.get("/v1/topics/orders/messages").json["messages"]
    times = {int(m["seq"]): int(m["time_us"]) for m in shown}
    check_equal(seek(http, "work", topic="orders", time_us=times[4]), {"orders": 4}, "at a time")
    check_equal(ack_all(http), [4, 5, 6], "from there on")
    check_equal(seek(http, "work", time_us=times[2] + 1), {"orders": 3}, "just behind")
    check_equal(seek(http, "work", time_us=1), {"orders": 1}, "before all")
    check_equal(seek(http, "work", time_us=times[6] + 10 ** 12), {"orders": 7}, "behind all")


@case(short=True)
def not_everywhere(env):
    broker, http = with_orders(env, 4)
    other = broker.http(app="other", secret=http.make_app("other", subscribe=["orders"]))
    for who, code, where, text in (
            (http, 400, {"topic": "orders", "to": {"seq": "6"}}, "5"),
            (http, 400, {"topic": "orders", "to": {"seq": str(2 ** 64 - 1)}}, "ends at 4"),
            (http, 404, {"topic": "nope", "to": {"seq": "1"}}, "nope"),
            (http, 400, {"to": {"seq": "1"}}, "topic"), (http, 400, {}, "time_us"),
            (http, 400, {"to": "middle"}, "earliest"),
            (other, 403, {"to": "earliest"}, "another app")):
        refused = who.must(who.post("/v1/groups/work/seek", where), code).refused
        check_in(text, refused["text"], where)
    check_equal(http.post("/v1/groups/nope/seek", {"to": "latest"}).code, 404, "no group")
    http.make_topic("bills")
    check(http.post("/v1/groups/work/seek", {"topic": "bills", "to": "latest"}).code in (400, 404),
          "a topic that the group does not take")
    check_equal(seek(http, "work", topic="orders", seq="5"), {"orders": 5}, "the end + 1")
    check_equal(seek(http, "work", topic="orders", seq="0"), {"orders": 1}, "before the beginning")


@case(short=True)
def before_what_is_kept(env):
    """It begins at the first one there is, and says so."""
    broker = env.broker()
    http = broker.http()
    http.must(http.post("/v1/topics", {"name": "short", "keep": "limit", "keep_count_max": "3"}))
    http.make_group("work", "short")
    for i in range(9):
        http.must(http.publish("short", f"body {i}"))
    wait_until(lambda: http.get("/v1/topics/short").json["first_seq"] == "7", what="the limit")
    check_equal(seek(http, "work", topic="short", seq="2"), {"short": 7}, "by seq")
    check_equal(seek(http, "work", time_us=1), {"short": 7}, "by time")
    check_equal(ack_all(http), [7, 8, 9], "what comes")


@case(short=True)
def seeks_survive(env):
    """A restart and kill -9, on both workers."""
    broker = env.broker(config={"workers": 2})
    http = broker.http()
    http.make_topic("orders")
    groups = [f"group-{i}" for i in range(4)]
    for group in groups:
        http.make_group(group, "orders")
    for i in range(6):
        http.must(http.publish("orders", f"body {i}"))
    for number, group in enumerate(groups):
        ack_all(http, group)
        check_equal(seek(http, group, topic="orders", seq=str(3 + number)), {"orders": 3 + number},
                    group)
    http.close()
    broker.kill()
    broker.start()
    http = broker.http()
    for number, group in enumerate(groups):
        check_equal(ack_all(http, group), list(range(3 + number, 7)), group)
        seek(http, group, to="earliest")
    http.close()
    broker.restart()
    http = broker.http()
    for group in groups:
        check_equal(ack_all(http, group), [1, 2, 3, 4, 5, 6], group)


@case(short=True, threads=True)
def what_is_in_flight_and_what_is_dead(env):
    broker, http = with_orders(env, 5, lease_ms=60000)
    kill_messages(http, "work", "orders", [1])
    lease, messages, _ = http.pull("work", 2, 5)
    check_equal([m["seq"] for m in messages], ["2", "3"], "in flight")
    check_equal(seek(http, "work", topic="orders", seq="4"), {"orders": 4}, "behind them")
    outcomes = http.settle("work", lease, "orders", "ack", seqs=["2", "3"])
    check(all(r["outcome"] in ("accepted", "late", "unknown") for r in outcomes), outcomes)
    check_equal(dead_seqs(http, "work"), [1], "what is dead below stays dead")
    check_equal(ack_all(http), [4, 5], "then")
    check_equal(seek(http, "work", topic="orders", seq="1"), {"orders": 1}, "to the dead one")
    check_equal(dead_seqs(http, "work"), [], "from there on all is fresh")
    check_equal(explain(http, "work", "orders", 1)["attempts"], 0, "no attempts")
    check_equal(ack_all(http), [1, 2, 3, 4, 5], "all of them")


@case(short=True)
def the_command_seeks(env):
    broker, http = with_orders(env)
    ack_all(http)
    for words, begins in ((("orders", "--to", "4"), 4), (("--to", "earliest"), 1),
                          (("--to", "latest"), 7), (("--to", "1h"), 1), (("--to", "now"), 7)):
        text = broker.godwit("group", "seek", "work", *words).stdout.decode().split()
        check_equal(text[-2:], ["orders", str(begins)], words)
    for code, *words in ((2, "work", "--to", "4"), (2, "work", "--to", "soon"), (2, "work"),
                         (2, "work", "orders", "--to", "0"), (5, "nope", "--to", "latest"),
                         (1, "work", "orders", "--to", "99")):
        check_in("godwit: ", broker.godwit("group", "seek", *words,
                                           check_code=code).stderr.decode(), words)


main()
