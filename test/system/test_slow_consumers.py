#!/usr/bin/env python3
"""Subscribers that are slow, stuck or restless: the other groups on their worker go on
as if they were not there, and the broker's memory stays within its configuration.

What the others lose is measured in pairs of runs, one with the bad subscribers and one
without, in turns, because the machine is never the same for long. Figures of time need a
machine that does nothing else: the long run asks for them, the normal one for the
broker's processor time, which what the bad ones are given is a part of."""
import json
import os
import statistics
import sys
import threading


sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, main, wait_until
from operate import lane
from session import RefusedReply
from websocket import Closed

LIMITS = {"in_flight_mib": 8, "in_flight_direct_mib": 8, "output_kib": 1024}
LEFT_LEAST = 0.9  # of the throughput alone
WORK_MOST = 2    # of the processor time alone, theirs included


class Bad:
    """A subscriber in a thread of its own, until it is told to end."""

    def __init__(self, broker, group, **options):
        self.broker, self.group, self.options = broker, group, options
        self.stop = threading.Event()
        self.faults = []
        self.turns = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def session(self, credit=1000):
        session = self.broker.session(**self.options)
        session.attach(self.group, credit_messages=credit, credit_bytes=64 << 20)
        return session

    def run(self):
        while not self.stop.is_set():
            try:
                self.turn()
                self.turns += 1
            except (Closed, OSError, TimeoutError):
                self.turns += 1  # cut off; it comes again
            except (RefusedReply, AssertionError) as error:
                self.faults.append(repr(error))
                return

    def is_bad(self, http):
        """It has come and has messages, or had them and went."""
        return self.turns > 0 or lane(http, self.group, "bad")["in_flight"] > 0

    def end(self):
        self.stop.set()
        self.thread.join(30)
        check(not self.thread.is_alive(), f"{type(self).__name__} does not end")
        check_equal(self.faults, [], type(self).__name__)


class ReadsNothing(Bad):
    def turn(self):
        session = self.session(credit=65536)
        self.stop.wait(60)
        session.abort()


class AcksNothing(Bad):
    def turn(self):
        session = self.session()
        while not self.stop.is_set():
            try:
                session.next(0.2)
                session.deliveries.clear()
            except TimeoutError:
                continue
        session.abort()


class TakesAMinute(Bad):
    """For each of the ten that it takes; it asks for the time."""

    def turn(self):
        session = self.session(credit=10)
        while not self.stop.is_set():
            try:
                got = session.next(0.2)
                session.settle(got.topic, "extend", seqs=[got.seq], delay_ms="60000")
            except TimeoutError:
                continue
        session.abort()


class ComesAndGoes(Bad):
    """Every second, and reads what there is."""

    def turn(self):
        session = self.session()
        try:
            session.next(0.1)
        except TimeoutError:
            pass
        session.abort()
        self.stop.wait(0.9)


KINDS = [ReadsNothing, AcksNothing, TakesAMinute, ComesAndGoes]


def bench(broker, count):
    """Messages a second from one producer to one subscriber that acks each, and the
    broker's processor seconds for them."""
    before = broker.cpu_seconds()
    done = broker.godwit("bench", "endtoend", "--count", str(count), "--json", seconds=120)
    return json.loads(done.stdout)["messages_per_second"], broker.cpu_seconds() - before


def anonymous_bytes(broker):
    """Memory that is the broker's own and not a page of a file."""
    with open(f"/proc/{broker.process.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))


def make_groups(broker):
    """One for each kind, with much to do."""
    http = broker.http()
    http.make_topic("bad")
    for kind in KINDS:
        http.make_group(kind.__name__, "bad", lease_ms=1000)
    session = broker.session()
    for _ in range(20):
        session.publish("bad", ["x" * 1000] * 500, timeout=60)
    session.close()


def pair(broker, kinds, count):
    """(share of the throughput that is left, share of the processor time)"""
    http = broker.http()
    alone, alone_cpu = bench(broker, count)
    bad = [kind(broker, kind.__name__) for kind in kinds]
    try:
        wait_until(lambda: all(b.is_bad(http) for b in bad), 20, "the bad ones")
        beside, beside_cpu = bench(broker, count)
    finally:
        for b in bad:
            b.end()
    return beside / alone, beside_cpu / max(alone_cpu, 0.01)


def measure(env, kinds, rounds, count):
    """Medians: (throughput that is left, processor time for it)"""
    broker = env.broker(config={"workers": 1, "limits": LIMITS})
    make_groups(broker)
    bench(broker, count)  # warm
    pairs = [pair(broker, kinds, count) for _ in range(rounds)]
    left = statistics.median(p[0] for p in pairs)
    cpu = statistics.median(p[1] for p in pairs)
    print(f"     {'+'.join(k.__name__ for k in kinds)}: {left:.2f} of the throughput is left "
          f"({', '.join(f'{p[0]:.2f}' for p in pairs)}), {cpu:.2f} times the broker's "
          "processor time", flush=True)
    return left, cpu


@case(timeout=300)
def others_go_on_beside_bad_subscribers(env):
    _, work = measure(env, KINDS, 5, 60000)
    check(work <= WORK_MOST, f"{work:.2f} times the work for the same messages")


@case(long=True, timeout=900)
def each_kind_costs_the_others_less_than_a_tenth(env):
    for kind in KINDS:
        left, _ = measure(env, [kind], 9, 100000)
        check(left >= LEFT_LEAST, f"{kind.__name__}: {left:.2f} of the throughput is left")


@case(timeout=120)
def memory_stays_within_the_configuration(env):
    broker = env.broker(config={"workers": 1, "limits": LIMITS})
    make_groups(broker)
    session = broker.session()
    base = anonymous_bytes(broker)
    bad = [kind(broker, kind.__name__) for kind in KINDS for _ in range(4)]
    highest = 0
    try:
        for _ in range(env.size(60)):
            session.publish("bad", ["y" * 4000] * 500, timeout=60)
            highest = max(highest, anonymous_bytes(broker))
            check(all(b.thread.is_alive() for b in bad), "a bad one gave up")
    finally:
        for b in bad:
            b.end()
    # Each connection may keep its output, each worker its table and buffers.
    allowed = (LIMITS["in_flight_mib"] + LIMITS["in_flight_direct_mib"] << 20) + len(bad) * (2 * LIMITS["output_kib"] << 10) \
        + (48 << 20)
    check(env.sanitized or highest - base <= allowed,
          f"{(highest - base) >> 20} MiB more than before, allowed are {allowed >> 20}")


@case(short=True, threads=True, timeout=120)
def a_group_beside_them_gets_everything_once(env):
    broker = env.broker(config={"workers": 1, "limits": LIMITS})
    make_groups(broker)
    http = broker.http()
    http.make_topic("good")
    http.make_group("good", "good")
    bad = [kind(broker, kind.__name__) for kind in KINDS]
    try:
        wait_until(lambda: all(b.is_bad(http) for b in bad), 20, "the bad ones")
        producer, consumer = broker.session(), broker.session()
        consumer.attach("good", credit_messages=2000)
        total = env.size(10000)
        for at in range(0, total, 500):
            count = min(500, total - at)
            producer.publish("good", [str(at + i) for i in range(count)], timeout=60)
            producer.publish("bad", ["z" * 1000] * 100, timeout=60)
            got = consumer.take(count, 60)
            check_equal([(d.attempt, int(d.body)) for d in got],
                        [(1, at + i) for i in range(count)], "deliveries")
            outcomes = consumer.settle("good", "ack", ranges=[(got[0].seq, got[-1].seq)])
            check(all(o[2] == "accepted" for o in outcomes), f"{outcomes}")
        check(all(b.thread.is_alive() for b in bad), "a bad one gave up")
    finally:
        for b in bad:
            b.end()


@case(timeout=120)
def one_that_stops_reading_is_cut_off_and_its_messages_return(env):
    broker = env.broker(config={"workers": 1, "limits": LIMITS})
    http = broker.http()
    http.make_topic("bad")
    http.make_group("stuck", "bad", lease_ms=600000)
    stuck = broker.session(receive_buffer=4096)
    stuck.attach("stuck", credit_messages=65536, credit_bytes=64 << 20)
    producer = broker.session()
    for _ in range(8):
        producer.publish("bad", ["x" * 30000] * 50, timeout=60)
    held = wait_until(lambda: lane(http, "stuck", "bad")["in_flight"], 20, "deliveries")
    check(held < 400, f"all {held} are in flight to one that reads nothing")
    # WRITE_STALL_MS is half a minute.
    wait_until(lambda: lane(http, "stuck", "bad")["in_flight"] == 0, 60, "their return")
    again = broker.session()
    again.attach("stuck")
    check_equal(again.next(20).attempt, 2, "the attempt")
    stuck.abort()


@case(timeout=120)
def what_nobody_acks_comes_as_often_as_it_may_and_is_dead(env):
    broker = env.broker(config={"workers": 1, "limits": LIMITS})
    http = broker.http()
    http.make_topic("bad")
    http.make_group("mute", "bad", lease_ms=300, max_attempts=3, backoff_ms=[100, 200])
    count = 15  # fewer attempts than the breaker looks at
    broker.session().publish("bad", [str(i) for i in range(count)])
    mute = broker.session()
    mute.attach("mute")
    seen = [(d.seq, d.attempt) for d in mute.take(3 * count, 60)]
    check_equal(sorted(seen), [(seq, attempt) for seq in range(1, count + 1)
                               for attempt in (1, 2, 3)], "deliveries")
    wait_until(lambda: lane(http, "mute", "bad")["dead"] == count, 30, "their death")
    check(mute.none_comes(1), "a dead one comes")
    dead = http.must(http.get("/v1/groups/mute/dead")).json["dead"]
    check_equal({(d["attempts"], d["cause"]) for d in dead}, {(3, "lease")}, "how they died")


@case(timeout=120)
def a_group_that_fails_at_everything_is_slowed_down_and_others_are_not(env):
    broker = env.broker(config={"workers": 1, "limits": LIMITS})
    http = broker.http()
    for name in ("bad", "good"):
        http.make_topic(name)
        http.make_group(name, name, max_attempts=0, backoff_ms=[1])
    failing, consumer, producer = broker.session(), broker.session(), broker.session()
    failing.attach("bad")
    consumer.attach("good")
    producer.publish("bad", [str(i) for i in range(50)])
    for i in range(200):
        got = failing.next(30)
        failing.settle("bad", "nack", seqs=[got.seq])
        if http.must(http.get("/v1/groups/bad")).json.get("held_by", {}).get("gate") == "breaker":
            break
    check(i < 199, "200 failures in a row, and nobody says stop")
    producer.publish("good", [str(i) for i in range(1000)], timeout=60)
    got = consumer.take(1000, 60)
    check_equal([d.attempt for d in got], [1] * 1000, "the other group's")
    for _ in range(300):  # it works again: the breaker closes
        message = failing.next(30)
        failing.ack("bad", message.seq)
        if lane(http, "bad", "bad")["acked"] == 50:
            break
    check_equal(lane(http, "bad", "bad")["acked"], 50, "all of it in the end")


if __name__ == "__main__":
    main()
