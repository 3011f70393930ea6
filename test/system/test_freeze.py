#!/usr/bin/env python3
"""A failed sync freezes the store: nothing is confirmed from then on, health is
red, durable messages go on being delivered, and a restart recovers."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Skip, case, check, check_equal, main
from session import RefusedReply

SOURCE = os.path.join(os.path.dirname(__file__), "../lib/fail_sync.c")


def broker_that_can_fail(env):
    """(broker, path): its syncs fail while the file at `path` exists."""
    with open(env.godwitd, "rb") as file:
        binary = file.read()
    if b"__asan_init" in binary or b"__tsan_init" in binary:
        raise Skip("a preloaded library may not come before a sanitizer's runtime")
    library = env.path("fail_sync.so")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    switch = env.path("failing")
    broker = env.broker(start=False)
    broker.more_env = {"LD_PRELOAD": library, "FAIL_SYNC_WHILE": switch}
    broker.start()
    return broker, switch


def refusal_of(call):
    try:
        return None, call()
    except RefusedReply as refused:
        return refused, None


@case()
def a_failed_sync_freezes_the_store(env):
    broker, switch = broker_that_can_fail(env)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    session.publish("orders", [f"good {i}" for i in range(100)])

    good = [f"good {i}".encode() for i in range(100)]

    open(switch, "w").close()
    refused, confirms = refusal_of(lambda: session.publish("orders", ["not durable"]))
    check(confirms is None, f"confirmed without a sync: {confirms}")
    check_equal(refused.status, "frozen", "the publish that met it")

    # The disk is well again, and it does not matter: one failed sync is final.
    os.unlink(switch)
    for _ in range(3):
        refused, _ = refusal_of(lambda: session.publish("orders", ["after it"]))
        check_equal(refused and refused.status, "frozen", "a later publish")
    health = http.get("/health")
    check_equal((health.code, health.json["status"]), (503, "red"), "health")
    check("store_frozen" in str(health.json["reasons"]), f"no reason in {health.json}")
    broker.wait_log(r"store frozen reason=.*Input/output error")

    # What was durable is still delivered; acks cannot be made durable.
    reader = broker.session()
    reader.attach("work")
    got = reader.take(100, 10)
    check_equal([d.body for d in got], good, "deliveries")
    refused, _ = refusal_of(lambda: reader.settle("orders", "ack", ranges=[(1, 100)]))
    check_equal(refused and refused.status, "frozen", "an ack")

    check_equal(broker.stop(), 1, "the exit code of a frozen broker")
    broker.more_env = {}
    broker.start()
    check_equal(broker.http().get("/health").json["status"], "green", "health after a restart")
    reader = broker.session()
    reader.attach("work")
    got = reader.take(100, 10)
    check_equal([d.body for d in got[:100]], good, "after a restart")
    ranges = reader.settle("orders", "ack", ranges=[(1, 100)])
    check_equal({r[2] for r in ranges}, {"accepted"}, "acks after a restart")


main()
