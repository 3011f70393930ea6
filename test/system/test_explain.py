#!/usr/bin/env python3
"""Why a message is where it is: each gate that can be made from outside."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from blocks import find_body
from harness import case, check, check_equal, check_in, main, wait_until
from operate import (check_gate, explain, gate, kill_messages, now_us, pull_one, redrive,
                     redrive_end, seek)

MINUTE_US = 60 * 1000 * 1000


def with_orders(env, count=3, config=None, **group):
    broker = env.broker(config=config)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", **dict({"lease_ms": 60000}, **group))
    for i in range(1, count + 1):
        http.must(http.publish("orders", f"body {i}", key=f"k{i}"))
    return broker, http


def near(value, want, what, slack_us=10 * 1000 * 1000):
    check(abs(int(value) - want) < slack_us, f"{what}: have {value}, want about {want}")


@case(short=True, threads=True)
def a_message_on_its_way(env):
    _, http = with_orders(env)
    told = check_gate(http, "work", "orders", 1, "no_subscriber")
    check_equal((told["attempts"], told["history"]), (0, []), "nothing happened yet")
    check_in("member", told["releases"], "what releases it")
    lease = pull_one(http, "work", "orders", 1)
    told = check_gate(http, "work", "orders", 1, "leased")
    check_equal(told["holder"], lease, "holder")
    near(told["until_us"], now_us() + MINUTE_US, "end of the lease")
    http.settle("work", lease, "orders", "ack", seqs=["1"])
    check_gate(http, "work", "orders", 1, "acked")
    lease = pull_one(http, "work", "orders", 2)
    http.settle("work", lease, "orders", "nack", seqs=["2"], delay_ms=60000, reason="no stock")
    told = check_gate(http, "work", "orders", 2, "backoff")
    near(told["until_us"], now_us() + MINUTE_US, "end of the delay")
    check_equal(told["attempts"], 1, "attempts")
    failure, = told["history"]
    near(failure.pop("time_us"), now_us(), "time of the failure")
    check_equal(failure, {"attempt": 1, "cause": "nack", "reason": "no stock", "holder": lease},
                "history")
    kill_messages(http, "work", "orders", [3], "bad order")
    told = check_gate(http, "work", "orders", 3, "dead")
    check_equal(told["attempts"], 1, "attempts")
    near(told["since_us"], now_us(), "its death")
    check_equal([(f["cause"], f["reason"], f.get("dead")) for f in told["history"]],
                [("reject", "bad order", True)], "history")
    check_in("redrive", told["releases"], "what releases it")


@case(short=True)
def before_its_time_and_after(env):
    broker, http = with_orders(env, 0, filter='region == "cn"')
    header = {"Godwit-Header-Region": "cn"}
    http.must(http.publish("orders", "later", headers={"Godwit-Delay-Ms": "60000", **header}))
    http.must(http.publish("orders", "gone", headers={"Godwit-Ttl-Ms": "1", **header}))
    http.must(http.publish("orders", "not for us", headers={"Godwit-Header-Region": "de"}))
    time.sleep(0.05)
    session = broker.session()
    session.attach("work")
    told = check_gate(http, "work", "orders", 1, "not_due")
    near(told["until_us"], now_us() + MINUTE_US, "its time")
    check_gate(http, "work", "orders", 2, "expired")
    check_gate(http, "work", "orders", 3, "filtered")
    check(session.none_comes(0.2), "none of them is delivered")


@case(short=True, threads=True)
def what_holds_a_whole_group(env):
    broker, http = with_orders(env, 4, max_in_flight=2)
    http.must(http.post("/v1/groups/work/pause"))
    session = broker.session()
    session.attach("work", credit_messages=1)
    told = check_gate(http, "work", "orders", 1, "paused")
    near(told["since_us"], now_us(), "since")
    http.must(http.post("/v1/groups/work/resume"))
    check_equal(session.next().seq, 1, "first")
    check_gate(http, "work", "orders", 2, "no_credit")
    pull_one(http, "work", "orders", 2)
    session.attach("work", credit_messages=10)
    check(session.none_comes(0.2), "two are in flight: no more")
    check_gate(http, "work", "orders", 3, "quota")
    session.ack("orders", 1)
    check_equal(session.next().seq, 3, "now there is room")


@case(short=True)
def when_nearly_all_fails(env):
    """The breaker: all waits, but for a trial now and then."""
    broker, http = with_orders(env, 0, max_attempts=1000)
    session = broker.session()
    session.publish("orders", [f"body {i}" for i in range(100)])
    session.close()
    session = broker.session()
    session.attach("work", credit_messages=500)

    def fail_all():
        while not session.none_comes(0.05):
            seqs = {session.next().seq}
            seqs |= {session.deliveries.popleft().seq for _ in range(len(session.deliveries))}
            session.settle("orders", "nack", seqs=sorted(seqs), delay_ms=1)
            shown = [explain(http, "work", "orders", seq) for seq in (1, 50, 100)]
            told = [one for one in shown if one["gate"] == "breaker"]
            if told:
                return told[0]
        return None
    told = wait_until(fail_all, what="the breaker")
    check_in("breaker", told["releases"], "what releases it")
    check(int(told["attempts"]) > 0, "it failed before")
    held = http.get("/v1/groups/work").json["held_by"]
    check_equal(held["gate"], "breaker", "the group")


@case(short=True)
def one_key_at_a_time(env):
    broker, http = with_orders(env, 0, mode="ordered")
    for body in ("first", "second"):
        http.must(http.publish("orders", body, key="same"))
    http.must(http.publish("orders", "other", key="another"))
    session = broker.session()
    session.attach("work")
    check_equal(sorted(session.next().seq for _ in range(2)), [1, 3], "one of each key")
    told = check_gate(http, "work", "orders", 2, "key_busy")
    check_equal(told["key_held_by_seq"], "1", "who has the key")
    session.ack("orders", 1)
    check_equal(session.next().seq, 2, "then")


@case(short=True)
def what_never_comes(env):
    _, http = with_orders(env, 1)
    http.must(http.post("/v1/topics", {"name": "short", "keep": "limit", "keep_count_max": "2"}))
    http.make_group("both", ["orders", "short"])
    for i in range(6):
        http.must(http.publish("short", f"body {i}"))
    wait_until(lambda: http.get("/v1/topics/short").json["first_seq"] == "5", what="the limit")
    check_gate(http, "both", "short", 1, "deleted")
    check_equal(gate(http, "work", "short", 5), "not_taken", "another topic")
    http.make_group("late", "orders", **{"from": "latest"})
    check_equal(gate(http, "late", "orders", 1), "not_taken", "before it began")


@case()
def what_is_lost(env):
    broker = env.broker(config={"store": {"scrub_mib_s": 0}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    for i in range(3):
        http.must(http.publish("orders", f"<<unique body {i}>>" + "x" * 200))
    broker.stop()
    path, offset = find_body(broker.data_dir, b"<<unique body 1>>")
    with open(path, "r+b") as file:
        file.seek(offset + 40)
        file.write(b"Y")
    broker.start()
    http = broker.http()
    lease, messages, gaps = http.pull("work", wait=5)
    check_equal(([m["seq"] for m in messages], len(gaps)), (["1", "3"], 1), "pulled")
    check_gate(http, "work", "orders", 2, "gap")
    check_equal(http.get("/v1/topics/orders/messages/2").json,
                {"topic": "orders", "seq": "2", "gap": True}, "peek")
    shown = http.get("/v1/topics/orders/messages").json
    check_equal([m["seq"] for m in shown["messages"]], ["1", "3"], "search")
    check_equal(shown["gaps"], [{"topic": "orders", "first": "2", "last": "2"}], "search")
    lines = broker.godwit("tail", "orders", "--no-follow").stdout.decode().splitlines()
    check_in("lost: damaged", lines[1], "tail")
    check_in("is lost", broker.godwit("peek", "orders", "2", check_code=5).stderr.decode(), "peek")
    http.settle("work", lease, "orders", "ack", seqs=["1", "3"])


@case(short=True)
def wrong_questions(env):
    broker, http = with_orders(env, 1)
    other = broker.http(app="other", secret=http.make_app("other", subscribe=["orders"]))
    for who, path, code, text in (
            (http, "work/messages/nope/1", 404, "nope"),
            (http, "nope/messages/orders/1", 404, "nope"),
            (http, "work/messages/orders/0", 400, "from 1"),
            (http, "work/messages/orders/x", 400, "from 1"),
            (other, "work/messages/orders/1", 403, "another app")):
        refused = who.must(who.get(f"/v1/groups/{path}"), code).refused
        check_in(text, refused["text"], path)
    check_equal(http.get("/v1/groups/work/messages/orders/1", auth=False).code, 401, "nobody")
    for seq in (2, 2 ** 64 - 1):
        check_equal(gate(http, "work", "orders", seq), "not_durable", "a message to come")


@case(short=True)
def reasons_survive_a_restart(env):
    """Also kill -9, with the groups on both workers."""
    broker = env.broker(config={"workers": 2})
    http = broker.http()
    http.make_topic("orders")
    groups = [f"group-{i}" for i in range(4)]
    for group in groups:
        http.make_group(group, "orders", lease_ms=60000)
    http.must(http.publish("orders", "body"))
    for group in groups:
        for attempt in range(1, 4):
            lease = pull_one(http, group, "orders", 1)
            http.settle(group, lease, "orders", "nack", seqs=["1"], delay_ms=1,
                        reason=f"{group} attempt {attempt}")
    for end in (broker.restart, lambda: (broker.kill(), broker.start())):
        http.close()
        end()
        http = broker.http()
        for group in groups:
            told = explain(http, group, "orders", 1)
            check_equal(told["attempts"], 3, f"{group}: attempts")
            check_equal([f.get("reason") for f in told["history"]],
                        [f"{group} attempt {a}" for a in (1, 2, 3)], f"{group}: reasons")
    text = broker.godwit("explain", "orders", "1").stdout.decode()
    for group in groups:
        check_in(group, text, "explain of all groups")
        check_in(f"{group} attempt 2", text, "explain of all groups")


@case()
def what_expired_after_a_seek_is_not_called_acked(env):
    """The keydir knows the lane as it was before the seek."""
    broker = env.broker(config={"store": {"checkpoint_ms": 2000}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    http.must(http.publish("orders", "soon over", headers={"Godwit-Ttl-Ms": "5000"}))
    over = time.monotonic() + 5.1
    http.must(http.publish("orders", "stays"))
    http.settle("work", http.pull("work", 2)[0], "orders", "ack", seqs=["1", "2"])
    time.sleep(over - 0.8 - time.monotonic())  # a checkpoint has them; the next one is far
    seek(http, "work", topic="orders", to="earliest")
    time.sleep(over - time.monotonic())
    lease = pull_one(http, "work", "orders", 2)
    http.settle("work", lease, "orders", "ack", seqs=["2"])
    told = explain(http, "work", "orders", 1)
    check(told["gate"] == "expired" or "expired" in told.get("may_be", []), f"seq 1: {told}")
    wait_until(lambda: gate(http, "work", "orders", 1) == "expired", 10, "it is known")


@case(short=True)
def the_command_explains(env):
    broker, http = with_orders(env, 2)
    http.make_group("audit", "ord*")
    http.make_group("other", "bills")
    lease = pull_one(http, "work", "orders", 1)
    http.settle("work", lease, "orders", "reject", seqs=["1"], reason="bad \x1b[31morder")
    text = broker.godwit("explain", "orders", "1").stdout.decode()
    for part in ("message 1 of orders", "key k1", "work", "dead", "a redrive", "audit",
                 "no_subscriber", "reject", "bad \\x1b[31morder"):
        check_in(part, text, "explain")
    check("other" not in text, "a group that does not take it is left out")
    done = broker.godwit("explain", "orders", "2", "--group", "audit", "--json")
    check_equal(json.loads(done.stdout)["gate"], "no_subscriber", "as JSON")
    check_in("not_durable", broker.godwit("explain", "orders", "9").stdout.decode(), "to come")
    broker.godwit("explain", "nope", "1", check_code=5)
    broker.godwit("explain", "orders", "1", "--group", "nope", check_code=5)
    broker.godwit("explain", "orders", "one", check_code=2)
    kill_messages(http, "work", "orders", [2], "bad order")
    redrive(http, "work", topic="orders", seqs=["1"])
    redrive_end(http, "work")
    http.settle("work", pull_one(http, "work", "orders", 1), "orders", "ack", seqs=["1"])
    http.must(http.post("/v1/groups/work/discard", {"topic": "orders", "seqs": ["2"]}), 200)
    check_equal(explain(http, "work", "orders", 1)["may_be"], ["acked", "deleted"], "one of two")
    text = broker.godwit("explain", "orders", "1", "--group", "work").stdout.decode()
    check_in("settled: acked or deleted", text, "what may be")
    check_in("how many messages were acked", text, "why it is not known")
    http.make_topic("lonely")
    done = broker.godwit("explain", "lonely", "1")
    check_in("no group", done.stderr.decode() + done.stdout.decode(), "nobody takes it")


main()
