#!/usr/bin/env python3
"""Bits that rot in the log, seen from outside: who finds them, and who is told."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from blocks import batch_before, find_body, segments
from harness import case, check, check_equal, check_in, main, wait_until
from session import Gap

COUNT, SIZE = 240, 100000  # more than one segment of 16 MiB
QUICK = {"segment_mib": 16, "scrub_mib_s": 1000}
OFF = {"segment_mib": 16, "scrub_mib_s": 0}


def body_of(seq):
    return f"<<body number {seq:06}>>" + "x" * SIZE


def filled(env, store=None):
    """A stopped broker with a topic, two groups on it and COUNT large messages."""
    broker = env.broker(config={"store": store or QUICK})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("one", "orders")
    http.make_group("two", "orders")
    session = broker.session()
    for seq in range(1, COUNT + 1, 8):
        session.publish("orders", [body_of(s) for s in range(seq, seq + 8)])
    session.close()
    broker.stop()
    check(len(segments(broker.data_dir)) > 1, "all in one file")
    return broker


def rot(broker, seq, shift=40):
    """Flip a bit in the body of one message; the file it stands in."""
    path, offset = find_body(broker.data_dir, f"<<body number {seq:06}>>".encode())
    with open(path, "r+b") as file:
        file.seek(offset + shift)
        byte = file.read(1)[0]
        file.seek(offset + shift)
        file.write(bytes([byte ^ 4]))
    return os.path.basename(path)


def collect(broker, group):
    """(seqs delivered, gaps as [first, last]) of all COUNT."""
    session = broker.session()
    session.attach(group, credit_messages=COUNT, credit_bytes=64 << 20)
    seqs, gaps, known = [], [], 0
    while known < COUNT:
        got = session.next()
        if isinstance(got, Gap):
            gaps.append([got.first, got.last])
            known += got.last - got.first + 1
        else:
            check_equal(got.body.decode(), body_of(got.seq), f"body of {got.seq}")
            seqs.append(got.seq)
            known += 1
    session.close()
    return sorted(seqs), gaps


def metric(http, name):
    found = re.search(rf"^godwit_{name}(?:_total)? ([0-9.e+]+)$", http.get("/metrics").body.decode(),
                      re.MULTILINE)
    check(found, f"no metric {name}")
    return float(found.group(1))


def health(http):
    shown = http.get("/health").json
    return shown["status"], " ".join(shown["reasons"])


@case(short=True, threads=True)
def the_scrub_finds_what_nobody_reads(env):
    broker = filled(env)
    sealed = rot(broker, 3)
    active = rot(broker, COUNT - 2)
    check(sealed != active, "both in one file")
    broker.start()
    http = broker.http()
    wait_until(lambda: metric(http, "store_scrub_passes") >= 1, 30, "a whole pass")
    for file, seq in ((sealed, 3), (active, COUNT - 2)):
        line = broker.wait_log(rf"damage found .*file={file} .*seq={seq}\b").string
    check_in('kind="message"', line, "the log")
    check_in("topic=orders", line, "the log")
    check_equal(metric(http, "store_damaged_records"), 2.0, "damaged records")
    check(metric(http, "store_scrubbed_bytes") > COUNT * SIZE, "bytes scrubbed")
    colour, why = health(http)
    check_equal(colour, "yellow", f"health ({why})")
    check_in("damaged in 2 places", why, "health")
    check_in(".seg at ", why, "health")
    shown = http.get("/v1/store").json
    check_equal([(d["file"], d["topic"], d["seq"]) for d in shown["damage"]],
                [(sealed, "orders", "3"), (active, "orders", str(COUNT - 2))], "damage shown")
    said = broker.godwit("store").stdout.decode()
    check_in("disk bytes", said, "godwit store")
    check(re.search(rf"message +{sealed} .* orders +3\b", said), f"godwit store: {said}")
    # Each group is told of both, and gets all the rest.
    for group in ("one", "two"):
        seqs, gaps = collect(broker, group)
        check_equal(gaps, [[3, 3], [COUNT - 2, COUNT - 2]], f"gaps of {group}")
        check_equal(len(seqs), COUNT - 2, f"deliveries to {group}")
        lane = http.get(f"/v1/groups/{group}").json["lanes"][0]
        check_equal((lane["gap"], lane["balanced"]), ("2", True), f"books of {group}")


@case(short=True)
def a_log_without_damage_is_scrubbed_in_silence(env):
    broker = filled(env)
    broker.start()
    http = broker.http()
    wait_until(lambda: metric(http, "store_scrub_passes") >= 1, 30, "a whole pass")
    broker.wait_log(r"scrub done mib=\d+ .*damaged_records=0 damaged_batches=0")
    check_equal(health(http), ("green", ""), "health")
    check_equal(http.get("/v1/store").json["damage"], [], "damage shown")
    check("damage" not in broker.log().replace("damaged_", ""), "the log speaks of damage")


@case(short=True, threads=True)
def a_reader_finds_it_when_there_is_no_scrub(env):
    broker = filled(env, OFF)
    rot(broker, 5)
    broker.start()
    http = broker.http()
    check_equal(health(http)[0], "green", "health before anybody read it")
    seqs, gaps = collect(broker, "one")
    check_equal(gaps, [[5, 5]], "gaps")
    check_equal(len(seqs), COUNT - 1, "deliveries")
    colour, why = health(http)
    check_equal(colour, "yellow", f"health ({why})")
    check_in("damaged in 1 place;", why, "health")
    check_equal(len(http.get("/health").json["reasons"]), 1, "reasons for one event")
    broker.wait_log(r"gap topic=orders group=one first=5 last=5")
    broker.wait_log(r"damage found .* offset=[1-9]\d* len=[1-9]\d* .*seq=5\b")
    check_equal(metric(http, "store_scrub_passes"), 0.0, "passes of a scrub that is off")


@case()
def it_rots_while_the_broker_runs(env):
    """Each pass begins when the one before ended, with a pass an hour and a quick disk: so restart
    to have one now."""
    broker = filled(env)
    broker.start()
    http = broker.http()
    wait_until(lambda: metric(http, "store_scrub_passes") >= 1, 30, "a whole pass")
    rot(broker, 7)
    seqs, gaps = collect(broker, "one")
    check_equal(gaps, [[7, 7]], "gaps of a running broker")
    check_equal(len(seqs), COUNT - 1, "deliveries")
    broker.restart()
    broker.wait_log(r"damage found .*seq=7\b")


@case()
def a_batch_header_that_rots_is_found(env):
    """Its records are found through the keydir all the same."""
    broker = filled(env)
    path, _ = find_body(broker.data_dir, b"<<body number 000009>>")
    with open(path, "r+b") as file:
        file.seek(batch_before(path, b"<<body number 000009>>") + 20)
        file.write(b"\xff")
    broker.start()
    http = broker.http()
    broker.wait_log(rf'damage found kind="batch" file={os.path.basename(path)}')
    check(metric(http, "store_damaged_batches") >= 1, "no damaged batch")
    check_equal(health(http)[0], "yellow", "health")
    seqs, gaps = collect(broker, "one")
    lost = [s for first, last in gaps for s in range(first, last + 1)]
    check_equal(sorted(seqs + lost), list(range(1, COUNT + 1)), "each number once")


main()
