#!/usr/bin/env python3
"""A full disk, on a small tmpfs: producers are refused, consumers go on, and it
comes back by itself when there is room."""
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Failed, Skip, case, check, check_equal, main, wait_until
from session import RefusedReply
from websocket import TEXT, frame


def small_disk(env, mib):
    path = env.path("disk")
    os.mkdir(path)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", path],
                          capture_output=True)
    if done.returncode != 0:
        raise Skip("mount is not permitted: " + done.stderr.decode().strip())
    env.at_end(lambda: unmount(env, path))
    return path


def unmount(env, path):
    for broker in env.brokers:
        if broker.process is not None:
            broker.stop()
    subprocess.run(["umount", path], check=True)


def fill(session, size=100000):
    """Publish until refused; (confirmed, refusal)."""
    confirmed = 0
    for _ in range(5000):
        try:
            session.publish("orders", ["x" * size])
            confirmed += 1
        except RefusedReply as refused:
            return confirmed, refused
    raise Failed("never full")


@case(short=True, threads=True, timeout=120)
def producers_wait_consumers_go_on(env):
    disk = small_disk(env, 96)
    ballast = os.path.join(disk, "ballast")
    with open(ballast, "wb") as file:
        file.write(bytes(32 << 20))
    broker = env.broker(data_dir=os.path.join(disk, "data"),
                        config={"store": {"segment_mib": 16, "checkpoint_ms": 200}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    confirmed, refused = fill(session)
    check(confirmed > 20, f"only {confirmed} messages fit")
    check_equal(refused.status, "no_space", "status")
    check(int(refused.reply.get("retry_after_ms", 0)) > 0, f"no retry_after_ms in {refused.reply}")
    answer = http.publish("orders", "over http")
    check_equal((answer.code, answer.refused["status"]), (507, "no_space"), "over HTTP")
    health = http.get("/health")
    check(health.json["status"] in ("yellow", "red"), f"health {health}")

    # Consumers and their acks still work.
    reader = broker.session()
    reader.attach("work", credit_bytes=64 << 20, credit_messages=10000)
    reader.take(confirmed, 30)
    ranges = reader.settle("orders", "ack", ranges=[(1, confirmed - 5)])
    check_equal({r[2] for r in ranges}, {"accepted"}, "acks on a full disk")

    # Room again: publishing resumes without a restart.
    os.unlink(ballast)

    def try_publish():
        try:
            return session.publish("orders", ["there is room"])
        except RefusedReply:
            time.sleep(0.1)
            return None
    seq = wait_until(try_publish, 20, "publishing to resume")[0].seq
    check_equal(seq, confirmed + 1, "its seq: what was refused is not there")
    wait_until(lambda: http.get("/health").json["status"] == "green", 10, "health green again")

    broker.kill()
    broker.start()
    reader = broker.session()
    reader.attach("work", credit_bytes=64 << 20)
    check_equal(sorted(d.seq for d in reader.take(6, 20)),
                list(range(confirmed - 4, confirmed + 2)), "left after the restart")


@case()
def hardly_any_room_at_the_start(env):
    """It says so and ends, or it starts and keeps what it confirms."""
    disk = small_disk(env, 4)
    for room in (16, 128, 512, 1024):
        shutil.rmtree(os.path.join(disk, "data"), ignore_errors=True)
        with open(os.path.join(disk, "ballast"), "wb") as file:
            file.write(bytes((4 << 20) - (room << 10)))
        broker = env.broker(start=False, data_dir=os.path.join(disk, "data"))
        broker.spawn()
        wait_until(lambda: not broker.alive() or "listening" in broker.log(), 20, "a decision")
        if not broker.alive():
            check(broker.wait_exit() > 0, f"{room} KiB: exit code 0")
            check("space" in broker.log() or "Input/output" in broker.log(), broker.log())
            continue
        http = broker.http()
        http.make_topic("orders")
        confirmed, refused = fill(broker.session(), 10000)
        check_equal(refused.status, "no_space", f"{room} KiB: status")
        check(http.get("/health").json["status"] != "green", f"{room} KiB: health is green")
        broker.kill()
        os.unlink(os.path.join(disk, "ballast"))
        broker.start()
        check_equal(int(broker.http().get("/v1/topics/orders").json["last_seq"]), confirmed,
                    f"{room} KiB: stored")
        broker.stop()


@case(timeout=120)
def a_disk_filled_by_others_up_to_the_last_byte(env):
    disk = small_disk(env, 64)
    broker = env.broker(data_dir=os.path.join(disk, "data"),
                        config={"store": {"segment_mib": 16, "checkpoint_ms": 200}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    session.publish("orders", ["before"] * 100)
    with open(os.path.join(disk, "ballast"), "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    session.attach("work")
    session.take(100)
    check_equal([r[2] for r in session.settle("orders", "ack", ranges=[(1, 100)])], ["accepted"],
                "ack")
    confirmed, _ = fill(session)
    broker.kill()
    os.unlink(os.path.join(disk, "ballast"))
    broker.start()
    session = broker.session()
    session.attach("work", credit_bytes=64 << 20, credit_messages=10000)
    if confirmed:
        check_equal([d.seq for d in session.take(confirmed)],
                    list(range(101, 101 + confirmed)), "what was confirmed")
    check(session.none_comes(0.5), "something else came")


def fill_up(disk):
    """To the last block."""
    with open(os.path.join(disk, "ballast"), "ab", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def start_in_a_small_segment(broker, disk):
    """A start without space for more makes one of some KiB: of half of what is free, and
    there is more free than nothing when the keeper has just given something back."""
    log = os.path.join(disk, "data/log")
    for _ in range(40):
        fill_up(disk)
        broker.kill()
        broker.start()
        last = max(name for name in os.listdir(log) if name.endswith(".seg"))
        if os.path.getsize(os.path.join(log, last)) < 100 * 1024:
            return
    raise Failed("no start made a small segment")


@case(timeout=200)
def what_was_accepted_in_a_small_segment_stays_accepted(env):
    """More acks at once than the small segment has room for, when space is back."""
    count = 24000
    disk = small_disk(env, 80)
    broker = env.broker(data_dir=os.path.join(disk, "data"),
                        config={"store": {"segment_mib": 16, "checkpoint_ms": 200}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    for first in range(0, count, 1000):
        session.publish("orders", [f"m{i}" for i in range(first, first + 1000)])
    start_in_a_small_segment(broker, disk)

    session = broker.session()
    session.attach("work", credit_messages=60000, credit_bytes=64 << 20)
    odd = [d.seq for d in session.take(count, 30) if d.seq % 2 == 1]
    os.unlink(os.path.join(disk, "ballast"))
    raw = b""
    ids = []
    for i in range(0, len(odd), 1000):
        ids.append(session.next_id())
        raw += frame(TEXT, json.dumps({
            "type": "settle", "topic": "orders", "action": "ack", "id": str(ids[-1]),
            "seqs": [str(seq) for seq in odd[i:i + 1000]]}).encode())
    session.ws.send_raw(raw)  # in one turn of the broker's
    accepted = set()
    for request in ids:
        for r in session.reply_to(request, 30)["ranges"]:
            if r["outcome"] == "accepted":
                accepted.update(range(int(r["first"]), int(r["last"]) + 1))
    check_equal(len(accepted), len(odd), "accepted")
    broker.kill()
    broker.start()
    session = broker.session()
    session.attach("work", credit_messages=60000, credit_bytes=64 << 20)
    back = {d.seq for d in session.take(count - len(odd), 30)}
    check_equal(sorted(back & accepted)[:5], [], "accepted, and delivered again")
    check(session.none_comes(0.5), "an accepted one was delivered again")


def ballast_to(disk, free_mib):
    """Fill the disk up, or make room, so that so much is free."""
    path = os.path.join(disk, "ballast")
    with open(path, "ab") as file:
        stat = os.statvfs(disk)
        free = stat.f_bavail * stat.f_frsize
        size = os.path.getsize(path) + free - (free_mib << 20)
        if size < os.path.getsize(path):
            file.truncate(size)
        else:
            file.write(bytes(size - os.path.getsize(path)))


def try_publish(session):
    try:
        return session.publish("orders", ["is there room?"]), None
    except RefusedReply as refused:
        return None, refused


@case(short=True, threads=True)
def below_the_low_water_publishes_are_refused(env):
    disk = small_disk(env, 160)
    broker = env.broker(data_dir=os.path.join(disk, "data"), config={
        "store": {"segment_mib": 16, "checkpoint_ms": 200, "free_mib_min": 40}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    session.publish("orders", ["before"] * 50)
    check_equal(http.get("/health").json["status"], "green", "health before")

    ballast_to(disk, 30)
    refused = wait_until(lambda: try_publish(session)[1], 20, "a refusal")
    check_equal((refused.status, refused.reply["limit"]), ("no_space", "free_mib_min"), "refusal")
    check_equal(int(refused.reply["allowed"]), 40 << 20, "allowed")
    check(int(refused.reply["used"]) <= 30 << 20, f"used {refused.reply}")
    check(int(refused.reply["retry_after_ms"]) > 0, "no retry_after_ms")
    answer = http.publish("orders", "over http")
    check_equal((answer.code, answer.refused["limit"]), (507, "free_mib_min"), "over HTTP")
    health = http.get("/health").json
    check_equal(health["status"], "yellow", f"health {health}")
    check("disk_low" in str(health["reasons"]), f"health {health}")
    check_equal(http.get("/v1/store").json["refuses_messages"], True, "refuses_messages")

    # Consumers go on, and the catalog too.
    session.attach("work")
    taken = len(session.take(50))
    check_equal([r[2] for r in session.settle("orders", "ack", ranges=[(1, taken)])], ["accepted"],
                "acks")
    http.make_topic("another")

    # A little more than the mark is not enough to go on, so that it does not go to and fro.
    ballast_to(disk, 44)
    for _ in range(15):
        check(try_publish(session)[0] is None, "publishing goes on just above the mark")
        time.sleep(0.1)
    ballast_to(disk, 60)
    wait_until(lambda: try_publish(session)[0], 20, "publishing to resume")
    wait_until(lambda: http.get("/health").json["status"] == "green", 10, "health green again")
    broker.wait_log("disk space is low .*free_mib_min=40")
    broker.wait_log("disk space is back")


@case(timeout=180)
def retention_makes_room_by_itself(env):
    """Several times what the disk holds goes through, with a group that reads nothing."""
    disk = small_disk(env, 192)
    broker = env.broker(data_dir=os.path.join(disk, "data"), config={
        "store": {"segment_mib": 16, "checkpoint_ms": 200, "free_mib_min": 16}})
    http = broker.http()
    http.must(http.post("/v1/topics", {"name": "orders", "keep": "limit",
                                       "keep_bytes_max": 48 << 20}), 201)
    http.make_group("work", "orders")
    session = broker.session()
    confirmed = refusals = 0
    while confirmed < 4000:
        try:
            session.publish("orders", ["x" * 100000] * 20)
            confirmed += 20
        except RefusedReply as refused:
            refusals += 1
            check_equal(refused.status, "no_space", "refusal")
            time.sleep(0.2)
            seq = int(http.get("/v1/topics/orders").json["last_seq"])
            confirmed = seq  # some of the request may have been taken
    shown = http.get("/v1/store").json
    check(int(shown["freed_bytes"]) > 4000 * 50000, f"freed {shown}")
    check(int(shown["disk_bytes"]) <= 176 << 20, f"on the disk {shown}")
    wait_until(lambda: http.get("/health").json["status"] == "green", 20, "health green")
    print(f"     {confirmed} messages of 100 kB through 192 MiB, {refusals} requests refused")


def fill_and_settle(env, free_mib_min):
    """A disk that is full of what a group has not read yet, until it does; three times."""
    disk = small_disk(env, 160)
    broker = env.broker(data_dir=os.path.join(disk, "data"), config={
        "store": {"segment_mib": 16, "checkpoint_ms": 200, "free_mib_min": free_mib_min}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    begin = 1
    for _ in range(3):
        confirmed, refused = fill(session)
        check_equal(refused.status, "no_space", "refusal")
        # At least most of one segment: the others are freed while these come.
        check(confirmed >= 100, f"only {confirmed} messages fit")
        last = int(http.get("/v1/topics/orders").json["last_seq"])
        reader = broker.session()
        reader.attach("work", credit_bytes=64 << 20, credit_messages=10000)
        for at in range(begin, last + 1, 50):
            end = min(at + 49, last)
            check_equal([d.seq for d in reader.take(end - at + 1)], list(range(at, end + 1)),
                        "deliveries")
            check_equal({r[2] for r in reader.settle("orders", "ack", ranges=[(at, end)])},
                        {"accepted"}, "acks")
        reader.close()
        begin = last + 1
        wait_until(lambda: try_publish(session)[0], 30, "publishing to resume")
    wait_until(lambda: http.get("/health").json["status"] == "green", 20, "health green")


@case(timeout=180)
def settling_makes_room_by_itself(env):
    fill_and_settle(env, 16)


@case(timeout=180)
def settling_makes_room_on_a_disk_without_any(env):
    """Without a low-water the log takes all there is, and comes back from there too."""
    fill_and_settle(env, 0)


main()
