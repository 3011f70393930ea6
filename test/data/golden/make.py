#!/usr/bin/env python3
"""Makes the golden stores of a format version, with a build that writes it:

    make.py --build build/release v3

Each is DIR of a broker's data in NAME.tar.xz, and NAME.txt, which says what a
client was told that it holds: lines of words with tabs between them.

    app NAME                     each app
    topic NAME LAST [FIRST]      and its last seq; those below FIRST are deleted
    deleted topic|group|app NAME
    group NAME
    message TOPIC SEQ KEY HEADERS BODY
                                 KEY and HEADERS (NAME=VALUE;...) may be "-";
                                 BODY is COUNT*TEXT: that often that text
    lane GROUP TOPIC SETTLED RETRIES [DEAD EXPIRED FILTERED DISCARDED AFTER]
                                 SETTLED 1-3,7 and RETRIES 8x2 (8 failed twice),
                                 "-" for none; how many were filtered and
                                 discarded; AFTER: where a seek began anew
    history GROUP TOPIC SEQ FAILURES
                                 ATTEMPTS:CAUSE:REASON;..., oldest first
    id TOPIC TEXT SEQ            that message id was stored there
    producer APP ID NUMBER TOPIC SEQ
                                 that number of that producer was stored there

A store of a version that was released is never made again: it is what such a
build left behind, and every later one must read it.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../lib"))

from broker import Broker
from harness import wait_until

HOUR_MS = 3600 * 1000


class Place:
    """As much of a test's environment as a broker wants."""
    sanitized = False

    def __init__(self, build, tmp):
        self.godwitd = os.path.join(build, "broker", "godwitd")
        self.godwit = os.path.join(build, "tools", "godwit", "godwit")
        self.tmp = tmp
        self.brokers = []

    def path(self, *parts):
        return os.path.join(self.tmp, *parts)


class Golden:
    def __init__(self, place, name):
        self.name = name
        self.retention = not name.startswith("v1-")
        self.dead_letters = self.retention and not name.startswith("v2-")
        self.broker = Broker(place, config={"store": {"segment_mib": 16}, "workers": 1},
                             data_dir=place.path(name))
        self.lines = []
        self.last = {}
        self.first = {}
        self.lanes = {}
        self.letters = {}
        self.broker.start()
        self.http = self.broker.http()

    def tell(self, *words):
        self.lines.append("\t".join(str(word) for word in words))

    def again(self, kill=True):
        """Another life: a new segment and epoch after kill -9."""
        self.http.close()
        self.broker.kill() if kill else self.broker.stop()
        self.broker.start()
        self.http = self.broker.http()

    def publish(self, topic, messages, producer=None, number=None, app=None, secret=None):
        """Messages are (key, headers, count, text)."""
        session = self.broker.session(producer=producer, app=app, secret=secret)
        sent = []
        for key, headers, count, text in messages:
            message = {"body": text * count}
            if key:
                message["key"] = key
            if headers:
                message["headers"] = headers
            sent.append(message)
        confirms = session.publish(topic, sent, producer_seq=number)
        session.close()
        for i, (message, confirm) in enumerate(zip(messages, confirms)):
            key, headers, count, text = message
            self.last[topic] = confirm.seq
            shown = ";".join(f"{k}={v}" for k, v in headers.items())
            self.tell("message", topic, confirm.seq, key or "-", shown or "-", f"{count}*{text}")
            if producer is not None:
                self.tell("producer", app or "admin", producer, number + i, topic, confirm.seq)

    def settle(self, group, topic, acks, nacks=()):
        """Pull as many as there are numbers in both, and settle each as told."""
        lease, got, _ = self.http.pull(group, len(acks) + len(nacks), 5)
        seqs = sorted(int(m["seq"]) for m in got)
        assert seqs == sorted([*acks, *nacks]), f"{group} {topic}: pulled {seqs}"
        settled, retries = self.lanes.setdefault((group, topic), (set(), {}))
        for action, which, delay in (("ack", acks, 0), ("nack", nacks, 100 * HOUR_MS)):
            if which:
                ranges = self.http.settle(group, lease, topic, action, seqs=[str(s) for s in which],
                                          delay_ms=str(delay))
                assert all(r["outcome"] == "accepted" for r in ranges), ranges
        settled.update(acks)
        for seq in nacks:
            retries[seq] = retries.get(seq, 0) + 1

    def settle_out_of_order(self, group, topic, first, last, acks):
        """Pull first..last, ack only some; the others are given back."""
        lease, got, _ = self.http.pull(group, last - first + 1, 5)
        assert [int(m["seq"]) for m in got] == list(range(first, last + 1)), got
        rest = [str(s) for s in range(first, last + 1) if s not in acks]
        self.http.settle(group, lease, topic, "ack", seqs=[str(s) for s in acks])
        self.http.settle(group, lease, topic, "release", seqs=rest)
        self.lanes.setdefault((group, topic), (set(), {}))[0].update(acks)

    def keeps(self, topic, count):
        """Wait until only so many are left."""
        first = self.last[topic] - count + 1
        wait_until(lambda: int(self.http.get(f"/v1/topics/{topic}").json["first_seq"]) == first,
                   30, f"{topic} begins at {first}")
        self.first[topic] = first

    def finish(self, kill):
        for topic, last in self.last.items():
            first = self.first.get(topic, 1)
            self.tell("topic", topic, last, *([first] if first > 1 else []))
            self.lines = [line for line in self.lines if not below(line, topic, first)]
        for (group, topic), (settled, retries) in self.lanes.items():
            shown = ",".join(f"{seq}x{times}" for seq, times in sorted(retries.items()))
            self.tell("lane", group, topic, ranges_text(settled), shown or "-",
                      *self.letters.get((group, topic), []))
        self.http.close()
        self.broker.kill() if kill else self.broker.stop()
        with open(os.path.join(HERE, self.name + ".txt"), "w") as file:
            file.write("\n".join(self.lines) + "\n")
        pack(self.broker.data_dir, os.path.join(HERE, self.name + ".tar.xz"))


def below(line, topic, first):
    """Is it about a message that is deleted?"""
    words = line.split("\t")
    at = {"message": 1, "producer": 4}.get(words[0])
    return at is not None and words[at] == topic and int(words[at + 1]) < first


def ranges_text(numbers):
    parts, rest = [], sorted(numbers)
    while rest:
        first = last = rest.pop(0)
        while rest and rest[0] == last + 1:
            last = rest.pop(0)
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts) or "-"


def pack(data_dir, path):
    """Zeros are left out: most of a segment is not written yet."""
    tar = subprocess.run(["tar", "--create", "--sparse", "--hole-detection=raw", "--sort=name",
                          "--owner=0", "--group=0", "--mtime=@0", "--mode=u+rwX,go=",
                          "--directory", data_dir, "."], stdout=subprocess.PIPE, check=True)
    with open(path, "wb") as file:
        subprocess.run(["xz", "-9e"], input=tar.stdout, stdout=file, check=True)
    print(f"{os.path.basename(path)}: {os.path.getsize(path)} bytes")


def fill(g):
    """What both stores of a version hold."""
    g.tell("app", "admin")
    shop = g.http.make_app("shop", publish=["orders", "trade.*"])
    g.tell("app", "shop")
    for topic in ("orders", "trade.eu", "trade.us", "bulk", "gone"):
        g.http.make_topic(topic)
        g.last[topic] = 0
    for group, topics in (("billing", ["orders"]), ("stock", ["orders", "trade.*", "bulk"]),
                          ("idle", ["bulk"]), ("leaver", ["orders"])):
        g.http.make_group(group, topics)
        if group != "leaver":
            g.tell("group", group)
    g.publish("orders", [(f"order-{i}", {"n": str(i), "state": "created"}, 1, f"order number {i}")
                         for i in range(1, 31)])
    g.publish("orders", [(None, {}, 0, "x"), ("schlüssel", {"x-ü": "ß"}, 3, "grüße ")],
              app="shop", secret=shop)
    g.publish("trade.eu", [("DAX", {}, 1, f"eu {i}") for i in range(1, 21)], producer=7, number=1)
    g.publish("gone", [(None, {}, 1, "nobody will read this")])
    del g.last["gone"]
    g.lines = [line for line in g.lines if not line.startswith("message\tgone\t")]
    g.settle("billing", "orders", acks=list(range(1, 11)))
    g.settle("billing", "orders", acks=[11, 13], nacks=[12, 14])
    g.http.must(g.http.delete("/v1/topics/gone"))
    g.tell("deleted", "topic", "gone")
    g.http.must(g.http.delete("/v1/groups/leaver"))
    g.tell("deleted", "group", "leaver")


def more(g):
    """In the next life."""
    g.publish("trade.eu", [("DAX", {}, 1, f"eu {i}") for i in range(21, 26)], producer=7,
              number=21)
    g.publish("trade.us", [(None, {"desk": "7"}, 1, f"us {i}") for i in range(1, 6)], producer=8,
              number=100, app=None)
    g.settle_out_of_order("billing", "orders", 15, 20, [16, 18])
    g.publish("orders", [(f"order-{i}", {}, 1, f"order number {i}") for i in range(33, 41)])


def trim(g):
    """A topic that keeps its last three messages; trims are in the log."""
    g.http.must(g.http.post("/v1/topics", {"name": "audit", "keep": "limit",
                                           "keep_count_max": "3"}))
    g.publish("audit", [(None, {}, 1, f"audit {i}") for i in range(1, 11)])
    g.keeps("audit", 3)


def merge(g):
    """Segments that are nearly dead: what lives in them is moved, they are removed."""
    g.http.must(g.http.post("/v1/topics", {"name": "junk", "keep": "limit",
                                           "keep_count_max": "2"}))

    def merged():
        for _ in range(10):
            g.publish("junk", [(None, {}, 20000, "junk 4567.")] * 10)
        shown = g.http.get("/v1/store").json
        return int(shown["freed_bytes"]) > 0 and int(shown["moved_bytes"]) > 0

    wait_until(merged, 60, "a merge")
    g.keeps("junk", 2)


def publish_objects(g, topic, messages, atomic=False):
    """Ready messages, with ids and what else version 3 has."""
    session = g.broker.session()
    first = session.next_id(len(messages))
    session.send({"type": "publish", "id": str(first), "topic": topic, "messages": messages,
                  "atomic": atomic})
    confirms = session.publish_end(first, len(messages))
    session.close()
    for message, confirm in zip(messages, confirms):
        g.last[topic] = confirm.seq
        headers = ";".join(f"{k}={v}" for k, v in message.get("headers", {}).items())
        g.tell("message", topic, confirm.seq, "-", headers or "-", f"1*{message['body']}")
        if "id" in message:
            g.tell("id", topic, message["id"], confirm.seq)


def letters(g):
    """Dead letters, what a filter or its time kept away, seeks, ids and a chain."""
    g.http.make_topic("mail")
    for group, more_of_it in (("post", {}), ("german", {"filter": 'region == "de"'}),
                              ("again", {})):
        g.http.make_group(group, ["mail"], **more_of_it)
        g.tell("group", group)
    publish_objects(g, "mail", [{"id": f"m-{i}", "body": f"mail {i}",
                                 "headers": {"region": "de" if i % 3 == 0 else "fr"}}
                                for i in range(1, 11)])
    publish_objects(g, "mail", [{"body": f"one of three: {i}"} for i in range(3)], atomic=True)
    publish_objects(g, "mail", [{"body": "too late", "ttl_ms": "1"}])
    time.sleep(0.1)
    lease, got, _ = g.http.pull("post", 100, 5)
    assert [int(m["seq"]) for m in got] == list(range(1, 14)), got
    for action, seqs, how in (("ack", [1, 7, 8], {}),
                              ("reject", [2, 3, 4], {"reason": "no such street"}),
                              ("nack", [5], {"reason": "nobody in", "delay_ms": 100 * HOUR_MS}),
                              ("release", [6, 9, 10, 11, 12, 13], {})):
        answer = g.http.settle("post", lease, "mail", action, seqs=[str(s) for s in seqs], **how)
        assert all(r["outcome"] == "accepted" for r in answer), answer
    operate(g, "redrive", "post", seqs=["3"])
    operate(g, "discard", "post", ranges=[["4", "4"]])
    g.lanes["post", "mail"] = ({1, 4, 7, 8, 14}, {5: 1})
    g.letters["post", "mail"] = ["2", "14", 0, 1, "-"]
    for seq in (2, 3):
        g.tell("history", "post", "mail", seq, "1:4:no such street")
    g.tell("history", "post", "mail", 5, "1:1:nobody in")
    g.tell("history", "post", "mail", 6, "-")
    settle_all(g, "german", [3, 6, 9])
    g.lanes["german", "mail"] = (set(range(1, 15)), {})
    g.letters["german", "mail"] = ["-", "14", 10, 0, "-"]
    settle_all(g, "again", list(range(1, 14)))
    g.http.must(g.http.post("/v1/groups/again/seek", {"topic": "mail", "seq": "6"}))
    g.lanes["again", "mail"] = (set(range(1, 6)), {})
    g.letters["again", "mail"] = ["-", "-", 0, 0, 5]


def operate(g, what, group, **which):
    """Redrive or discard, to its end."""
    g.http.must(g.http.post(f"/v1/groups/{group}/{what}", {"topic": "mail", **which}))
    if what == "redrive":
        wait_until(lambda: g.http.get(f"/v1/groups/{group}/redrive").json["job"] == "done",
                   20, "the redrive")


def settle_all(g, group, seqs):
    lease, got, _ = g.http.pull(group, 100, 5)
    assert [int(m["seq"]) for m in got] == seqs, got
    g.http.settle(group, lease, "mail", "ack", seqs=[str(s) for s in seqs])


def clean(place, name):
    """Ended in order, with a segment that is full and sealed."""
    g = Golden(place, name)
    fill(g)
    g.again()
    more(g)
    for i in range(20):
        g.publish("bulk", [(None, {}, 100000, f"bulk {i:04}.")])
    g.settle("idle", "bulk", acks=[1])
    if g.retention:
        trim(g)
        merge(g)
    if g.dead_letters:
        letters(g)
    g.again(kill=False)
    g.publish("trade.us", [(None, {}, 1, "the last")])
    g.finish(kill=False)


def killed(place, name):
    """Ended by kill -9, with messages in flight."""
    g = Golden(place, name)
    fill(g)
    g.again()
    more(g)
    if g.retention:
        trim(g)
    if g.dead_letters:
        letters(g)
    g.http.pull("stock", 4, 5)
    g.publish("trade.us", [(None, {}, 1, "the last")])
    g.finish(kill=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("version", help="of the format that the build writes: v3")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="godwit-golden-") as tmp:
        place = Place(os.path.realpath(options.build), tmp)
        try:
            clean(place, options.version + "-clean")
            killed(place, options.version + "-killed")
        finally:
            for broker in place.brokers:
                broker.finish()


main()
