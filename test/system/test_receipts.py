#!/usr/bin/env python3
"""Receipts: what a confirm says about the log is what the log holds."""
import glob
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Failed, case, check, check_equal, main

MASK = (1 << 64) - 1
HEADER_LEN, MESSAGE = 64, 1


class Log:
    """The files of a data folder, read by FORMAT.md."""

    def __init__(self, data_dir):
        self.segments = {}
        for path in glob.glob(os.path.join(data_dir, "**", "*.seg"), recursive=True):
            with open(path, "rb") as file:
                self.segments[int(os.path.basename(path)[:-4], 10)] = file.read().rstrip(b"\0") + bytes(64)

    def header(self, segment, offset):
        """(length, kind, seq, hash) of the record there."""
        length, kind = struct.unpack_from("<IB", self.segments[segment], offset)
        seq, = struct.unpack_from("<Q", self.segments[segment], offset + 16)
        digest, = struct.unpack_from("<Q", self.segments[segment], offset + 56)
        return length, kind, seq, digest

    def hashes(self, bodies):
        """{seq: hash} of the messages whose encoding holds one of the bodies."""
        found = {}
        for segment, data in self.segments.items():
            for body in bodies:
                at = data.find(body)
                while at >= 0:
                    for offset in range(at - HEADER_LEN - at % 8, at - HEADER_LEN - 64, -8):
                        length, kind, seq, digest = self.header(segment, offset)
                        if kind == MESSAGE and HEADER_LEN < length < 200 and seq:
                            found[seq] = digest
                            break
                    at = data.find(body, at + 1)
        return found


def fold(hashes):
    checksum = 0
    for digest in hashes:
        checksum = (checksum ^ digest) * 0x9E3779B97F4A7C15 & MASK
        checksum = (checksum << 31 | checksum >> 33) & MASK
    return checksum


def parsed(text):
    """(seq, count, segment, offset, checksum), with or without the topic."""
    parts = text.split(":")[-5:]
    return tuple(int(p) for p in parts[:4]) + (int(parts[4], 16),)


def check_receipt(log, hashes, receipt):
    seq, count, segment, offset, checksum = receipt
    _, kind, there, digest = log.header(segment, offset)
    check_equal((kind, there), (MESSAGE, seq), f"the record at {segment}:{offset}")
    check_equal(digest, hashes[seq], "its hash")
    check_equal(checksum, fold(hashes[s] for s in range(seq, seq + count)), f"checksum of {receipt}")


def check_covered(receipts, seqs):
    """Each message is in one receipt and no more."""
    covered = sorted(s for seq, count, *_ in receipts for s in range(seq, seq + count))
    check_equal(covered, sorted(seqs), "messages with a receipt")


def bodies_of(count, word="body"):
    return [f"<{word} {i:05}>" for i in range(count)]


def confirms_of(session, first, count):
    """The raw answers to a publish of ids first..first+count-1."""
    found = []
    while sum(int(r["count"]) for r in found) < count:
        reply = session.receive()
        check(first <= int(reply["id"]) < first + count, f"{reply}")
        found.append(reply)
    return found


@case(short=True, threads=True)
def every_confirm_says_where_its_messages_are(env):
    broker = env.broker()
    broker.http().make_topic("orders")
    session = broker.session()
    bodies = bodies_of(300)
    receipts = []
    for at in range(0, 300, 30):
        first = session.publish_start("orders", bodies[at:at + 30])
        receipts += [parsed(r["receipt"]) for r in confirms_of(session, first, 30)]
    check_covered(receipts, range(1, 301))
    log = Log(broker.data_dir)
    hashes = log.hashes([b.encode() for b in bodies])
    check_equal(len(hashes), 300, "messages found")
    for receipt in receipts:
        check_receipt(log, hashes, receipt)


@case(short=True)
def what_stands_behind_a_dropped_duplicate_has_its_right_place(env):
    """Old and new ones take turns in one batch."""
    broker = env.broker()
    broker.http().make_topic("orders")
    session = broker.session(producer=7)
    bodies = bodies_of(60)
    answers = []
    for begin, end in ((0, 10), (5, 20), (0, 30), (25, 26), (20, 60)):
        first = session.publish_start("orders", bodies[begin:end], begin + 1)
        answers.append((first, end - begin))
    replies = [r for first, count in answers for r in confirms_of(session, first, count)]
    stored = [r for r in replies if not r.get("duplicate")]
    check(len(stored) < len(replies), "nothing was a duplicate")
    check(all("receipt" not in r for r in replies if r.get("duplicate")),
          "a duplicate has a receipt")
    receipts = [parsed(r["receipt"]) for r in stored]
    check_covered(receipts, range(1, 61))
    log = Log(broker.data_dir)
    hashes = log.hashes([b.encode() for b in bodies])
    for receipt in receipts:
        check_receipt(log, hashes, receipt)


@case(short=True)
def http_and_the_command_line_show_them(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    one = http.post("/v1/topics/orders/messages", "<one>").json
    many = http.post("/v1/topics/orders/batch",
                     json.dumps({"messages": [{"body": b} for b in bodies_of(5)]})).json["results"]
    lines = broker.godwit("pub", "orders", "--receipts", "--quiet",
                          stdin="".join(b + "\n" for b in bodies_of(500, "line")).encode())
    lines = lines.stdout.decode().splitlines()
    check(all(line.startswith("orders:") for line in lines), f"{lines[:3]}")
    receipts = [parsed(t) for t in [one["receipt"]] + lines +
                [r["receipt"] for r in many if "receipt" in r]]
    check_covered(receipts, range(1, 507))
    log = Log(broker.data_dir)
    hashes = log.hashes([b.encode() for b in ["<one>"] + bodies_of(5) + bodies_of(500, "line")])
    for receipt in receipts:
        check_receipt(log, hashes, receipt)


@case(short=True, threads=True)
def they_hold_across_segments_and_a_restart(env):
    """Bodies large enough that batches and segments end in the middle of publishes."""
    broker = env.broker()
    broker.http().make_topic("orders")
    session = broker.session()
    bodies = [f"<{i:05}>".ljust(100_000, "x") for i in range(env.size(1000))]
    waiting, receipts = [], []
    for at in range(0, len(bodies), 20):
        waiting.append((session.publish_start("orders", bodies[at:at + 20]), len(bodies[at:at + 20])))
    for first, count in waiting:
        receipts += [parsed(r["receipt"]) for r in confirms_of(session, first, count)]
    check_covered(receipts, range(1, len(bodies) + 1))
    broker.restart()  # not killed: a recovery may write the last batch again elsewhere
    log = Log(broker.data_dir)
    if not env.sanitized:
        check(len({segment for _, _, segment, *_ in receipts}) > 1, "all in one segment")
    places = sorted((segment, offset, seq) for seq, _, segment, offset, _ in receipts)
    check_equal([seq for *_, seq in places], sorted(seq for *_, seq in places), "order in the log")
    for seq, _, segment, offset, _ in receipts:
        check_equal(log.header(segment, offset)[1:3], (MESSAGE, seq), f"{segment}:{offset}")


@case()
def a_wrong_offset_or_checksum_is_noticed(env):
    """The check itself: one bit in either."""
    broker = env.broker()
    broker.http().make_topic("orders")
    session = broker.session()
    first = session.publish_start("orders", bodies_of(3))
    seq, count, segment, offset, checksum = parsed(confirms_of(session, first, 3)[0]["receipt"])
    log = Log(broker.data_dir)
    hashes = log.hashes([b.encode() for b in bodies_of(3)])
    for wrong in ((seq, count, segment, offset + 8, checksum), (seq, count, segment, offset, checksum ^ 1),
                  (seq, count - 1, segment, offset, checksum)):
        try:
            check_receipt(log, hashes, wrong)
        except Failed:
            continue
        raise Failed(f"nobody noticed {wrong}")


if __name__ == "__main__":
    main()
