#!/usr/bin/env python3
"""Ack transactions in heap, direct memory and a file: a broker with next to no heap does
what any broker does, and says where they lie."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, main, wait_until
from operate import lane

TINY = {"in_flight_mib": 1, "in_flight_direct_mib": 1, "in_flight_file_mib": 64}
TIERS = ("heap", "direct", "file")
IN_A_MIB = 12288  # entries of 64 bytes, and their index
CREDIT_MAX = 65536


def tier_figures(http, name):
    """{tier: value} of one metric."""
    text = http.get("/metrics").body.decode()
    found = re.findall(rf'^godwit_{name}{{tier="(\w+)"}} (\d+)$', text, re.M)
    check_equal(tuple(tier for tier, _ in found), TIERS, name)
    return {tier: int(value) for tier, value in found}


def publish(session, topic, count):
    for first in range(1, count + 1, 1000):
        session.publish(topic, [f"{i}" for i in range(first, min(first + 1000, count + 1))])


def spilled(env, count, lease_ms=600000, limits=TINY):
    """A broker, and a session that holds `count` messages of `stuck` and settles none."""
    broker = env.broker(config={"limits": limits, "workers": 1})
    http = broker.http()
    http.make_topic("stuck")
    http.make_group("stuck", "stuck", lease_ms=lease_ms)
    session = broker.session()
    publish(session, "stuck", count)
    holder = broker.session()
    holder.attach("stuck", credit_messages=CREDIT_MAX, credit_bytes=64 << 20)
    taken = holder.take(count, timeout=60)
    check_equal([d.seq for d in taken], list(range(1, count + 1)), "deliveries")
    wait_until(lambda: sum(tier_figures(http, "in_flight_messages").values()) == count, 20,
               "the metrics to know of all")
    return broker, http, holder


@case(short=True, threads=True, timeout=120)
def what_is_not_acked_spills_and_all_of_it_can_be_settled(env):
    count = 40000
    broker, http, holder = spilled(env, count)
    where = tier_figures(http, "in_flight_messages")
    check(where["heap"] <= IN_A_MIB and where["direct"] <= IN_A_MIB, f"{where}")
    check(where["file"] >= count - 2 * IN_A_MIB, f"{where}")
    check_equal(tier_figures(http, "in_flight_bytes_max"),
                {"heap": 1 << 20, "direct": 1 << 20, "file": 64 << 20}, "budgets")
    taken = tier_figures(http, "in_flight_bytes")
    check(all(0 < taken[tier] <= TINY[key] << 20
              for tier, key in zip(TIERS, TINY)), f"bytes {taken}")
    demoted = tier_figures(http, "transactions_demoted_total")
    check_equal(demoted["file"], where["file"], "came down to the file")
    check_equal(demoted["direct"], where["direct"] + where["file"], "came down to direct")
    check_equal([name for name in os.listdir(broker.data_dir) if "flight" in name], [],
                "names in the data folder")

    check_equal(holder.settle("stuck", "extend", ranges=[(1, count)], delay_ms="300000"),
                [(1, count, "accepted", 0)], "extend")
    check_equal(holder.settle("stuck", "nack", seqs=[1, 20000, count]),
                [(1, 1, "accepted", 0), (20000, 20000, "accepted", 0),
                 (count, count, "accepted", 0)], "nack")
    again = holder.take(3, timeout=30)
    check_equal(sorted((d.seq, d.attempt) for d in again), [(1, 2), (20000, 2), (count, 2)],
                "again")
    check_equal(holder.settle("stuck", "ack", ranges=[(1, count)]),
                [(1, count, "accepted", 0)], "ack")
    wait_until(lambda: sum(tier_figures(http, "in_flight_messages").values()) == 0, 20,
               "an empty table")
    check_equal(lane(http, "stuck", "stuck")["acked"], count, "acked")
    ended = tier_figures(http, "transactions_ended_total")
    check(ended["file"] > 0 and sum(ended.values()) >= count, f"ended {ended}")


@case(short=True, timeout=120)
def leases_in_the_file_end_like_any_other(env):
    count = 30000
    _, http, holder = spilled(env, count, lease_ms=60000)
    check(tier_figures(http, "in_flight_messages")["file"] > 0, "nothing in the file")
    check_equal(holder.settle("stuck", "extend", ranges=[(1, count)], delay_ms="500"),
                [(1, count, "accepted", 0)], "extend")
    seen = set()
    while len(seen) < count:  # acked as they come, or the breaker stays open
        again = [holder.next(30)]
        again += holder.take(len(holder.deliveries))
        check(all(d.attempt == 2 for d in again), "attempts")
        holder.ack("stuck", *[d.seq for d in again])
        seen.update(d.seq for d in again)
    check_equal(seen, set(range(1, count + 1)), "given again")
    check_equal(lane(http, "stuck", "stuck")["acked"], count, "acked")


@case(timeout=120)
def a_connection_that_ends_gives_back_what_lies_in_the_file(env):
    count = 30000
    _, http, holder = spilled(env, count)
    holder.abort()
    wait_until(lambda: lane(http, "stuck", "stuck")["in_flight"] == 0, 30, "nothing in flight")
    left = lane(http, "stuck", "stuck")
    check_equal(left["ready"] + left["delayed"], count, f"{left}")


@case(short=True, timeout=120)
def what_is_fresh_never_sees_the_file(env):
    """The standard workload next to a consumer that is stuck with more than there is room
    for: at least 99 of 100 transactions end in memory."""
    broker, http, holder = spilled(env, 40000)
    http.make_topic("orders")
    http.make_group("work", "orders")
    before = tier_figures(http, "transactions_ended_total")
    count = env.size(30000)
    publisher, worker = broker.session(), broker.session()
    worker.attach("work", credit_messages=1000)
    for first in range(0, count, 1000):
        publisher.publish("orders", ["x" * 100] * 1000)
        for _ in range(10):
            taken = worker.take(100)
            worker.settle("orders", "ack", seqs=[d.seq for d in taken])
    rounds = (count + 999) // 1000 * 1000
    def ended():
        after = tier_figures(http, "transactions_ended_total")
        return {tier: after[tier] - before[tier] for tier in TIERS}
    wait_until(lambda: sum(ended().values()) == rounds, 20, "all to have ended")
    in_memory = ended()["heap"] + ended()["direct"]
    check(in_memory * 100 >= rounds * 99, f"ended {ended()}")
    check_equal(lane(http, "stuck", "stuck")["in_flight"], 40000, "the stuck ones")


@case()
def without_lower_tiers_delivery_waits_at_the_end_of_the_heap(env):
    broker = env.broker(config={"limits": {"in_flight_mib": 1, "in_flight_direct_mib": 0,
                                           "in_flight_file_mib": 0}, "workers": 1})
    http = broker.http()
    http.make_topic("stuck")
    http.make_group("stuck", "stuck")
    session = broker.session()
    publish(session, "stuck", IN_A_MIB)
    session.attach("stuck", credit_messages=CREDIT_MAX, credit_bytes=64 << 20)
    half = IN_A_MIB // 2  # one group alone leaves as much as it takes
    got = session.take(half, timeout=30)
    check(session.none_comes(0.5), "more than there is room for")
    session.settle("stuck", "ack", ranges=[(1, half)])
    got += session.take(half, timeout=30)
    check_equal([d.seq for d in got], list(range(1, 2 * half + 1)), "deliveries")


if __name__ == "__main__":
    main()
