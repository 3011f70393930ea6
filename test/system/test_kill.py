#!/usr/bin/env python3
"""kill -9 in mid-stream, with ledgers. What was confirmed is there, what was
accepted as acked does not come back, what was sent twice is stored once."""
import json
import os
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

import orders
from harness import Failed, case, check, check_equal, main, wait_until
from http_api import Http
from session import Gap, Session
from websocket import Closed, Refused

GONE = (Closed, Refused, OSError, EOFError, TimeoutError)


def with_reconnect(ledger, connect, work):
    """Call work(connection) until it returns; again when the broker went away."""
    while not ledger.stop.is_set():
        connection = None
        try:
            connection = connect()
            work(connection)
            return
        except GONE:
            time.sleep(0.02)
        except Exception as error:
            if type(error).__module__ != "http.client":
                ledger.faults.append(repr(error))
                return
            time.sleep(0.02)
        finally:
            if connection is not None:
                connection.close()


class Ledger:
    """What a client knows, in the order it learnt it."""

    def __init__(self):
        self.stop = threading.Event()
        self.faults = []


class Publisher(Ledger):
    """Window of batches under one producer; sends again what was not confirmed."""

    BATCH = 50

    def __init__(self, broker, topic, bodies, producer):
        super().__init__()
        self.broker, self.topic, self.bodies, self.producer = broker, topic, bodies, producer
        self.seqs = {}  # index -> seq, once confirmed
        self.duplicates = 0
        self.confirmed = 0  # all before this index are

    def run(self):
        with_reconnect(self, lambda: Session(self.broker, producer=self.producer), self.work)

    def work(self, session):
        sent = self.confirmed
        waiting = []
        while self.confirmed < len(self.bodies) and not self.stop.is_set():
            while len(waiting) < 10 and sent < len(self.bodies):
                count = min(self.BATCH, len(self.bodies) - sent)
                first = session.publish_start(self.topic, self.bodies[sent:sent + count], sent + 1)
                waiting.append((first, sent, count))
                sent += count
            first, at, count = waiting.pop(0)
            for i, confirm in enumerate(session.publish_end(first, count)):
                self.duplicates += confirm.duplicate
                if confirm.seq or not confirm.duplicate:
                    old = self.seqs.setdefault(at + i, confirm.seq)
                    if old != confirm.seq:
                        self.faults.append(f"message {at + i} confirmed as {old} and {confirm.seq}")
            self.confirmed = at + count


class Consumer(Ledger):
    """Remembers bodies by seq, and which seqs the broker accepted as acked."""

    def __init__(self, broker, group, topic):
        super().__init__()
        self.broker, self.group, self.topic = broker, group, topic
        self.bodies = {}
        self.accepted = set()
        self.redelivered = 0

    def took(self, seq, body):
        if seq in self.accepted:
            self.faults.append(f"{self.group}: {seq} came back after its ack was accepted")
        if seq in self.bodies:
            self.redelivered += 1
            if self.bodies[seq] != body:
                self.faults.append(f"{self.group}: {seq} has changed")
        self.bodies[seq] = body

    def settled(self, ranges):
        for first, last, outcome, _ in ranges:
            if outcome == "accepted":
                self.accepted.update(range(first, last + 1))


class Pusher(Consumer):
    def run(self):
        with_reconnect(self, lambda: Session(self.broker), self.work)

    def work(self, session):
        session.attach(self.group, credit_messages=300)
        while not self.stop.is_set():
            try:
                got = [session.next(0.2)]
            except TimeoutError:
                continue
            while session.deliveries and len(got) < 100:
                got.append(session.next())
            for delivery in got:
                if isinstance(delivery, Gap):
                    self.faults.append(f"{self.group}: {delivery}")
                else:
                    self.took(delivery.seq, delivery.body)
            self.settled(session.ack(self.topic, *[d.seq for d in got]))


class Puller(Consumer):
    def run(self):
        with_reconnect(self, lambda: Http(self.broker), self.work)

    def work(self, http):
        while not self.stop.is_set():
            lease, messages, gaps = http.pull(self.group, most=200, wait=1)
            self.faults += [f"{self.group}: {gap}" for gap in gaps]
            for m in messages:
                self.took(int(m["seq"]), m["body"].encode())
            if messages:
                done = http.settle(self.group, lease, self.topic,
                                   seqs=[m["seq"] for m in messages])
                self.settled([(int(r["first"]), int(r["last"]), r["outcome"], 0) for r in done])


def start(env, *ledgers):
    threads = [threading.Thread(target=ledger.run, daemon=True) for ledger in ledgers]
    for thread in threads:
        thread.start()

    def end():
        for ledger in ledgers:
            ledger.stop.set()
        for thread in threads:
            thread.join(30)
    env.at_end(end)
    return end


def kill_rounds(env, rows, kills, workers, while_down=lambda broker, number: None):
    broker = env.broker(config={"workers": workers, "store": {"checkpoint_ms": 200}})
    http = broker.http()
    http.make_topic("orders")
    for group in ("push", "pull"):
        http.make_group(group, "orders", lease_ms=1000)
    bodies = orders.rows(rows, seed=kills)
    publisher = Publisher(broker, "orders", bodies, producer=77)
    pusher, puller = Pusher(broker, "push", "orders"), Puller(broker, "pull", "orders")
    everyone = (publisher, pusher, puller)
    end = start(env, *everyone)

    def faults():
        return [fault for ledger in everyone for fault in ledger.faults]
    for number in range(kills):
        mark = rows * (number + 1) // (kills + 1)
        wait_until(lambda: publisher.confirmed >= mark or faults(), 60, f"{mark} confirms")
        check(not faults(), "\n".join(faults()[:10]))
        broker.kill()
        time.sleep(0.05 * (number % 3))
        while_down(broker, number)
        broker.start()
    wait_until(lambda: publisher.confirmed == rows or faults(), 60, "all confirms")
    wait_done(broker.http(), rows, faults)
    time.sleep(3)  # longer than lease and backoff: what still comes back would come now
    end()
    check(not faults(), "\n".join(faults()[:10]))
    judge(broker, publisher, (pusher, puller), bodies)


def wait_done(http, rows, faults):
    """Until the books say that all is acked. A kill may have swallowed an answer
    to an ack that is on disk, so the clients need not know of each."""
    lanes = {}

    def done():
        for group in ("push", "pull"):
            lanes[group] = http.must(http.get(f"/v1/groups/{group}")).json["lanes"][0]
        return faults() or all(int(lane["acked"]) == rows for lane in lanes.values())
    try:
        wait_until(done, 60)
    except AssertionError:
        raise AssertionError(f"not all of {rows} acked: {lanes}")


def judge(broker, publisher, consumers, bodies):
    check_equal(len(publisher.seqs), len(bodies), "confirms with a seq")
    check_equal(sorted(publisher.seqs.values()), list(range(1, len(bodies) + 1)), "confirmed seqs")
    for consumer in consumers:
        check_equal(len(consumer.bodies), len(bodies), f"messages of {consumer.group}")
        for index, seq in publisher.seqs.items():
            if consumer.bodies.get(seq) != bodies[index].encode():
                raise AssertionError(f"{consumer.group}: {seq} is {consumer.bodies.get(seq)!r}, "
                                     f"want {bodies[index]!r}")
    topic = broker.http().get("/v1/topics/orders").json
    check_equal(int(topic["last_seq"]), len(bodies), "last seq")
    log = broker.log()
    check("recover" in log, "no word about the recovery in the log")


@case(short=True, threads=True, timeout=180)
def three_kills_lose_nothing_and_double_nothing(env):
    kill_rounds(env, env.size(20000), 3, workers=1)


@case(timeout=180)
def three_kills_with_two_workers(env):
    kill_rounds(env, env.size(10000), 3, workers=2)


@case(long=True, timeout=180)
def the_ledgers_notice_a_broker_that_forgets(env):
    """A disk that goes back to what it was one kill before: these tests must fail on it.
    It needs confirms between the two kills, which a fast machine may have had before the
    first; so it has many rows, and is long."""
    kept = env.path("kept")

    def go_back(broker, number):
        if number == 0:
            shutil.copytree(broker.data_dir, kept)
        elif number == 1:
            shutil.rmtree(broker.data_dir)
            shutil.copytree(kept, broker.data_dir)
    try:
        kill_rounds(env, 40000, 2, 1, while_down=go_back)
    except AssertionError:
        return
    raise Failed("confirmed messages were taken away, and nobody noticed")


@case(long=True, timeout=900)
def forty_kills(env):
    kill_rounds(env, env.size(60000), 40, workers=2)


@case(timeout=180)
def the_command_line_rides_through_three_kills(env):
    broker = env.broker()
    count = env.size(19999)
    lines = orders.rows(count, seed=9)
    broker.godwit("topic", "create", "orders")
    for group in ("push", "pull"):
        broker.godwit("group", "create", group, "--topics", "orders", "--lease", "2")
    pub = broker.godwit_start("pub", "orders", "--format", "csv", "--key-field", "order_id",
                              stdin=-1)
    outs = []
    # By time and not by count: what was written and not yet acked comes twice.
    for words in (["sub", "push", "--json", "--idle", "8"], ["pull", "pull", "--json", "--wait", "8"]):
        out = open(env.path(words[0] + ".out"), "wb")
        env.at_end(out.close)
        outs.append((broker.godwit_start(*words, stdout=out), out.name))
    data = orders.csv(lines)
    quarter = len(data) // 4
    for number in range(4):
        pub.stdin.write(data[number * quarter:(number + 1) * quarter if number < 3 else None])
        pub.stdin.flush()
        if number < 3:
            time.sleep(0.1)
            broker.kill()
            time.sleep(0.1)
            broker.start()
    pub.stdin.close()
    check_equal(pub.wait(90), 0, "exit code of pub")
    check_equal(int(broker.http().get("/v1/topics/orders").json["last_seq"]), count, "last seq")
    for process, path in outs:
        said = process.communicate(timeout=90)[1].decode()
        check(process.returncode in (0, 1), f"{path}: exit code {process.returncode}: {said}")
        with open(path) as file:
            got = {int(d["seq"]): d["body"] for d in map(json.loads, file)}
        check_equal([got[seq] for seq in sorted(got)], lines, f"bodies in {os.path.basename(path)}")
    for group in ("push", "pull"):
        lane = broker.http().get(f"/v1/groups/{group}").json["lanes"][0]
        check_equal(int(lane["acked"]), count, f"acked of {group}: {lane}")


@case(short=True, threads=True)
def a_resent_publish_is_stored_once_across_a_restart(env):
    broker = env.broker()
    broker.http().make_topic("orders")
    session = broker.session(producer=5)
    first = session.publish("orders", ["a", "b", "c"], producer_seq=1)
    broker.kill()
    broker.start()
    session = broker.session(producer=5)
    again = session.publish("orders", ["a", "b", "c", "d"], producer_seq=1)
    check_equal([c.duplicate for c in again], [True, True, True, False], "duplicate flags")
    check_equal(again[3].seq, first[2].seq + 1, "seq of the new one")
    other = broker.session(producer=6)
    check_equal(other.publish("orders", ["a"], producer_seq=1)[0].duplicate, False,
                "same seq, other producer")


main()
