#!/usr/bin/env python3
"""verify, dump, backup and restore: commands that read a data folder themselves."""
import base64
import glob
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

import blocks
from broker import Broker, die_with_parent
from harness import TOP, Failed, Skip, case, check, check_equal, check_in, main, wait_until

GOLDEN = os.path.join(TOP, "test/data/golden")
FINE, DAMAGE, FAILED, INTERRUPTED = 0, 1, 2, 130


# --- helpers ---

def godwit(env, *words, code=FINE, **options):
    """Run the command line without a broker; (stdout, stderr) as text."""
    done = subprocess.run([env.godwit, *words], capture_output=True, timeout=120,
                          preexec_fn=options.pop("preexec_fn", die_with_parent), **options)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode != code:
        raise Failed(f"godwit {' '.join(words)}: exit code {done.returncode}, want {code}\n"
                     f"{out[-1500:]}\n{err[-1500:]}")
    for fault in ("Sanitizer", "runtime error", "check failed"):
        check(fault not in err, err[-3000:])
    return out, err


def verify(env, folder, code=FINE):
    return json.loads(godwit(env, "verify", folder, "--json", code=code)[0])


def dump(env, folder, *options, code=FINE):
    return [json.loads(line) for line in
            godwit(env, "dump", folder, *options, code=code)[0].splitlines()]


def content(folder):
    """Every file but locks, to see that nothing was changed."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in sorted(names):
            if "lock" not in name and name != "store.hold":
                with open(os.path.join(base, name), "rb") as file:
                    found[os.path.join(base, name)] = hash(file.read())
    return found


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def by_name(rows, name):
    found = [row for row in rows if row["name"] == name]
    check_equal(len(found), 1, f"rows of {name}")
    return found[0]


def filled(env, count=100, **options):
    """A broker with `count` orders, ten a batch, and a group that acked 1 to 30 and nacked 35."""
    broker = env.broker(config={"store": {"segment_mib": 16}}, **options)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    for at in range(0, count, 10):
        session.publish("orders", [body_of(at + i + 1) for i in range(10)])
    session.close()
    lease, got, _ = http.pull("work", 40, 5)
    check_equal(len(got), min(40, count), "pulled")
    if count < 40:
        return broker
    http.settle("work", lease, "orders", "ack", ranges=[["1", "30"]])
    http.settle("work", lease, "orders", "nack", seqs=["35"], delay_ms="1")
    http.settle("work", lease, "orders", "release", ranges=[["31", "34"], ["36", "40"]])
    http.close()
    return broker


def body_of(seq):
    return f"<<order {seq:06}>> " + "z" * 100


def stopped(env, **options):
    broker = filled(env, **options)
    broker.stop()
    return broker


def on(env, folder):
    """A broker on that folder, which must start."""
    return env.broker(data_dir=folder)


def delivered(broker, group, count, seconds=20):
    """{(topic, seq): delivery} of exactly `count`, and no more after them."""
    session = broker.session()
    session.attach(group, credit_messages=count + 1000, credit_bytes=64 << 20)
    got = {(d.topic, d.seq): d for d in session.take(count, seconds)}
    check_equal(len(got), count, "different deliveries")
    check(session.none_comes(0.3), f"{group}: more than {count} messages come")
    session.close()
    return got


# --- golden stores ---

class Golden:
    """What a manifest of test/data/golden says."""

    def __init__(self, env, name):
        self.folder = env.path(name)
        self.messages, self.lanes, self.topics, self.letters = {}, {}, {}, {}
        os.mkdir(self.folder)
        subprocess.run(["tar", "-xJf", os.path.join(GOLDEN, name + ".tar.xz"), "-C", self.folder],
                       check=True)
        with open(os.path.join(GOLDEN, name + ".txt")) as file:
            for line in file:
                self.read(line.rstrip("\n").split("\t"))

    def read(self, words):
        if words[0] == "topic":
            self.topics[words[1]] = (int(words[2]), int(words[3]) if len(words) > 3 else 1)
        elif words[0] == "lane":
            self.lanes[words[1], words[2]] = (numbers(words[3]), retries(words[4]))
            if len(words) > 5:
                self.letters[words[1], words[2]] = (
                    len(numbers(words[5])), len(numbers(words[6])), int(words[7]), int(words[8]),
                    None if words[9] == "-" else int(words[9]))
        elif words[0] == "message":
            count, text = words[5].split("*", 1)
            headers = {} if words[4] == "-" else dict(h.split("=") for h in words[4].split(";"))
            key = "" if words[3] == "-" else words[3]
            self.messages[words[1], int(words[2])] = (key, headers, text * int(count))


def numbers(text):
    found = set()
    for part in text.split(",") if text != "-" else []:
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def retries(text):
    pairs = [part.split("x") for part in text.split(",")] if text != "-" else []
    return {int(seq): int(times) for seq, times in pairs}


def goldens(env):
    names = sorted(os.path.basename(p)[:-4] for p in glob.glob(os.path.join(GOLDEN, "v*.txt")))
    check(len(names) >= 2, f"golden stores: {names}")
    return [Golden(env, name) for name in names]


@case(short=True)
def golden_stores_are_verified(env):
    for golden in goldens(env):
        before = content(golden.folder)
        report = verify(env, golden.folder)
        for topic, (last, first) in golden.topics.items():
            row = by_name(report["topics"], topic)
            present = sum(1 for t, _ in golden.messages if t == topic)
            check_equal((row["published"], row["present"], row["deleted"], row["missing"]),
                        (last, present, first - 1, 0), f"{golden.folder} {topic}")
        check_equal({(l["group"], l["topic"]): (l["dead"], l["expired"], l["filtered"],
                                                l["discarded"], l.get("after_seq"))
                     for l in report["lanes"] if (l["group"], l["topic"]) in golden.letters},
                    golden.letters, "dead letters")
        check_equal({(l["group"], l["topic"]): (l["settled"], l["retries"])
                     for l in report["lanes"] if l["settled"] or l["retries"]},
                    {names: (len(s), len(r)) for names, (s, r) in golden.lanes.items()}, "lanes")
        check_equal(content(golden.folder), before, "the folder afterwards")


@case(short=True)
def golden_stores_are_dumped(env):
    for golden in goldens(env):
        found = {}
        for line in dump(env, golden.folder, "--kind", "message"):
            if line["seq"] >= golden.topics.get(line["topic"], (0, line["seq"] + 1))[1]:
                found[line["topic"], line["seq"]] = (line.get("key", ""), line.get("headers", {}),
                                                     line["body"])
        check_equal(found, golden.messages, golden.folder)


@case(short=True)
def a_broker_goes_on_with_a_golden_store(env):
    """Each group gets what it had not settled, as it was, and nothing else."""
    for golden in goldens(env):
        broker = on(env, golden.folder)
        settled, failed = golden.lanes["billing", "orders"]
        wanted = {names: message for names, message in golden.messages.items()
                  if names[0] == "orders" and names[1] not in settled}
        # Those that failed come when their delay is over: nobody has so much time here.
        got = delivered(broker, "billing", len(wanted) - len(failed))
        for names, delivery in got.items():
            key, headers, body = wanted[names]
            check_equal((delivery.key, delivery.headers, delivery.body.decode()),
                        (key, headers, body), f"{names}")
        lane = broker.http().get("/v1/groups/billing").json["lanes"][0]
        check(lane["balanced"], f"books {lane}")
        broker.stop()
        check(verify(env, golden.folder)["fine"], "after the broker")


# --- newer versions ---

def newer_line(text, found, name):
    check_in("newer", text, f"{name}: the line")
    check_in(str(found), text, f"{name}: the version found")
    check_in("up to", text, f"{name}: the version it can read")


def with_data(files):
    """All but the spare files, which have none: a start may drop them before it knows."""
    return {path: data for path, data in files.items() if not path.endswith(".pool")}


@case(short=True)
def a_newer_store_is_refused_by_everybody(env):
    """The format file, the head of a segment, the snapshot."""
    folder = Golden(env, "v3-clean").folder
    broker = env.broker(start=False, data_dir=folder)
    for path in (os.path.join(folder, "format"), os.path.join(folder, "snapshot"),
                 blocks.segments(folder)[0]):
        name = os.path.basename(path)
        kept = blocks.make_version(path, 4)
        before = content(folder)
        for words in (["verify"], ["dump"], ["backup", env.path("never")]):
            _, err = godwit(env, words[0], folder, *words[1:], code=FAILED)
            newer_line(err, 4, f"{words[0]} of {name}")
        check(not os.path.exists(env.path("never")), "a backup was begun")
        broker.spawn()
        check(broker.wait_exit() > 0, f"{name}: the broker started")
        newer_line(broker.log(), 4, f"godwitd of {name}")
        check_equal(with_data(content(folder)), with_data(before), f"{name}: the folder afterwards")
        blocks.put_back(path, kept)
    broker.start()


@case(short=True)
def a_keydir_of_another_version_is_made_again(env):
    golden = Golden(env, "v2-clean")
    path = os.path.join(golden.folder, "keydir", "data.mdb")
    with open(path, "r+b") as file:
        whole = file.read()
        at = whole.find(b"GDWTKEY1")
        while at >= 0:
            file.seek(at + 8)
            file.write(struct.pack("<I", 99))
            at = whole.find(b"GDWTKEY1", at + 1)
    broker = on(env, golden.folder)
    settled, failed = golden.lanes["billing", "orders"]
    delivered(broker, "billing", golden.topics["orders"][0] - len(settled) - len(failed))


@case(short=True)
def a_newer_backup_is_refused(env):
    broker = stopped(env, count=10)
    copy = env.path("copy")
    godwit(env, "backup", broker.data_dir, copy)
    path = os.path.join(copy, "backup")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("godwit backup 1", "godwit backup 2"))
    for words in (["restore", copy, env.path("again")], ["verify", copy]):
        _, err = godwit(env, *words, code=FAILED)
        check_in("newer", err, f"{words[0]}")
    check(not os.path.exists(env.path("again")), "something was restored")


# --- verify ---

@case(short=True)
def verify_says_what_is_there(env):
    broker = stopped(env)
    report = verify(env, broker.data_dir)
    check(report["fine"] and not report["in_use"], f"{report}")
    row = by_name(report["topics"], "orders")
    check_equal((row["published"], row["present"], row["deleted"], row["missing"]),
                (100, 100, 0, 0), "orders")
    lane = report["lanes"][0]
    check_equal((lane["group"], lane["topic"], lane["settled"], lane["unsettled"],
                 lane["retries"]), ("work", "orders", 30, 70, 1), "the lane")
    text, _ = godwit(env, "verify", broker.data_dir)
    for word in ("orders", "work", "All is well", "balance"):
        check_in(word, text, "the report")


@case(short=True, threads=True)
def verify_works_beside_a_broker(env):
    broker = filled(env)
    text, _ = godwit(env, "verify", broker.data_dir)
    check_in("A broker is serving", text, "the report")
    report = verify(env, broker.data_dir)
    check(report["in_use"], "it does not say that it is in use")
    check_equal(by_name(report["topics"], "orders")["present"], 100, "present")
    check(broker.alive(), "the broker died of it")


@case(timeout=150)
def verify_is_not_misled_by_a_broker_that_removes_segments(env):
    """Each time some were removed, between two looks at them."""
    broker, load = with_load(env, junk=True)
    http = broker.http()
    for number in range(8):
        before = figures(http)["freed_bytes"]
        report = verify(env, broker.data_dir)
        check(report["fine"] and report["in_use"], f"look {number}: {report['damages'][:5]}")
        confirmed = set(load.snapshot()[0])
        lines = dump(env, broker.data_dir, "--kind", "message", "--topic", "load", "--no-bodies")
        check(confirmed <= {line["seq"] for line in lines}, "the dump has less than was confirmed")
        wait_until(lambda: figures(http)["freed_bytes"] > before or load.failure, 60, "removals")
        check(load.failure is None, f"the load: {load.failure!r}")
    load.finish()


@case(short=True)
def verify_names_a_damaged_message(env):
    broker = stopped(env)
    for seq in (7, 52):
        path, at = blocks.find_body(broker.data_dir, body_of(seq).encode())
        flip(path, at + 3)
    report = verify(env, broker.data_dir, code=DAMAGE)
    check(not report["fine"], "fine")
    check_equal([(d["kind"], d["topic"], d["seq"]) for d in report["damages"]],
                [("message", "orders", 7), ("message", "orders", 52)], "damages")
    for damage, seq in zip(report["damages"], (7, 52)):
        path, at = blocks.find_body(broker.data_dir, f"er {seq:06}>> ".encode())
        check_equal(os.path.join(broker.data_dir, damage["file"]), path, "its file")
        check(damage["offset"] <= at < damage["offset"] + damage["len"], f"{damage} at {at}")
    row = by_name(report["topics"], "orders")
    check_equal((row["present"], row["missing"], row["missing_ranges"]),
                (98, 2, [[7, 7], [52, 52]]), "orders")
    text, _ = godwit(env, "verify", broker.data_dir, code=DAMAGE)
    for word in ("NOT WELL", "message orders 7", "message orders 52", "orders 7, 52"):
        check_in(word, text, "the report")


@case(short=True)
def verify_finds_a_lost_batch_and_a_lost_segment(env):
    broker = filled(env, 50)
    broker.kill()
    broker.start()
    session = broker.session()
    session.publish("orders", ["after the kill"])
    session.close()
    broker.kill()
    whole = env.path("whole")
    shutil.copytree(broker.data_dir, whole)
    path, _ = blocks.find_body(whole, body_of(41).encode())
    flip(path, blocks.batch_before(path, body_of(41).encode()) + 20)
    report = verify(env, whole, code=DAMAGE)
    check(report["totals"]["damaged_batches"] + report["totals"]["lost_batches"] > 0, f"{report}")
    check_equal(by_name(report["topics"], "orders")["missing_ranges"], [[41, 50]], "missing")
    os.unlink(os.path.join(broker.data_dir, "log", "0000000001.seg"))
    report = verify(env, broker.data_dir, code=DAMAGE)
    check(report["totals"]["missing_segments"] >= 1 or report["totals"]["lost_batches"] > 0,
          f"{report['totals']}")


def lose_the_log(folder):
    """Every segment of it; True when there was one."""
    segments = glob.glob(os.path.join(folder, "log", "*.seg"))
    for path in segments:
        os.unlink(path)
    return bool(segments)


@case(short=True)
def a_log_that_is_gone_is_not_well(env):
    """No tool takes it for a new store, and so no way leads from it to an empty broker."""
    broker = stopped(env)
    copy, again = env.path("copy"), env.path("again")
    godwit(env, "backup", broker.data_dir, copy)
    check(lose_the_log(broker.data_dir), "there were segments")
    report = verify(env, broker.data_dir, code=DAMAGE)
    check_equal(report["totals"]["missing_segments"], 1, "missing segments")
    text, _ = godwit(env, "verify", broker.data_dir, code=DAMAGE)
    check_in("NOT WELL", text, "the report")
    _, err = godwit(env, "backup", broker.data_dir, again, code=FAILED)
    check_in("the log is gone", err, "the line")
    check(not os.path.exists(again), "a backup was made")
    check(lose_the_log(copy), "there were segments")
    _, err = godwit(env, "restore", copy, again, code=DAMAGE)
    check_in("missing", err, "the line")
    check(not os.path.exists(again), "it was restored")


@case(short=True)
def no_broker_starts_on_a_backup(env):
    broker = stopped(env)
    copy, again = env.path("copy"), env.path("again")
    godwit(env, "backup", broker.data_dir, copy)
    before = content(copy)
    taker = env.broker(start=False, data_dir=copy)
    taker.spawn()
    check(taker.wait_exit() > 0, "it started")
    check_in("godwit restore", taker.log(), "the log")
    check_equal(content(copy), before, "the backup")
    godwit(env, "restore", copy, again)
    check_equal(sorted(os.listdir(again)), ["admin.credentials", "format", "log"], "restored")
    on(env, again)


@case(short=True)
def a_group_that_settled_nothing_is_listed(env):
    broker = filled(env, 50)
    broker.http().make_group("idle", "orders")
    broker.stop()
    check_equal(verify(env, broker.data_dir)["groups_without_lanes"], ["idle"], "groups")
    text, _ = godwit(env, "verify", broker.data_dir)
    row = [line.split() for line in text.splitlines() if line.startswith("idle")]
    check_equal(row, [["idle", "-", "0", "0", "-", "0", "0", "-", "-", "yes"]], "its row")


@case(short=True, timeout=120)
def any_flipped_bit_is_found_by_verify(env):
    """In all that is not zero of the log and the format file; padding that nothing covers apart."""
    broker = stopped(env, count=50)
    whole = env.path("whole")
    shutil.copytree(broker.data_dir, whole)
    dice = random.Random(3)
    missed = []
    paths = [os.path.join(whole, "format"), os.path.join(whole, "log", "0000000001.seg")]
    for number in range(env.size(60)):
        path = paths[number % 8 != 0]
        with open(path, "rb") as file:
            used = len(file.read().rstrip(b"\0"))
        at = dice.randrange(used)
        flip(path, at)
        done = subprocess.run([env.godwit, "verify", whole], capture_output=True, timeout=60)
        check(done.returncode in (0, 1), f"bit at {at}: {done.stderr.decode()[-2000:]}")
        if done.returncode == 0:
            missed.append((os.path.basename(path), at))
        flip(path, at)
    verify(env, whole)
    # The last batch of a log cannot be told from one that was cut short.
    last = blocks.last_batch(paths[1])
    check(all(name != "format" and at >= last for name, at in missed), f"not found: {missed}")


@case(short=True)
def wrong_folders_are_refused_with_a_line(env):
    for command in (["verify"], ["dump"], ["backup"], ["restore"]):
        more = [env.path("dest")] if command[0] in ("backup", "restore") else []
        _, err = godwit(env, *command, env.path("nowhere"), *more, code=FAILED)
        check_in("No such file", err, f"{command}")
        os.makedirs(env.path("empty"), exist_ok=True)
        _, err = godwit(env, *command, env.path("empty"), *more, code=FAILED)
        check_in("empty", err, f"{command}: names the folder")
        check("no store" in err or "no backup" in err, f"{command}: {err}")
        with open(env.path("file"), "w") as file:
            file.write("a file")
        _, err = godwit(env, *command, env.path("file"), *more, code=FAILED)
        check_in("not a folder", err, f"{command}")
        check(not os.path.exists(env.path("dest")), f"{command}: something was made")
        _, err = godwit(env, *command, code=FAILED)
        check_in("is missing", err, f"{command} without words")


@case()
def another_users_folder_is_refused_with_a_line(env):
    if os.getuid() != 0:
        raise Skip("not root: there is no other user")
    broker = stopped(env, count=10)

    def nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    os.chmod(env.tmp, 0o755)
    godwit_copy = env.path("godwit")
    shutil.copy(env.godwit, godwit_copy)
    os.chmod(godwit_copy, 0o755)
    for words in (["verify"], ["dump"], ["backup", "/tmp/never-made"]):
        done = subprocess.run([godwit_copy, words[0], broker.data_dir, *words[1:]],
                              capture_output=True, timeout=60, preexec_fn=nobody)
        if b"error while loading" in done.stderr or done.returncode > 128:
            raise Skip("another user cannot run the build")
        check_equal(done.returncode, FAILED, f"{words}: {done.stderr.decode()}")
        check_in("ermission denied", done.stderr.decode(), f"{words}")
        check_in("user", done.stderr.decode(), f"{words}: what to do")
    check(not os.path.exists("/tmp/never-made"), "a backup was begun")


# --- receipts ---

def receipts_of(broker, topic, text):
    out = broker.godwit("pub", topic, "--receipts", stdin=text.encode()).stdout.decode()
    lines = out.split()
    check(lines, "no receipts")
    return lines


@case(short=True)
def a_receipt_is_found_and_a_forged_one_is_not(env):
    broker = filled(env)
    lines = receipts_of(broker, "orders", "one\ntwo\nthree\n")
    check_equal(sum(int(l.split(":")[2]) for l in lines), 3, "messages in the receipts")
    for folder in (broker.data_dir, None):
        if folder is None:
            folder = env.path("copy")
            godwit(env, "backup", broker.data_dir, folder)
        for line in lines:
            text, _ = godwit(env, "verify", folder, "--receipt", line)
            check_in("byte for byte", text, "the answer")
            answer = json.loads(godwit(env, "verify", folder, "--receipt", line, "--json")[0])
            check_equal((answer["verdict"], answer["segment"], answer["offset"]),
                        ("good", int(line.split(":")[3]), int(line.split(":")[4])), "the answer")
    topic, seq, count, segment, offset, checksum = lines[0].split(":")
    forged = "%016x" % (int(checksum, 16) ^ 1)
    for wrong, verdict in ((f"{topic}:{seq}:{count}:{segment}:{offset}:{forged}", "wrong"),
                           (f"{topic}:9999:{count}:{segment}:{offset}:{checksum}", "missing"),
                           (f"nothing:{seq}:{count}:{segment}:{offset}:{checksum}", "missing")):
        out, _ = godwit(env, "verify", broker.data_dir, "--receipt", wrong, "--json", code=DAMAGE)
        check_equal(json.loads(out)["verdict"], verdict, wrong)
    _, err = godwit(env, "verify", broker.data_dir, "--receipt", "orders:1", code=FAILED)
    check_in("is no receipt", err, "the line")


@case(short=True)
def a_receipt_of_a_deleted_topic_says_so(env):
    broker = filled(env)
    http = broker.http()
    http.make_topic("short")
    line = receipts_of(broker, "short", "one\n")[0]
    http.must(http.delete("/v1/topics/short"))
    text, _ = godwit(env, "verify", broker.data_dir, "--receipt", line)
    check_in("deleted", text, "the answer")


@case(timeout=120)
def a_receipt_follows_its_message(env):
    """A merge moves one and retention deletes another: both receipts are honoured."""
    broker = env.broker(config={"store": {"segment_mib": 16, "checkpoint_ms": 100}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("idle", "orders")
    http.must(http.post("/v1/topics", {"name": "junk", "keep": "limit", "keep_count_max": "20"}))
    kept = receipts_of(broker, "orders", "one\ntwo\nthree\n")[0]
    gone = receipts_of(broker, "junk", "soon deleted\n")[0]
    answers = {}

    def ask():
        session = broker.session()
        for _ in range(4):
            session.publish("junk", ["j" * 200000] * 10)
        session.close()
        for line in (kept, gone):
            answers[line] = json.loads(godwit(env, "verify", broker.data_dir, "--receipt", line,
                                              "--json")[0])
        return answers[kept].get("moved") and answers[gone]["verdict"] == "deleted"

    wait_until(ask, 100, "one moved, the other deleted")
    check_equal(answers[kept]["verdict"], "good", "the one that was moved")
    check((answers[kept]["segment"], answers[kept]["offset"])
          != tuple(int(n) for n in kept.split(":")[3:5]), f"{answers[kept]}: the old place")
    text, _ = godwit(env, "verify", broker.data_dir, "--receipt", kept, "--receipt", gone)
    check_in("moved there by a merge", text, "the text")
    check_in("deleted by the topic's retention", text, "the text")
    check(verify(env, broker.data_dir)["fine"], "the whole")


# --- dump ---

@case(short=True)
def dump_prints_all_kinds(env):
    broker = filled(env)
    session = broker.session(producer=5)
    binary = bytes(range(256))
    session.publish("orders", [{"body_base64": base64.b64encode(binary).decode(), "key": "k",
                                "headers": {"a": "b"}}], producer_seq=9)
    session.close()
    secret = broker.credentials()["secret"]
    out, _ = godwit(env, "dump", broker.data_dir)
    check(secret not in out and base64.b64encode(secret.encode()).decode()[:20] not in out,
          "the secret is in the dump")
    lines = [json.loads(line) for line in out.splitlines()]
    kinds = {line["kind"] for line in lines}
    check({"message", "ack", "failed", "catalog"} <= kinds, f"kinds {kinds}")
    messages = [line for line in lines if line["kind"] == "message"]
    check_equal([m["seq"] for m in messages], list(range(1, 102)), "seqs")
    check_equal([m["body"] for m in messages[:100]], [body_of(i) for i in range(1, 101)], "bodies")
    last = messages[-1]
    check_equal((base64.b64decode(last["body_base64"]), last["key"], last["headers"],
                 last["producer"], last["producer_seq"]), (binary, "k", {"a": "b"}, 5, 9), "last")
    acked = [r for line in lines if line["kind"] == "ack" and line["group"] == "work"
             for r in line["ranges"]]
    check_equal(acked, [[1, 30]], "acks")
    failed = [r for line in lines if line["kind"] == "failed" for r in line["failures"]]
    check_equal([(r["seq"], r["attempts"]) for r in failed if r["seq"] == 35][0], (35, 1), "failure")
    for line in messages:
        check_equal((line["topic"], line["app"]), ("orders", "admin"), "names")


@case(short=True)
def dump_filters(env):
    broker = filled(env)
    http = broker.http()
    http.make_topic("other")
    http.publish("other", "alone")
    folder = broker.data_dir
    check_equal([(l["topic"], l["seq"]) for l in dump(env, folder, "--kind", "message",
                                                       "--topic", "other")], [("other", 1)],
                "--topic")
    lines = dump(env, folder, "--topic", "orders", "--from", "98")
    check_equal([l["seq"] for l in lines], [98, 99, 100], "--from")
    lines = dump(env, folder, "--kind", "message", "--count", "5", "--no-bodies")
    check_equal([l["seq"] for l in lines], [1, 2, 3, 4, 5], "--count")
    check(all("body" not in l and "key" not in l and l["len"] > 100 for l in lines), "--no-bodies")
    check_equal({l["kind"] for l in dump(env, folder, "--kind", "ack", "--kind", "failed")},
                {"ack", "failed"}, "--kind")
    _, err = godwit(env, "dump", folder, "--kind", "acks", code=FAILED)
    check_in("no kind", err, "the line")


@case(short=True)
def dump_of_a_topic_that_is_none(env):
    broker = stopped(env, count=10)
    out, err = godwit(env, "dump", broker.data_dir, "--topic", "nosuch", code=FAILED)
    check_equal(out, "", "stdout")
    check_in("there is no topic nosuch", err, "stderr")
    dump(env, broker.data_dir, "--topic", "orders", "--kind", "gap")  # there, and nothing of it


@case(short=True)
def dump_into_a_closed_pipe_ends_quietly(env):
    broker = stopped(env, count=3000)
    process = subprocess.Popen([env.godwit, "dump", broker.data_dir], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    first = process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    check_equal((process.wait(60), err), (0, ""), "how it ended")
    check_equal(json.loads(first)["kind"], "catalog", "the first line")


@case(short=True)
def dump_leaves_damage_out_and_says_so(env):
    broker = stopped(env)
    path, at = blocks.find_body(broker.data_dir, body_of(20).encode())
    flip(path, at)
    out, err = godwit(env, "dump", broker.data_dir, "--kind", "message", code=DAMAGE)
    seqs = [json.loads(line)["seq"] for line in out.splitlines()]
    check_equal(seqs, [s for s in range(1, 101) if s != 20], "seqs")
    check_in("damaged", err, "stderr")


# --- backup and restore ---

@case(short=True)
def a_backup_comes_back_as_it_was(env):
    broker = stopped(env)
    before = content(broker.data_dir)
    copy, again = env.path("copy"), env.path("again")
    text, _ = godwit(env, "backup", broker.data_dir, copy)
    check_in("every checksum", text, "what it says")
    check_equal(content(broker.data_dir), before, "the source afterwards")
    check(verify(env, copy)["fine"], "verify of the backup")
    whole = content(copy)
    godwit(env, "restore", copy, again)
    check_equal(content(copy), whole, "the backup afterwards")
    for folder in (copy, again):
        for base, _, names in os.walk(folder):
            check_equal(os.stat(base).st_mode & 0o777, 0o700, f"mode of {base}")
            for name in names:
                check_equal(os.stat(os.path.join(base, name)).st_mode & 0o777, 0o600, name)
    restored = on(env, again)
    got = delivered(restored, "work", 70)
    check_equal(sorted(seq for _, seq in got), list(range(31, 101)), "what is delivered")
    check(all(d.body.decode() == body_of(seq) for (_, seq), d in got.items()), "bodies")
    check_equal(got["orders", 35].attempt, 2, "the attempt of the nacked one")
    session = restored.session()
    check_equal(session.publish("orders", ["next"])[0].seq, 101, "the next seq")


class Load:
    """Publishes and acks until told to stop; knows what was confirmed, and when."""

    def __init__(self, broker, junk=False):
        self.broker = broker
        self.confirmed = {}  # seq: body
        self.acked = set()
        self.stop = False
        self.failure = None
        works = [self.publish, self.ack] + ([self.publish_junk] if junk else [])
        self.threads = [threading.Thread(target=self.run, args=(work,)) for work in works]
        for thread in self.threads:
            thread.start()

    def run(self, work):
        try:
            work()
        except Exception as error:
            self.failure = error

    def publish(self):
        session = self.broker.session()
        number = 0
        while not self.stop:
            bodies = [f"load {number + i:08} " + "x" * (1 + (number * 37 + i * 101) % 3000)
                      for i in range(20)]
            number += 20
            for confirm, body in zip(session.publish("load", bodies), bodies):
                self.confirmed[confirm.seq] = body
        session.close()

    def publish_junk(self):
        """What fills the segments and is soon deleted, so that the rest has to be moved."""
        session = self.broker.session()
        while not self.stop:
            session.publish("junk", ["j" * 200000] * 10)
        session.close()

    def ack(self):
        """Every third message is never acked."""
        session = self.broker.session()
        session.attach("eater", credit_messages=50000)
        while not self.stop:
            try:
                delivery = session.next(1)
            except TimeoutError:
                continue
            if delivery.seq % 3 != 0:
                session.ack("load", delivery.seq)
                self.acked.add(delivery.seq)
        session.close()

    def snapshot(self):
        return dict(self.confirmed), set(self.acked)

    def finish(self):
        self.stop = True
        for thread in self.threads:
            thread.join(30)
        if self.failure:
            raise Failed(f"the load: {self.failure!r}")


def with_load(env, junk=False):
    broker = env.broker(config={"store": {"segment_mib": 16, "checkpoint_ms": 100}})
    http = broker.http()
    if junk:
        http.must(http.post("/v1/topics", {"name": "junk", "keep": "limit",
                                           "keep_count_max": "20"}))
    http.make_topic("load")
    http.make_group("eater", "load", lease_ms="600000")
    http.make_group("witness", "load")
    load = Load(broker, junk)
    env.at_end(load.finish)
    return broker, load


def check_restored(env, folder, confirmed, acked):
    """All that was confirmed is there byte-equal; what was acked does not come again."""
    broker = on(env, folder)
    http = broker.http()
    published = int(http.get("/v1/topics/load").json["last_seq"])
    check(published >= max(confirmed), f"last seq {published}, confirmed {max(confirmed)}")
    got = delivered(broker, "witness", published, 60)
    for seq, body in confirmed.items():
        check_equal(got["load", seq].body.decode(), body, f"body of {seq}")
    lane = http.get("/v1/groups/eater").json["lanes"][0]
    check(lane["balanced"], f"books {lane}")
    again = delivered(broker, "eater", published - int(lane["acked"]), 60)
    came = {seq for _, seq in again}
    check(not came & acked, f"acked ones come again: {sorted(came & acked)[:10]}")
    wanted = {seq for seq in confirmed if seq % 3 == 0}
    check(wanted <= came, f"unacked ones do not come: {sorted(wanted - came)[:10]}")
    broker.stop()


@case(short=True, timeout=180)
def a_hot_backup_has_all_that_was_confirmed_before(env):
    broker, load = with_load(env)
    taken = []
    for number in range(3):
        wait_until(lambda: len(load.acked) > 150 * (number + 1), 60, "some load")
        known = load.snapshot()
        folder = env.path(f"copy-{number}")
        godwit(env, "backup", broker.data_dir, folder)
        taken.append((folder, known))
        check(load.failure is None, f"the load: {load.failure!r}")
    load.finish()
    broker.stop()
    for number, (folder, (confirmed, acked)) in enumerate(taken):
        check(verify(env, folder)["fine"], f"verify of {folder}")
        again = env.path(f"again-{number}")
        godwit(env, "restore", folder, again)
        check_restored(env, again, confirmed, acked)


@case(short=True, threads=True, timeout=180)
def a_hot_backup_while_segments_are_merged_and_removed(env):
    broker, load = with_load(env, junk=True)
    http = broker.http()
    taken = []
    for number in range(3):
        want = (number + 1) * (32 << 20)
        wait_until(lambda: figures(http)["freed_bytes"] > want or load.failure, 90, "merges")
        check(load.failure is None, f"the load: {load.failure!r}")
        known = load.snapshot()
        folder = env.path(f"copy-{number}")
        godwit(env, "backup", broker.data_dir, folder)
        taken.append((folder, known))
    check(figures(http)["moved_bytes"] > 0, "nothing was moved")
    load.finish()
    broker.stop()
    for number, (folder, (confirmed, acked)) in enumerate(taken):
        report = verify(env, folder)
        check(report["fine"] and report["totals"]["snapshot"], f"verify of {folder}")
        again = env.path(f"again-{number}")
        godwit(env, "restore", folder, again)
        check_restored(env, again, confirmed, acked)
    moved = [line for line in dump(env, taken[-1][0], "--kind", "message", "--topic", "load",
                                   "--no-bodies") if line.get("moved")]
    check(moved, "no moved message in the backup")


def figures(http):
    return {name: int(value) for name, value in http.get("/v1/store").json.items()
            if isinstance(value, str) and value.isdigit() or type(value) is int}


@case(timeout=150)
def a_backup_while_brokers_die_and_start(env):
    """It is whole, or it says that it should be tried again."""
    broker = env.broker(config={"store": {"segment_mib": 16, "checkpoint_ms": 100}})
    broker.http().make_topic("orders")
    confirmed, over, taken = [0], [], []

    def back_up():
        while not over:
            known, folder = confirmed[0], env.path(f"copy-{len(taken)}")
            done = subprocess.run([env.godwit, "backup", broker.data_dir, folder],
                                  capture_output=True, timeout=60)
            taken.append((folder, known, done.returncode, done.stderr.decode()))

    thread = threading.Thread(target=back_up)
    thread.start()
    env.at_end(lambda: (over.append(True), thread.join(60)))
    for _ in range(8):
        session = broker.session()
        for _ in range(15):
            confirmed[0] = session.publish("orders", ["o" * 50000] * 5)[-1].seq
        broker.kill()
        broker.start()
    over.append(True)
    thread.join(60)
    whole = [t for t in taken if t[2] == FINE]
    check(len(whole) >= 3, f"{len(whole)} of {len(taken)} backups were made: {taken[-3:]}")
    for folder, known, code, err in taken:
        if code != FINE:
            check(code == FAILED and "ry again" in err and not os.path.exists(folder),
                  f"{code}: {err}")
            continue
        report = verify(env, folder)
        check(by_name(report["topics"], "orders")["present"] >= known if known else True,
              f"{folder}: {report['topics']}, confirmed were {known}")
        shutil.rmtree(folder)


@case(timeout=120)
def what_the_test_of_backups_would_notice(env):
    """The check itself: a copy that ends too early and an ack that is not in it are found out."""
    broker, load = with_load(env)
    wait_until(lambda: len(load.acked) > 100, 60, "some load")
    load.finish()
    confirmed, acked = load.snapshot()
    folder = env.path("copy")
    godwit(env, "backup", broker.data_dir, folder)
    broker.stop()
    for number, plant in enumerate(("nothing", "a cut log", "a lost ack")):
        again = env.path(f"again-{number}")
        godwit(env, "restore", folder, again)
        if plant == "a cut log":
            path = blocks.segments(again)[-1]
            os.truncate(path, sorted(blocks.batches(path))[-20])
        more = {min(s for s in confirmed if s % 3 == 0)} if plant == "a lost ack" else set()
        try:
            check_restored(env, again, confirmed, acked | more)
            noticed = False
        except Failed:
            env.brokers[-1].stop()
            noticed = True
        check_equal(noticed, plant != "nothing", f"{plant} is noticed")


@case(short=True)
def damage_in_a_backup_is_found(env):
    broker = stopped(env)
    copy, again = env.path("copy"), env.path("again")
    godwit(env, "backup", broker.data_dir, copy)
    segment = os.path.join(copy, "log", "0000000001.seg")
    for path in (segment, os.path.join(copy, "format"), os.path.join(copy, "admin.credentials")):
        flip(path, os.path.getsize(path) // 2 if path != segment else 9000)
        _, err = godwit(env, "restore", copy, again, code=DAMAGE)
        check_in(os.path.basename(path), err, "names the file")
        check(not os.path.exists(again), "something was restored")
        godwit(env, "verify", copy, code=DAMAGE)
        flip(path, os.path.getsize(path) // 2 if path != segment else 9000)
    os.rename(segment, segment + ".away")
    _, err = godwit(env, "restore", copy, again, code=DAMAGE)
    check_in("missing", err, "a missing file")
    godwit(env, "verify", copy, code=DAMAGE)
    os.rename(segment + ".away", segment)
    with open(segment, "ab") as file:
        file.write(b"\0")
    _, err = godwit(env, "restore", copy, again, code=DAMAGE)
    check_in("length", err, "a longer file")
    os.truncate(segment, os.path.getsize(segment) - 1)
    flip(os.path.join(copy, "backup"), 40)
    _, err = godwit(env, "restore", copy, again, code=DAMAGE)
    check_in("backup is damaged", err, "a changed manifest")
    flip(os.path.join(copy, "backup"), 40)
    os.unlink(os.path.join(copy, "backup"))
    _, err = godwit(env, "restore", copy, again, code=FAILED)
    check_in("not a whole one", err, "no manifest")
    check(not os.path.exists(again), "something was restored")


@case(short=True)
def a_damaged_backup_can_be_restored_all_the_same(env):
    broker = stopped(env)
    copy, again = env.path("copy"), env.path("again")
    godwit(env, "backup", broker.data_dir, copy)
    path, at = blocks.find_body(copy, body_of(60).encode())
    flip(path, at)
    godwit(env, "restore", copy, again, "--despite-damage", code=DAMAGE)
    restored = on(env, again)
    session = restored.session()
    session.attach("work", credit_messages=1000)
    got = session.take(70)
    seqs = sorted(d.seq for d in got if hasattr(d, "seq"))
    lost = [s for s in range(31, 101) if s not in seqs]
    check(60 in lost and len(lost) <= 10, f"lost: {lost}")


@case(short=True)
def a_damaged_store_is_backed_up_with_a_warning(env):
    broker = stopped(env)
    path, at = blocks.find_body(broker.data_dir, body_of(60).encode())
    flip(path, at)
    copy = env.path("copy")
    text, err = godwit(env, "backup", broker.data_dir, copy, code=DAMAGE)
    found = verify(env, broker.data_dir, code=DAMAGE)["damages"]
    check_equal(len(found), 1, "damages")
    check_in(f"damage: log/0000000001.seg at {found[0]['offset']}, {found[0]['len']} B: message, "
             f"topic #{found[0]['topic_id']} seq 60\n", err, "stderr")
    with open(path, "rb") as mine, open(os.path.join(copy, "log", "0000000001.seg"), "rb") as theirs:
        copied = theirs.read()
        check_equal(mine.read(len(copied)) == copied, True, "the copy is the same byte for byte")
    report = verify(env, copy, code=DAMAGE)
    check_equal(report["backup"]["damaged_files"], 0, "files that changed since")
    check_equal([(d["topic"], d["seq"]) for d in report["damages"]], [("orders", 60)], "damages")


@case(short=True)
def a_full_destination_is_left_alone(env):
    broker = stopped(env)
    copy = env.path("copy")
    os.mkdir(copy)
    godwit(env, "backup", broker.data_dir, copy)  # empty: taken
    before = content(copy)
    _, err = godwit(env, "backup", broker.data_dir, copy, code=FAILED)
    check_in("not empty", err, "the line")
    check_equal(content(copy), before, "the backup that was there")
    _, err = godwit(env, "restore", copy, broker.data_dir, code=FAILED)
    check_in("not empty", err, "the line")
    _, err = godwit(env, "backup", broker.data_dir, os.path.join(broker.data_dir, "log", "copy"),
                    code=FAILED)
    check_in("inside", err, "the line")
    _, err = godwit(env, "backup", broker.data_dir, env.path("no/monday"), code=FAILED)
    check_in(f"the folder {env.path('no')} does not exist", err, "the line")
    broker.start()


@case(short=True)
def no_broker_starts_on_half_a_backup(env):
    """`format` is the last file but one: without it a log is no store."""
    broker = stopped(env)
    copy = env.path("copy")
    godwit(env, "backup", broker.data_dir, copy)
    os.unlink(os.path.join(copy, "backup"))
    os.unlink(os.path.join(copy, "format"))
    half = env.broker(start=False, data_dir=copy)
    half.spawn()
    check(half.wait_exit() > 0, "it started")
    check_in("no format file", half.log(), "the log")


@case(timeout=120)
def ctrl_c_leaves_nothing(env):
    broker = env.broker(config={"store": {"segment_mib": 16}})
    broker.http().make_topic("bulk")
    session = broker.session()
    for _ in range(env.size(120)):
        session.publish("bulk", ["b" * 900000])
    session.close()
    stopped_once = False
    for number in range(10):
        copy = env.path(f"copy-{number}")
        process = subprocess.Popen([env.godwit, "backup", broker.data_dir, copy],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: os.path.exists(copy) or process.poll() is not None, 20, "its folder")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if process.returncode == INTERRUPTED:
            stopped_once = True
            check_in("stopped", err.decode(), "stderr")
            check(not os.path.exists(copy), "something is left")
            break
        check_equal(process.returncode, 0, err.decode())
    check(stopped_once, "it was always faster")


@case(timeout=120)
def a_full_disk_leaves_nothing(env):
    disk = env.path("disk")
    os.mkdir(disk)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk],
                          capture_output=True)
    if done.returncode != 0:
        raise Skip("mount is not permitted: " + done.stderr.decode().strip())
    env.at_end(lambda: subprocess.run(["umount", disk], check=True))
    broker = env.broker(config={"store": {"segment_mib": 16}})
    broker.http().make_topic("bulk")
    session = broker.session()
    for _ in range(12):
        session.publish("bulk", ["b" * 900000])
    session.close()
    for destination in (os.path.join(disk, "copy"), disk):
        _, err = godwit(env, "backup", broker.data_dir, destination, code=FAILED)
        check_in("o space left", err, "the line")
        check_equal(os.listdir(disk), [], "what is left")
    copy = env.path("copy")
    godwit(env, "backup", broker.data_dir, copy)
    _, err = godwit(env, "restore", copy, os.path.join(disk, "again"), code=FAILED)
    check_in("needed", err, "the line")
    check_equal(os.listdir(disk), [], "what is left")


def has_open(process, path):
    """Is this file among those it has open?"""
    check(process.poll() is None, "it has ended")
    try:
        return any(os.path.samefile(fd.path, path)
                   for fd in os.scandir(f"/proc/{process.pid}/fd") if os.path.exists(fd.path))
    except FileNotFoundError:
        return False


def switches(process):
    """How often it went to sleep by itself."""
    with open(f"/proc/{process.pid}/status") as file:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M).group(1))


@case(short=True, threads=True)
def a_backup_waits_for_a_removal(env):
    """The lock that keeps segments from being removed meanwhile."""
    import fcntl
    broker = filled(env, 20)
    path = os.path.join(broker.data_dir, "store.hold")
    made = not os.path.exists(path)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen([env.godwit, "backup", broker.data_dir, env.path("copy")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: has_open(process, path), 30, "it to come to the lock")
        naps = switches(process)
        wait_until(lambda: switches(process) >= naps + 3 or process.poll() is not None, 30,
                   "it to try again and again")
        check(process.poll() is None, "it did not wait")
        check(not os.path.exists(env.path("copy")), "it began")
        fcntl.flock(file, fcntl.LOCK_UN)
        _, err = process.communicate(timeout=30)
    check_equal(process.returncode, 0, err.decode())
    if made:
        os.unlink(path)


@case(short=True)
def the_readme_as_pasted(env):
    """Its commands about data folders do what it says."""
    with open(os.path.join(TOP, "README.md")) as file:
        section = file.read().split("## Looking after the data", 1)[1].split("\n## ", 1)[0]
    commands = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    check(len(commands) >= 6, f"commands: {commands}")
    broker = env.broker(data_dir=env.path("data"), config={"store": {"segment_mib": 16}})
    broker.http().make_topic("orders")
    with open(env.path("orders.txt"), "w") as file:
        file.write("one\ntwo\n")
    script = "set -ex\n" + "\n".join(commands).replace("/backup", env.path("backup"))
    done = subprocess.run(["bash", "-c", script], cwd=env.tmp, capture_output=True, timeout=100,
                          env=dict(broker.godwit_env(),
                                   PATH=os.path.dirname(env.godwit) + ":" + os.environ["PATH"]))
    check_equal(done.returncode, 0, done.stderr.decode()[-1500:])
    check_in("All is well", done.stdout.decode(), "what verify says")
    check_in("byte for byte", done.stdout.decode(), "what is said of the receipt")
    check_equal(sorted(os.listdir(env.path("data-2"))), ["admin.credentials", "format", "log"],
                "the restored folder")


@case(short=True)
def the_help_of_each(env):
    for command in ("verify", "dump", "backup", "restore"):
        out, _ = godwit(env, command, "--help")
        for word in ("usage:", "Options:", "Examples:", "Exit code"):
            check_in(word, out, command)
        check(all(len(line) <= 80 for line in out.splitlines()), f"{command}: a long line")


main()
