#!/usr/bin/env python3
"""What nobody should ask of a group or of a message: each is refused by its name or has a
defined outcome, and moves nobody else."""
import os
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Skip, case, check, check_equal, check_in, main, wait_until
from operate import lane
from session import RefusedReply

YEAR_S = 366 * 24 * 3600
CLOCK_SOURCE = os.path.join(os.path.dirname(__file__), "../lib/move_clock.c")


class Bystander:
    """A group on the same worker that must not notice anything."""

    def __init__(self, broker):
        self.http = broker.http()
        self.http.make_topic("calm")
        self.http.make_group("calm", "calm", lease_ms=600000)
        self.session = broker.session()
        self.session.attach("calm", credit_messages=1000)
        self.producer = broker.session()
        self.count = 0

    def check(self, after):
        """The next messages come once, in order, and count as acked."""
        bodies = [f"calm {self.count + i}" for i in range(10)]
        self.producer.publish("calm", bodies)
        got = self.session.take(10)
        check_equal([(d.seq, d.attempt, d.body.decode()) for d in got],
                    [(self.count + 1 + i, 1, body) for i, body in enumerate(bodies)],
                    f"the bystander's messages after {after}")
        outcomes = self.session.ack("calm", *[d.seq for d in got])
        check_equal([o[2] for o in outcomes], ["accepted"], f"its acks after {after}")
        self.count += 10
        lane, = self.http.must(self.http.get("/v1/groups/calm")).json["lanes"]
        check_equal((int(lane["published"]), int(lane["acked"])), (self.count, self.count),
                    f"its books after {after}")


def with_bystander(env, **config):
    broker = env.broker(config={"workers": 1, **config})
    http = broker.http()
    http.make_topic("orders")
    return broker, http, Bystander(broker)


def refused(answer, limit, what, code=None):
    check(400 <= answer.code < 500, f"{what}: {answer}")
    check(code is None or answer.code == code, f"{what}: {answer}")
    check_equal(answer.refused["limit"], limit, f"{what}: the limit in {answer}")
    check(len(answer.refused["text"]) > 10, f"{what}: no word why in {answer}")
    return answer.refused


# --- filters and patterns ---

@case(short=True)
def filter_bombs(env):
    _, http, bystander = with_bystander(env)
    for name, text, limit in (
            ("parentheses", "(" * 500 + "has(a)" + ")" * 500, "filter_depth"),
            ("negations", "!" * 1000 + "has(a)", "filter_depth"),
            ("long", "a == 1 || " * 5000 + "a == 1", "filter_len"),
            ("many terms", " || ".join(["a == 1"] * 65), "filter_terms"),
            ("a long list", "a in (" + ", ".join(["1"] * 65) + ")", "filter_terms"),
            ("no end", 'a == "' + "\\\\" * 400, "filter"),
            ("only an operator", "&&", "filter"),
            ("a huge number", "a > 1" + "0" * 900, "filter"),
            ("not a number", "a > 1e99999", "filter"),
            ("control characters", "a == \"\u0001\u001b\" \u0002", "filter"),
            ("empty name", '"" == 1', "filter")):
        answer = http.post("/v1/groups", {"name": "bomb", "topics": ["orders"], "filter": text})
        if answer.code == 201:  # a way to write something that is well formed
            http.must(http.delete("/v1/groups/bomb"))
        else:
            refused(answer, limit, name)
        bystander.check(name)


@case(short=True)
def a_filter_as_heavy_as_may_be_on_messages_as_heavy_as_may_be(env):
    broker, http, bystander = with_bystander(env)
    terms = " || ".join(f'h{i % 32} == "x"' for i in range(60))
    http.make_group("work", "orders", filter=terms)
    session = broker.session()
    headers = {f"h{i}": "a" * 4096 for i in range(31)}
    for _ in range(env.size(10)):
        session.publish("orders", [{"body": "b", "headers": headers}] * 10)
        bystander.check("heavy messages")
    session.publish("orders", [{"body": "c", "headers": {"h3": "x"}}])
    _, messages, _ = http.pull("work", 10, 20)
    check_equal([m["body"] for m in messages], ["c"], "what passes")
    wait_until(lambda: lane(http)["filtered"] == env.size(10) * 10, 20, "the filtered")


@case(short=True)
def patterns_that_match_everything_or_take_long(env):
    _, http, bystander = with_bystander(env)
    long = "a" * 127
    http.make_topic(long + "b")
    for i in range(20):
        http.make_topic(f"t-{i}")
    http.make_group("all", ["*"])
    http.make_group("slow", ["*a" * 63 + "*", "a*" * 63 + "c"])
    check_equal(len(http.get("/v1/groups/all").json["lanes"]), 23, "lanes of the one that takes all")
    check_equal([lane["topic"] for lane in http.get("/v1/groups/slow").json["lanes"]], [long + "b"],
                "lanes of the slow one")
    bystander.check("patterns")
    refused(http.post("/v1/groups", {"name": "many", "topics": [f"x{i}*" for i in range(33)]}),
            "group_patterns", "33 patterns")
    refused(http.post("/v1/groups", {"name": "long", "topics": ["*" * 129]}), "pattern_len",
            "a pattern of 129")
    refused(http.post("/v1/groups", {"name": "bad", "topics": ["a b"]}), "pattern",
            "a pattern with a blank")
    bystander.check("more patterns")


# --- definitions ---

@case(short=True)
def leases_that_cannot_be(env):
    _, http, bystander = with_bystander(env)
    http.make_group("work", "orders")
    for wrong, limit in ((0, "lease_ms_min"), (99, "lease_ms_min"), (43200001, "lease_ms"),
                         (YEAR_S * 1000, "lease_ms"), (str(2 ** 64 - 1), "lease_ms")):
        refused(http.post("/v1/groups", {"name": "no", "topics": ["orders"], "lease_ms": wrong}),
                limit, f"a lease of {wrong}")
        refused(http.call("PATCH", "/v1/groups/work", {"lease_ms": wrong}), limit, f"{wrong} later")
    for wrong in (-1, 1.5, "x", 2 ** 64, None, True, [1]):
        answer = http.post("/v1/groups", {"name": "no", "topics": ["orders"], "lease_ms": wrong})
        check_equal(answer.code, 400, f"a lease of {wrong!r}: {answer}")
    bystander.check("leases")


@case(short=True, threads=True)
def changes_while_messages_are_out_move_nobody(env):
    broker, http, bystander = with_bystander(env)
    http.make_group("work", "orders", lease_ms=600000)
    session = broker.session()
    session.attach("work", credit_messages=100)
    session.publish("orders", [{"body": str(i), "key": f"k{i % 3}"} for i in range(30)])
    got = session.take(30)
    for change in ({"mode": "ordered"}, {"mode": "exclusive"}, {"mode": "shared"}, {"paused": True},
                   {"paused": False}, {"max_in_flight": 1}, {"lease_ms": 100}, {"max_attempts": 1},
                   {"filter": "has(nothing)"}, {"backoff_ms": []}):
        http.must(http.call("PATCH", "/v1/groups/work", change), 200)
        bystander.check(f"{change}")
    outcomes = session.settle("orders", "ack", ranges=[(got[0].seq, got[-1].seq)])
    check_equal([o[2] for o in outcomes], ["accepted"], "acks of what was out all the time")


@case(long=True, timeout=900)
def a_million_groups(env):
    """As many as there may be; the next one is refused, and the others work."""
    broker, http, bystander = with_bystander(env)
    answers = []

    def make(begin):
        mine = broker.http()
        for i in range(begin, 20000, 16):
            answer = mine.post("/v1/groups", {"name": f"g{i}", "topics": ["nothing"]})
            if answer.code != 201:
                answers.append(answer)
                return

    threads = [threading.Thread(target=make, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_equal(len(answers), 16, "refusals")
    for answer in answers:
        why = refused(answer, "group_count", "one too many")
        check_equal(int(why["allowed"]), 16384, "allowed")
    bystander.check("many groups")
    broker.kill()
    broker.start(seconds=60)
    refused(broker.http().post("/v1/groups", {"name": "more", "topics": ["x"]}), "group_count",
            "after a restart")


# --- settling ---

def outcome_of(http, lease, action="ack", group="work", topic="orders", **what):
    return [(r["outcome"]) for r in http.settle(group, lease, topic, action, **what)]


@case(short=True)
def acks_that_cannot_be(env):
    broker, http, bystander = with_bystander(env)
    http.make_group("work", "orders", lease_ms=600000)
    http.make_group("other", "orders", lease_ms=600000)
    for i in range(6):
        http.must(http.publish("orders", f"body {i}"))
    check_equal(outcome_of(http, "7", seqs=["1"]), ["unknown"], "never delivered")
    lease, messages, _ = http.pull("work", 3)
    check_equal([m["seq"] for m in messages], ["1", "2", "3"], "delivered")
    before = lane(http)
    check_equal(outcome_of(http, lease, seqs=["4"]), ["unknown"], "not delivered yet")
    check_equal(outcome_of(http, lease, seqs=["7"]), ["unknown"], "not published yet")
    check_equal(outcome_of(http, lease, ranges=[{"first": "7", "last": str(2 ** 63)}]), ["unknown"],
                "all of the future")
    check_equal(outcome_of(http, lease, group="other", seqs=["1"]), ["unknown"], "another group's")
    check_equal(outcome_of(http, str(int(lease) + 1000), seqs=["1"]), ["late"], "another's lease")
    for action in ("nack", "release", "extend", "reject"):
        check_equal(outcome_of(http, str(int(lease) + 1000), action, seqs=["2"]), ["late"], action)
    check_equal(lane(http), before, "the lane after all that")
    check_equal(outcome_of(http, lease, seqs=["1"]), ["accepted"], "the first ack")
    check_equal(outcome_of(http, lease, seqs=["1"]), ["accepted"], "the same once more")
    for action in ("nack", "extend", "reject"):
        check_equal(outcome_of(http, lease, action, seqs=["1"]), ["late"], f"{action} after an ack")
    bystander.check("acks")
    for wrong in ([{"first": "3", "last": "2"}], [{"first": "0", "last": "3"}],
                  [{"first": "-1", "last": "3"}], [{"first": "1"}], [7], [["2", "1"]], "1..3",
                  [{"first": "1", "last": "1"}] * 1025):
        answer = http.post("/v1/groups/work/settle", {"lease": lease, "topic": "orders",
                                                      "action": "ack", "ranges": wrong})
        check(400 <= answer.code < 500, f"{str(wrong)[:60]}: {answer}")
    for wrong in ({"topic": "none"}, {"action": "think"}, {"action": 1}, {"lease": "x"},
                  {"lease": -1}, {"seqs": []}, {"seqs": ["x"]}, {"delay_ms": 604800001}):
        body = {"lease": lease, "topic": "orders", "action": "nack", "seqs": ["2"], **wrong}
        answer = http.post("/v1/groups/work/settle", body)
        check(400 <= answer.code < 500
              or (answer.code == 200
                  and all(r["outcome"] == "unknown" for r in answer.json["ranges"])),
              f"{wrong}: {answer}")
    check_equal(lane(http)["in_flight"], 2, "still in flight")
    bystander.check("settlements that are none")


@case(short=True)
def an_ack_after_the_lease(env):
    _, http, bystander = with_bystander(env)
    http.make_group("work", "orders", lease_ms=300)
    http.must(http.publish("orders", "body"))
    first, _, _ = http.pull("work", 1)
    wait_until(lambda: lane(http)["in_flight"] == 0, 20, "the end of the lease")
    second, messages, _ = http.pull("work", 1, 20)
    check_equal(messages[0]["attempt"], 2, "the attempt")
    answer, = http.settle("work", first, "orders", "ack", seqs=["1"])
    check_equal((answer["outcome"], answer["holder"]), ("late", second), "who has it")
    check_equal(outcome_of(http, second, seqs=["1"]), ["accepted"], "its holder's ack")
    check_equal(outcome_of(http, first, seqs=["1"]), ["accepted"], "an ack of what is acked")
    bystander.check("late acks")


@case(short=True)
def acks_on_a_stream_that_cannot_be(env):
    broker, http, bystander = with_bystander(env)
    http.make_group("work", "orders", lease_ms=600000)
    holder, stranger = broker.session(), broker.session()
    holder.attach("work", credit_messages=2)
    stranger.publish("orders", ["a", "b", "c"])
    holder.take(2)
    try:
        stranger.ack("orders", 1)
        check(False, "settled without a group")
    except RefusedReply as answer:
        check(answer.limit != "" and answer.text != "", f"no word why: {answer}")
    stranger.attach("work", credit_messages=1)
    stranger.take(1)
    holder_of = stranger.settle("orders", "ack", seqs=[1])
    check_equal(holder_of[0][2], "late", "another member's")
    check_equal(stranger.settle("orders", "ack", ranges=[(4, 2 ** 62)])[0][2], "unknown", "future")
    check_equal([o[2] for o in holder.ack("orders", 1, 2)], ["accepted"], "its own")
    check_equal([o[2] for o in holder.ack("orders", 1, 2)], ["accepted"], "twice")
    bystander.check("acks on a stream")


# --- seeks ---

@case(short=True)
def seeks_out_of_bounds(env):
    _, http, bystander = with_bystander(env)
    http.make_group("work", "orders")
    for i in range(4):
        http.must(http.publish("orders", f"body {i}"))
    seek = "/v1/groups/work/seek"
    for what, begins in (({"seq": "0"}, "1"), ({"seq": "1"}, "1"), ({"time_us": "0"}, "1"),
                         ({"time_us": "1"}, "1"), ({"seq": "5"}, "5")):
        done = http.must(http.post(seek, {"topic": "orders", "to": what}), 200).json["seeks"]
        check_equal(done, [{"topic": "orders", "seq": begins}], f"seek to {what}")
        bystander.check(f"seek to {what}")
    before = lane(http)
    for what in ({"seq": "6"}, {"seq": str(2 ** 63)}, {"seq": str(2 ** 64 - 1)}, {"seq": "-1"},
                 {"seq": "x"}, {"seq": 1.5}, "yesterday", {}, {"seq": "1", "time_us": "1"},
                 {"time_us": "-1"}, {"time_us": str(2 ** 64)}, None, ["latest"]):
        answer = http.post(seek, {"topic": "orders", "to": what})
        check_equal(answer.code, 400, f"seek to {what}: {answer}")
        check(len(answer.refused["text"]) > 5, f"seek to {what}: {answer}")
    check_equal(http.post(seek, {"topic": "none", "to": {"seq": "1"}}).code, 404, "seek in no topic")
    check_equal(http.post("/v1/groups/none/seek", {"to": "earliest"}).code, 404, "seek of no group")
    check_equal(lane(http), before, "the lane after that")
    future = http.post(seek, {"topic": "orders", "to": {"time_us": str(2 ** 63)}})
    check_equal((future.code, future.json["seeks"][0]["seq"]), (200, "5"), "a time to come")
    bystander.check("seeks")


# --- delays ---

@case(short=True)
def times_that_cannot_be(env):
    broker, http, bystander = with_bystander(env)
    http.make_group("work", "orders")
    session = broker.session()
    now_ms = int(time.time() * 1000)
    year_10000 = 253402300800000
    for what, limit in (
            ({"deliver_at_ms": str(year_10000)}, "deliver_at_ms"),
            ({"deliver_at_ms": str(2 ** 64 - 1)}, "deliver_at_ms"),
            ({"deliver_at_ms": str(now_ms + (YEAR_S + 86400) * 1000)}, "deliver_at_ms"),
            ({"delay_ms": str(YEAR_S * 1000 + 1)}, "delay_ms"),
            ({"delay_ms": str(2 ** 64 - 1)}, "delay_ms"),
            ({"ttl_ms": str(10 * YEAR_S * 1000 + 1)}, "ttl_ms"),
            ({"ttl_ms": str(2 ** 64 - 1)}, "ttl_ms"),
            ({"delay_ms": "5", "deliver_at_ms": str(now_ms)}, "delay_ms")):
        try:
            session.publish("orders", [{"body": "x", **what}])
            check(False, f"{what} was confirmed")
        except RefusedReply as answer:
            check_equal(answer.limit, limit, f"{what}: {answer}")
        bystander.check(f"{what}")
    for what in ({"delay_ms": "-1"}, {"delay_ms": "x"}, {"deliver_at_ms": 1.5},
                 {"ttl_ms": str(2 ** 64)}):
        answer = http.post("/v1/topics/orders/batch", {"messages": [{"body": "x", **what}]})
        check_equal(answer.code, 400, f"{what}: {answer}")
    check_equal(http.get("/v1/topics/orders").json["last_seq"], "0", "what was stored")
    session.publish("orders", [{"body": "old", "deliver_at_ms": "1"}])
    _, messages, _ = http.pull("work", 1, 20)
    check_equal([m["body"] for m in messages], ["old"], "a time that has been")
    bystander.check("times")


# --- clocks ---

class Clock:
    """The wall clock of a broker, and how to move it while the broker runs."""

    def __init__(self, env):
        with open(env.godwitd, "rb") as file:
            binary = file.read()
        if b"__asan_init" in binary or b"__tsan_init" in binary:
            raise Skip("a preloaded library may not come before a sanitizer's runtime")
        self.library = env.path("move_clock.so")
        self.path = env.path("clock")
        subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", self.library,
                        CLOCK_SOURCE], check=True)
        with open(self.path, "wb") as file:
            file.write(struct.pack("q", 0))

    def broker(self, env):
        broker = env.broker(start=False, config={"workers": 1})
        broker.more_env = {"LD_PRELOAD": self.library, "MOVE_CLOCK": self.path}
        return broker.start()

    def move(self, seconds):
        """In place: the broker has the file mapped."""
        with open(self.path, "r+b") as file:
            file.write(struct.pack("q", seconds))


JUMPS = (10 * YEAR_S, -10 * YEAR_S, 1, -1, 3600, 0)


@case(timeout=120)
def clock_jumps_of_ten_years_while_it_runs_move_nothing(env):
    clock = Clock(env)
    broker = clock.broker(env)
    http = broker.http()
    http.make_topic("orders")
    bystander = Bystander(broker)
    http.make_group("work", "orders", lease_ms=600000, max_attempts=3)
    session = broker.session()
    session.publish("orders", ["held", "waits"] + [{"body": "later", "delay_ms": "3600000"}]
                    + [{"body": "short", "delay_ms": "60000", "ttl_ms": "60000"}])
    lease, _, _ = http.pull("work", 2)
    check_equal(outcome_of(http, lease, "nack", seqs=["2"], delay_ms="3600000"), ["accepted"],
                "nack")
    check_equal(http.pull("work", 1)[1], [], "what comes at once")
    before = lane(http)
    check_equal((before["in_flight"], before["delayed"]), (1, 3), "before the jumps")
    for jump in JUMPS:
        clock.move(jump)
        bystander.check(f"a jump to {jump} s")
        check_equal(lane(http), before, f"the lane after a jump to {jump} s")
        quick, = session.publish("orders", [{"body": "quick", "delay_ms": "200"}])
        got = wait_until(lambda: http.pull("work", 1, 5)[1], 20, "a delay of 200 ms")
        check_equal((got[0]["seq"], got[0]["body"]), (str(quick.seq), "quick"), "after it")
        check_equal(outcome_of(http, "0", seqs=[str(quick.seq)]), ["accepted"], "its ack")
        before = lane(http)
    check_equal(outcome_of(http, lease, seqs=["1"]), ["accepted"], "the ack of what was held")


def pull_one(http, what):
    """(lease, seq, attempt)"""
    lease, got, _ = wait_until(lambda: [p for p in [http.pull("work", 1, 5)] if p[1]], 30, what)[0]
    return lease, got[0]["seq"], got[0]["attempt"]


@case(timeout=120)
def clock_jumps_of_ten_years_between_two_lives(env):
    """What waited comes at once after a jump ahead, and after one back no later than the
    longest delay there is; the clock that is right again has it at once."""
    clock = Clock(env)
    broker = clock.broker(env)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms=600000, backoff_ms=[1000])
    now = 0
    for jump in JUMPS:
        seq = str(broker.session().publish("orders", ["body"])[0].seq)
        lease, got, _ = pull_one(http, "a new one")
        check_equal(got, seq, f"before the jump to {jump} s")
        check_equal(outcome_of(http, lease, "nack", seqs=[seq]), ["accepted"], "nack")
        clock.move(jump)
        broker.kill() if jump % 2 == 0 else broker.stop()
        broker.start()
        http = broker.http()
        if jump < now - 60:
            shown = http.must(http.get(f"/v1/groups/work/messages/orders/{seq}")).json
            wait_s = int(shown["until_us"]) / 1e6 - (time.time() + jump)
            check_equal((shown["gate"], shown["attempts"]), ("backoff", 1), f"{shown}")
            check(wait_s <= 7 * 86400 + 60, f"it waits for {wait_s} s")
            clock.move(now)
            broker.stop()
            broker.start()
            http = broker.http()
            lease, *came = pull_one(http, "what waited, when the clock is right again")
            clock.move(jump)
        else:
            lease, *came = pull_one(http, f"what was nacked before a jump to {jump} s")
        check_equal(came, [seq, 2], f"after {jump} s")
        check_equal(outcome_of(http, lease, seqs=[seq]), ["accepted"], "ack")
        now = jump


# --- members ---

@case(short=True, threads=True, timeout=120)
def a_member_that_attaches_a_thousand_times(env):
    broker, http, bystander = with_bystander(env)
    http.make_group("work", "orders", lease_ms=600000)
    restless = broker.session()
    times = env.size(1000)
    for i in range(times):
        restless.attach("work", credit_messages=1)
        if i % 2 == 0:
            restless.publish("orders", [str(i)])
        restless.detach()
    check_equal(lane(http)["in_flight"], 0, "in flight when it has gone")
    bystander.check("attach and detach")
    restless.attach("work")
    outcomes = set()
    for _ in range(times):
        try:
            restless.attach("work")
            outcomes.add("attached")
        except RefusedReply as answer:
            outcomes.add(answer.limit)
            check(len(answer.text) > 5, f"no word why: {answer}")
    check_equal(len(outcomes), 1, f"outcomes {outcomes}")
    bystander.check("attaching again and again")
    shown = http.must(http.get("/v1/groups/work")).json
    check(int(shown.get("members", 1)) <= 1, f"members: {shown.get('members')}")


@case(timeout=120)
def a_thousand_members_at_once(env):
    broker, http, bystander = with_bystander(env)
    http.make_group("work", "orders", lease_ms=600000)
    members = []
    for _ in range(env.size(1000)):
        members.append(broker.session())
        members[-1].attach("work", credit_messages=1)
    bystander.check("a thousand members")
    broker.session().publish("orders", [str(i) for i in range(len(members))])
    check_equal(sorted(m.next().seq for m in members), list(range(1, len(members) + 1)),
                "one for each")
    for member in members:
        member.abort()
    wait_until(lambda: lane(http)["in_flight"] == 0, 30, "all of it back")
    bystander.check("a thousand that hung up")


main()
