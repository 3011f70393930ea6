#!/usr/bin/env python3
"""Subscribers that are slow, stuck or restless: the other groups on their worker go on
as if they were not there, and the broker's memory stays within its configuration.

What the others lose is measured by test_beside_slow.py in the long run; here only the
broker's processor time for their messages is looked at, in pairs of runs with the bad
ones and without. What these are given is a part of it."""
import json
import os
import statistics
import sys


sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from bad_subscribers import KINDS, LIMITS
from harness import case, check, check_equal, main, wait_until
from operate import lane

WORK_MOST = 2  # of the processor time alone, theirs included


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


def share_of_work(broker, count):
    """The processor time beside all the bad ones as a share of that alone."""
    http = broker.http()
    alone_rate, alone = bench(broker, count)
    bad = [kind(broker, kind.__name__) for kind in KINDS]
    try:
        wait_until(lambda: all(b.is_bad(http) for b in bad), 20, "the bad ones")
        rate, beside = bench(broker, count)
    finally:
        for b in bad:
            b.end()
    print(f"     {rate / alone_rate:.2f} of the throughput is left, one measurement", flush=True)
    return beside / max(alone, 0.01)


@case(timeout=300)
def others_go_on_beside_bad_subscribers(env):
    broker = env.broker(config={"workers": 1, "limits": LIMITS})
    make_groups(broker)
    bench(broker, 60000)  # warm
    work = statistics.median(share_of_work(broker, 60000) for _ in range(5))
    check(work <= WORK_MOST, f"{work:.2f} times the work for the same messages")


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
