#!/usr/bin/env python3
"""What a group is told: its options, where it begins, and what changes while it lives."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main, wait_until
from operate import lane

DEFAULTS = {"mode": "shared", "priority": "normal", "lease_ms": "30000", "max_attempts": 20,
            "backoff_ms": [], "max_in_flight": 262144, "notice_ms": "0", "paused": False}
OTHERS = {"mode": "ordered", "priority": "high", "lease_ms": "5000", "max_attempts": 4,
          "backoff_ms": [100, 2000, 604800000], "max_in_flight": 1000, "notice_ms": "900",
          "paused": True, "filter": "region == \"cn\" && amount > 100"}


def definition(http, name="work"):
    return http.must(http.get(f"/v1/groups/{name}")).json


def options(http, name="work"):
    shown = definition(http, name)
    return {key: shown[key] for key in OTHERS if key in shown}


def update(http, name="work", **what):
    return http.must(http.call("PATCH", f"/v1/groups/{name}", what))


def first_of(http, group):
    """The first seq that comes, and the number of all that do."""
    _, messages, _ = http.pull(group, most=1000)
    return int(messages[0]["seq"]) if messages else None, len(messages)


# --- definitions ---

@case(short=True)
def each_option_is_kept(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    http.make_group("told", "orders", **OTHERS)
    check_equal(options(http), DEFAULTS, "the defaults")
    check_equal(options(http, "told"), OTHERS, "all others")
    changed = dict(DEFAULTS)
    for name, value in OTHERS.items():
        if name == "notice_ms":
            check_equal(int(changed["lease_ms"]), 5000, "the lease before the notice")
        update(http, **{name: value})
        changed[name] = value
        check_equal(options(http), changed, f"after {name}")
    for how in ("kill", "restart"):
        broker.kill() if how == "kill" else None
        broker.restart()
        http = broker.http()
        check_equal(options(http), OTHERS, f"after a {how}")
    shown = definition(http)
    check_equal((shown["topics"], shown["from"], shown["app"]), (["orders"], "earliest", "admin"),
                "what no change names")
    update(http, filter=None, backoff_ms=[], paused=False)
    check("filter" not in options(http), "the filter is there still")
    check_equal(options(http)["backoff_ms"], [], "the backoff")


@case(short=True)
def the_same_definition_once_more_is_told_apart(env):
    http = env.broker().http()
    http.make_group("work", "orders", mode="ordered", filter="has(a)")
    for more, says in (({"mode": "ordered", "filter": "has(a)"}, "the same"),
                       ({"mode": "ordered", "filter": "has(a)", "paused": True}, "the same"),
                       ({"mode": "ordered"}, "another"), ({"filter": "has(a)"}, "another")):
        answer = http.post("/v1/groups", {"name": "work", "topics": "orders", **more})
        check_equal(answer.code, 409, f"{more}: {answer}")
        check_in(says, answer.refused["text"], f"{more}")


@case(short=True)
def contradictions_are_refused_by_their_names(env):
    http = env.broker().http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    year = 366 * 24 * 3600 * 1000
    for wrong, limit, used, allowed in (
            ({"lease_ms": 0}, "lease_ms_min", 0, 100),
            ({"lease_ms": year}, "lease_ms", year, 43200000),
            ({"notice_ms": 30000}, "notice_ms", 30000, 29999),
            ({"lease_ms": 500, "notice_ms": "500"}, "notice_ms", 500, 499),
            ({"max_attempts": 1000001}, "max_attempts", 1000001, 1000000),
            ({"max_attempts": str(2 ** 63)}, "max_attempts", 2 ** 63, 1000000),
            ({"backoff_ms": [1000, 0]}, "backoff_ms", 0, 604800000),
            ({"backoff_ms": [604800001]}, "backoff_ms", 604800001, 604800000),
            ({"backoff_ms": [1] * 17}, "backoff_count", 17, 16),
            ({"backoff_ms": [1, 2], "max_attempts": 2}, "backoff_count", 2, 1),
            ({"max_in_flight": 0}, "max_in_flight", 0, 16777216),
            ({"max_in_flight": 16777217}, "max_in_flight", 16777217, 16777216),
            ({"filter": "region = \"cn\""}, "filter", 8, 0),
            ({"filter": "a in (" + "1," * 64 + "1)"}, "filter_terms", 65, 64),
            ({"filter": "(" * 33 + "has(a)" + ")" * 33}, "filter_depth", 33, 32),
            ({"filter": "a == \"" + "x" * 1024 + "\""}, "filter_len", 1031, 1024),
            ({"mode": "fifo"}, "mode", 0, 0), ({"priority": 3}, "priority", 0, 0)):
        for answer in (http.call("PATCH", "/v1/groups/work", wrong),
                       http.post("/v1/groups", {"name": "no", "topics": "orders", **wrong})):
            refused = answer.refused
            check_in(answer.code, (400, 413), f"{wrong}: {answer}")
            check_equal((refused["limit"], int(refused.get("used", 0)),
                         int(refused.get("allowed", 0))), (limit, used, allowed), f"{wrong}")
            check(len(refused["text"]) > 10, f"no reason in {answer}")
    check_equal(options(http), DEFAULTS, "after what was refused")
    check_equal(http.get("/v1/groups/no").code, 404, "the refused group")
    check_equal(http.call("PATCH", "/v1/groups/nope", {}).code, 404, "an update of nothing")


@case(short=True)
def only_its_owner_or_an_admin_changes_a_group(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    mine = broker.http(app="shop", secret=http.make_app("shop", subscribe=["orders"]))
    other = broker.http(app="else", secret=http.make_app("else", subscribe=["orders"]))
    mine.make_group("work", "orders")
    for call in (lambda who: who.call("PATCH", "/v1/groups/work", {"max_attempts": 3}),
                 lambda who: who.post("/v1/groups/work/pause"),
                 lambda who: who.post("/v1/groups/work/resume")):
        check_equal(call(other).refused["limit"], "owner", "somebody else")
        check_equal((call(mine).code, call(http).code), (200, 200), "the owner, and an admin")
    check_equal(definition(mine)["app"], "shop", "its owner is as before")


# --- where it begins ---

@case(short=True)
def a_group_begins_at_a_seq_or_a_time(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_topic("others")
    session = broker.session()
    session.publish("orders", ["x"] * 30)
    session.publish("others", ["x"] * 5)
    time.sleep(0.01)
    between_us = time.time_ns() // 1000
    session.publish("orders", ["x"] * 10)
    for name, topics, begin, want in (
            ("at-1", "orders", {"seq": "1"}, (1, 40)),
            ("at-31", "orders", {"seq": 31}, (31, 10)),
            ("at-next", "orders", {"seq": "41"}, (None, 0)),
            ("at-time", "orders", {"time_us": str(between_us)}, (31, 10)),
            ("of-both", "o*", {"time_us": between_us}, (31, 10)),
            ("of-old", "orders", {"time_us": "0"}, (1, 40)),
            ("of-now", "orders", {"time_us": str(time.time_ns() // 1000 + 5000000)}, (None, 0)),
            ("latest", "orders", "latest", (None, 0)), ("earliest", "orders", "earliest", (1, 40))):
        http.make_group(name, topics, **{"from": begin})
        check_equal(first_of(http, name), want, name)
        shown = definition(http, name)["from"]
        check_equal(shown, begin if isinstance(begin, str) else
                    {key: str(value) for key, value in begin.items()}, f"{name} as shown")
    ahead = str(time.time_ns() // 1000 + 3600 * 10 ** 6)
    for topics, begin in (("orders", {"seq": "42"}), ("orders", {"seq": "0"}), ("o*", {"seq": "1"}),
                          (["orders", "others"], {"seq": "1"}), ("nope", {"seq": "1"}),
                          ("orders", {"time_us": ahead}), ("orders", {"seq": "1", "time_us": "1"}),
                          ("orders", {}), ("orders", "now")):
        answer = http.post("/v1/groups", {"name": "no", "topics": topics, "from": begin})
        check_equal((answer.code, answer.refused["limit"]), (400, "from"), f"{topics} {begin}")
    broker.kill()
    broker.start()
    http = broker.http()
    session = broker.session()
    session.publish("orders", ["new"])
    for name, count in (("at-next", 1), ("latest", 1), ("of-now", 1)):
        check_equal(first_of(http, name), (41, count), f"{name} after a start")


@case(short=True, threads=True)
def topics_join_a_pattern_by_themselves(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("eu.paid")
    session.publish("eu.paid", ["old"] * 3)
    http.make_group("work", "eu.*", **{"from": "latest"})
    http.make_group("all", "*")
    session.attach("work")
    http.make_topic("eu.sent")
    http.make_topic("us.sent")
    for name in ("eu.sent", "us.sent", "eu.paid"):
        broker.session().publish(name, ["new"])
    got = sorted((d.topic, d.seq) for d in session.take(2))
    check_equal(got, [("eu.paid", 4), ("eu.sent", 1)], "what comes")
    check(session.none_comes(0.3), f"more: {session.deliveries}")
    check_equal(sorted(lane["topic"] for lane in definition(http, "all")["lanes"]),
                ["eu.paid", "eu.sent", "us.sent"], "the lanes of all")
    http.must(http.delete("/v1/topics/eu.sent"))
    wait_until(lambda: len(definition(http)["lanes"]) == 1, what="the lane to go")


# --- what they do ---

def order(body, **headers):
    return {"body": body, "headers": headers}


def take_all(http, group, settle="ack"):
    """Pull until nothing comes; the bodies, settled."""
    bodies = []
    while True:
        lease, messages, _ = http.pull(group, most=1000)
        if not messages:
            return bodies
        bodies += [m["body"] for m in messages]
        for topic in {m["topic"] for m in messages}:
            http.settle(group, lease, topic, settle,
                        seqs=[m["seq"] for m in messages if m["topic"] == topic])


@case(short=True)
def a_filter_takes_what_it_is_true_for(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("cn", "orders", filter="region == \"cn\" && amount > 100")
    http.make_group("keys", "orders", filter="key like \"k*\" || tag in ('vip', 'staff')")
    http.make_group("all", "orders")
    http.make_group("none", "orders", filter="has(nothing)")
    session.publish("orders", [
        order("a", region="cn", amount="100.01"), order("b", region="cn", amount="100.00"),
        order("c", region="eu", amount="1000"), order("d", region="cn", amount="1e9"),
        {"body": "e", "key": "k1"}, {"body": "f", "key": "x", "tag": "vip"}, {"body": "g"}])
    for name, want in (("cn", "a"), ("keys", "ef"), ("all", "abcdefg"), ("none", "")):
        check_equal("".join(take_all(http, name)), want, name)
        books = lane(http, name)
        check_equal((books["acked"], books["filtered"], books["ready"]),
                    (len(want), 7 - len(want), 0), f"books of {name}")
    for how in ("kill", "restart"):
        broker.kill() if how == "kill" else None
        broker.restart()
        http = broker.http()
        for name, want in (("cn", "a"), ("keys", "ef"), ("none", "")):
            check_equal(take_all(http, name), [], f"{name} after a {how}")
            books = lane(http, name)
            check_equal((books["acked"], books["filtered"]), (len(want), 7 - len(want)),
                        f"books of {name} after a {how}")


@case(short=True, threads=True)
def another_filter_is_for_what_comes(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders", filter="region == 'eu'")
    member = broker.session()
    member.attach("work")
    session.publish("orders", [order("a", region="eu"), order("b", region="us")])
    check_equal(member.next().body, b"a", "before")
    update(http, filter="region == 'us'")
    session.publish("orders", [order("c", region="eu"), order("d", region="us")])
    check_equal(member.next().body, b"d", "after")
    update(http, filter=None)
    session.publish("orders", [order("e", region="xx")])
    check_equal(member.next().body, b"e", "without one")
    check(member.none_comes(0.2), f"more: {member.deliveries}")
    check_equal(member.settle("orders", "nack", seqs=[1], delay_ms="10")[0][2], "accepted", "nack")
    check_equal(member.next().body, b"a", "what it had taken stays taken")
    wait_until(lambda: lane(http)["filtered"] == 2, what="the books")


@case(short=True, threads=True)
def a_paused_group_gives_nothing_out(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders")
    member = broker.session()
    member.attach("work")
    session.publish("orders", ["a"])
    check_equal(member.next().body, b"a", "before")
    http.must(http.post("/v1/groups/work/pause"))
    session.publish("orders", ["b"])
    check(member.none_comes(0.3), "a delivery of a paused group")
    check_equal(http.pull("work", wait=0)[1], [], "a pull of a paused group")
    check_equal(definition(http)["held_by"]["gate"], "paused", "held by")
    check_equal(member.ack("orders", 1)[0][2], "accepted", "an ack while it is paused")
    broker.kill()
    broker.start()
    http = broker.http()
    check_equal((definition(http)["paused"], definition(http)["held_by"]["gate"]),
                (True, "paused"), "after a start")
    member = broker.session()
    member.attach("work")
    check(member.none_comes(0.3), "a delivery of a paused group after a start")
    http.must(http.post("/v1/groups/work/resume"))
    check_equal(member.next().body, b"b", "resumed")
    check_equal(member.ack("orders", 2)[0][2], "accepted", "the ack")


@case(short=True, threads=True)
def another_lease_is_for_what_is_given_out_then(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms=600000, backoff_ms=[1])
    session.publish("orders", ["a", "b"])
    _, messages, _ = http.pull("work", most=1)
    check_equal(messages[0]["body"], "a", "the first")
    update(http, lease_ms="200")
    lease = http.must(http.post("/v1/groups/work/pull?max=1")).json
    check_equal((lease["lease_ms"], lease["messages"][0]["body"]), ("200", "b"), "the second")
    _, messages, _ = http.pull("work", wait=10)
    check_equal([(m["body"], m["attempt"]) for m in messages], [("b", 2)], "what comes again")
    check_equal(lane(http)["in_flight"], 2, "a has its old lease")


@case(short=True)
def attempts_and_backoff_are_the_groups(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders", max_attempts=3, backoff_ms=[20, 50])
    session.publish("orders", ["poison"])
    for attempt in (1, 2, 3):
        lease, messages, _ = http.pull("work", wait=10)
        check_equal(messages[0]["attempt"], attempt, "attempt")
        http.settle("work", lease, "orders", "nack", seqs=["1"], reason="no")
    check_equal(http.pull("work", wait=0.3)[1], [], "after the last attempt")
    books = lane(http)
    check_equal((books["dead"], books["ready"], books["delayed"]), (1, 0, 0), "books")
    update(http, max_attempts=0)
    session.publish("orders", ["again"])
    for attempt in range(1, 6):
        lease, messages, _ = http.pull("work", wait=10)
        check_equal((messages[0]["body"], messages[0]["attempt"]), ("again", attempt), "no end")
        http.settle("work", lease, "orders", "nack", seqs=["2"])
    broker.kill()
    broker.start()
    check_equal(lane(broker.http())["dead"], 1, "dead after a start")


@case(short=True)
def so_many_are_in_flight_at_most(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders", max_in_flight=3)
    session.publish("orders", ["x"] * 10)
    lease, messages, _ = http.pull("work", most=100)
    check_equal(len(messages), 3, "the first pull")
    check_equal(http.pull("work")[1], [], "the second")
    check_equal(definition(http)["held_by"]["gate"], "quota", "held by")
    http.settle("work", lease, "orders", seqs=["1"])
    check_equal(len(http.pull("work")[1]), 1, "after an ack")
    update(http, max_in_flight=5)
    check_equal(len(http.pull("work")[1]), 2, "with a larger bound")


@case(short=True, threads=True)
def an_ordered_group_keeps_each_key_in_order(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders", mode="ordered", backoff_ms=[50])
    session.publish("orders", [{"body": key + str(i), "key": key}
                               for i in range(3) for key in "ab"])
    seen = []
    failed = set()
    while len(seen) < 6:
        lease, messages, _ = http.pull("work", wait=10)
        check(messages, "nothing comes")
        keys = [m["key"] for m in messages]
        check_equal(len(keys), len(set(keys)), f"one of a key at a time: {messages}")
        for m in messages:
            done = m["body"] in failed or m["body"][0] == "b"
            failed.add(m["body"])
            http.settle("work", lease, "orders", "ack" if done else "nack", seqs=[m["seq"]])
            seen += [m["body"]] if done else []
    for key in "ab":
        check_equal([b for b in seen if b[0] == key], [key + str(i) for i in range(3)], "order")


@case(short=True, threads=True)
def an_exclusive_group_has_one_member_at_work(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders", mode="exclusive")
    first, second = broker.session(), broker.session()
    first.attach("work")
    second.attach("work")
    session.publish("orders", ["x"] * 20)
    check_equal([d.seq for d in first.take(20)], list(range(1, 21)), "the first member")
    check(second.none_comes(0.2), "the second stands by")
    first.ack("orders", *range(1, 11))
    first.close()
    check_equal(sorted(d.seq for d in second.take(10)), list(range(11, 21)), "the second takes over")


@case(short=True)
def a_filter_bomb_harms_nobody_else(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    names = "abcdefghijklmnopqrstuvwxyzABCDEF"
    bomb = "||".join(f"{names[i % 32]} like'*aab*'" for i in range(64))
    for i in range(8):
        http.make_group(f"bomb-{i}", "orders", filter=bomb)
    http.make_group("work", "orders")
    member = broker.session()
    member.attach("work", credit_bytes=64 << 20)
    heavy = {"body": "x", "headers": {name: "a" * 4096 for name in names}}
    for _ in range(10):
        session.publish("orders", [heavy] * 20)
    session.publish("orders", [order("last", a="aaaab")])
    check_equal([d.seq for d in member.take(201)], list(range(1, 202)), "the others' deliveries")
    for i in range(8):
        _, messages, _ = http.pull(f"bomb-{i}", wait=20)
        check_equal([m["body"] for m in messages], ["last"], "what the filter is true for")
        check_equal(lane(http, f"bomb-{i}")["filtered"], 200, "what it is not")


@case(short=True)
def what_holds_a_group_is_said(env):
    broker = env.broker()
    http = broker.http()
    session = broker.session()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session.publish("orders", ["x"] * 3)
    held = definition(http)["held_by"]
    check_equal(held["gate"], "no_subscriber", "without a member")
    check(len(held["releases"]) > 10, f"what releases it: {held}")
    member = broker.session()
    member.attach("work", credit_messages=1)
    member.next()
    check_equal(definition(http)["held_by"]["gate"], "no_credit", "without credit")
    shown = broker.godwit("group", "show", "work").stdout.decode()
    check_in("no_credit", shown, "group show")
    check_in("no_credit", broker.godwit("group", "list").stdout.decode(), "group list")
    member.attach("work", credit_messages=100)
    member.take(2)
    member.ack("orders", 1, 2, 3)
    check("held_by" not in definition(http), f"nothing holds it: {definition(http)}")


# --- the command line ---

@case(short=True)
def the_command_line_has_all_options(env):
    broker = env.broker()
    http = broker.http()
    broker.godwit("topic", "create", "orders")
    broker.godwit("group", "create", "work", "--topics", "orders")
    check_equal(options(http), DEFAULTS, "the defaults")
    broker.godwit("group", "update", "work", "--mode", "ordered", "--priority", "high",
                  "--lease", "5", "--notice", "0.9", "--max-attempts", "4",
                  "--backoff", "100ms,2,7d", "--max-in-flight", "1k",
                  "--filter", OTHERS["filter"])
    broker.godwit("group", "pause", "work")
    check_equal(options(http), OTHERS, "all others")
    shown = broker.godwit("group", "show", "work").stdout.decode()
    for line in ("ordered", "100 ms, 2 s, 7 d", OTHERS["filter"], "yes"):
        check_in(line, shown, "shown")
    check_in("ordered", broker.godwit("group", "list").stdout.decode(), "the list")
    broker.godwit("group", "resume", "work")
    broker.godwit("group", "update", "work", "--filter", "", "--backoff", "")
    left = dict(OTHERS, paused=False, backoff_ms=[])
    del left["filter"]
    check_equal(options(http), left, "without a filter and a backoff")
    broker.godwit("pub", "orders", stdin=b"a\nb\nc\n")
    broker.godwit("group", "create", "at", "--topics", "orders", "--from", "3", "--paused")
    check_equal((definition(http, "at")["from"], definition(http, "at")["paused"]),
                ({"seq": "3"}, True), "from a seq")
    broker.godwit("group", "create", "since", "--topics", "orders", "--from", "1h")
    check_equal(first_of(http, "since"), (1, 3), "from a time")


@case(short=True)
def the_command_line_shows_what_is_wrong(env):
    broker = env.broker()
    broker.godwit("topic", "create", "orders")
    broker.godwit("group", "create", "work", "--topics", "orders")
    wrong = "amount > 100 && region = 'cn'"
    for words in (("group", "create", "no", "--topics", "orders", "--filter", wrong),
                  ("group", "update", "work", "--filter", wrong),
                  ("search", "orders", "--filter", wrong),
                  ("tail", "orders", "--no-follow", "--filter", wrong)):
        lines = broker.godwit(*words, check_code=1).stderr.decode().splitlines()
        check_in("column 24", lines[0], "the sentence")
        check_equal(lines[1].strip(), wrong, "the expression")
        check_equal(lines[2].index("^") - lines[1].index("amount"), 23, "the place")
    for words, says in (
            (("update", "work"), "nothing to change"),
            (("update", "work", "--mode", "fifo"), "shared, ordered or exclusive"),
            (("update", "work", "--priority", "top"), "low, normal or high"),
            (("update", "work", "--backoff", "1,soon"), "soon"),
            (("update", "work", "--lease", "0"), "0.1 to 43200"),
            (("update", "work", "--max-in-flight", "0"), "1 to"),
            (("update", "work", "--topics", "x"), "topics"),
            (("create", "g", "--topics", "orders", "--from", "soon"), "--from soon: expected earliest"),
            (("create", "g", "--topics", "orders", "--from", "0"), "a seq (from 1)"),
            (("create", "g", "--topics", "orders", "--from", "2026-02-30"), "2026-02-30"),
            (("seek", "work", "--to", "0"), "a seq (from 1)"),
            (("seek", "work", "--to", "3"), "godwit group seek work TOPIC --to 3"),
            (("seek", "work"), "--to is missing"),
            (("pause",), "usage"), (("pause", "bad name"), "bad name")):
        check_in(says, broker.godwit("group", *words, check_code=2).stderr.decode(), f"{words}")
    said = broker.godwit("group", "update", "work", "--notice", "30", check_code=1).stderr.decode()
    check_in("30,000 used, 29,999 allowed", said, "a refusal of the broker")
    broker.godwit("group", "pause", "nope", check_code=5)


if __name__ == "__main__":
    main()
