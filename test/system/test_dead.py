#!/usr/bin/env python3
"""Dead letters in place: listed with their reasons, redriven, taken back, discarded."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main, wait_until
from operate import (check_gate, dead_of, dead_seqs, explain, gate, kill_messages, lane, pull_one,
                     redrive, redrive_end)


def with_dead(env, count, config=None, reason="broken", **group):
    """A topic whose first `count` messages are dead for group work, and one more that is not."""
    broker = env.broker(config=config)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", **group)
    for i in range(1, count + 2):
        http.must(http.publish("orders", f"body {i}", key=f"k{i % 3}",
                               headers={"Godwit-Header-Region": "cn" if i % 2 else "de"}))
    kill_messages(http, "work", "orders", range(1, count + 1), reason)
    return broker, http


def pull_all(http, group="work"):
    """What comes at once, released again; {seq: attempt}."""
    lease, messages, _ = http.pull(group, 1000, 1)
    if messages:
        http.settle(group, lease, "orders", "release", seqs=[m["seq"] for m in messages])
    return {int(m["seq"]): m["attempt"] for m in messages}


@case(short=True)
def failing_often_enough_is_death(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", max_attempts=3)
    http.must(http.publish("orders", "body"))
    for attempt in (1, 2, 3):
        check_equal(dead_seqs(http, "work"), [], f"before attempt {attempt}")
        lease = pull_one(http, "work", "orders", 1)
        http.settle("work", lease, "orders", "nack", seqs=["1"], delay_ms=1,
                    reason=f"attempt {attempt}")
    wait_until(lambda: dead_seqs(http, "work") == [1], what="its death")
    dead, = http.get("/v1/groups/work/dead").json["dead"]
    check(int(dead.pop("died_us")) > 0, "time")
    check_equal(dead, {"topic": "orders", "seq": "1", "attempts": 3, "cause": "nack",
                       "reason": "attempt 3"}, "listed")
    check_equal([f["reason"] for f in explain(http, "work", "orders", 1)["history"]],
                [f"attempt {a}" for a in (1, 2, 3)], "history")
    check_equal(pull_all(http), {}, "it does not come")
    check_equal(lane(http, "work")["dead"], 1, "books")


@case(short=True)
def the_dead_are_listed(env):
    broker, http = with_dead(env, 7)
    http.make_topic("bills")
    http.make_topic("cards")
    http.make_group("all", ["orders", "bills", "cards"])
    for topic in ("bills", "cards"):
        for i in range(3):
            http.must(http.publish(topic, "body"))
    lease, messages, _ = http.pull("all", 1000, 5)
    for topic in ("orders", "bills", "cards"):
        seqs = [m["seq"] for m in messages if m["topic"] == topic]
        http.settle("all", lease, topic, "reject", seqs=seqs[1:])
    want = [("bills", 2), ("bills", 3), ("cards", 2), ("cards", 3)] + \
           [("orders", s) for s in range(2, 9)]
    check_equal(dead_of(http, "all"), want, "all, by topic and seq")
    for most in (1, 2, 5, 11):
        check_equal(dead_of(http, "all", max=most), want, f"in pages of {most}")
    check_equal(dead_of(http, "all", topic="cards"), want[2:4], "of a topic")
    check_equal(dead_of(http, "all", topic="cards", max=1), want[2:4], "of a topic, one by one")
    check_equal(dead_of(http, "work"), [("orders", s) for s in range(1, 8)], "another group's")
    other = broker.http(app="other", secret=http.make_app("other", subscribe=["orders"]))
    check_equal(other.get("/v1/groups/work/dead").code, 403, "a foreign group")
    check_equal(http.get("/v1/groups/nope/dead").code, 404, "no group")
    check_equal(http.get("/v1/groups/work/dead?topic=nope").code, 404, "no topic")


@case(short=True, threads=True)
def death_survives_a_restart(env):
    broker, http = with_dead(env, 5, reason="it was broken", config={"workers": 2})
    for end in (broker.restart, lambda: (broker.kill(), broker.start())):
        http.close()
        end()
        http = broker.http()
        check_equal(dead_seqs(http, "work"), [1, 2, 3, 4, 5], "dead")
        dead = http.get("/v1/groups/work/dead").json["dead"]
        check_equal({(d["cause"], d["reason"], d["attempts"]) for d in dead},
                    {("reject", "it was broken", 1)}, "reasons")
        check_equal(pull_all(http), {6: 1}, "only the living one comes")
        books = lane(http, "work")
        check_equal((books["published"], books["dead"]), (6, 5), "books")
    redrive(http, "work", topic="orders", seqs=["2"])
    redrive_end(http, "work")
    http.close()
    broker.kill()
    broker.start()
    http = broker.http()
    check_equal(dead_seqs(http, "work"), [1, 3, 4, 5], "what was redriven lives")
    check_equal(sorted(pull_all(http)), [2, 6], "and comes")


@case(short=True)
def redrives_take_what_they_are_told(env):
    _, http = with_dead(env, 12)
    dry = redrive(http, "work", dry_run=True)
    dry = redrive_end(http, "work") if dry["job"] == "running" else dry
    check_equal((dry["matched"], dry["redriven"], dry["dry_run"]), ("12", "0", True), "dry run")
    check_equal(len(dead_seqs(http, "work")), 12, "nothing was changed")

    redrive(http, "work", topic="orders", ranges=[["2", "3"], {"first": "5", "last": "5"}])
    check_equal(redrive_end(http, "work")["redriven"], "3", "ranges")
    check_equal(dead_seqs(http, "work"), [1, 4, 6, 7, 8, 9, 10, 11, 12], "left")
    check_equal(pull_all(http), {2: 1, 3: 1, 5: 1, 13: 1}, "attempts begin anew")

    redrive(http, "work", filter='region == "de"', cap=2)
    check_equal(redrive_end(http, "work")["redriven"], "2", "filter and cap")
    check_equal(dead_seqs(http, "work"), [1, 7, 8, 9, 10, 11, 12], "left")
    redrive(http, "work", cause="nack")
    check_equal(redrive_end(http, "work")["redriven"], "0", "none died of a nack")
    redrive(http, "work", cause="reject")
    check_equal(redrive_end(http, "work")["redriven"], "7", "all died of a reject")
    check_equal(dead_seqs(http, "work"), [], "left")
    check_equal(sorted(pull_all(http)), list(range(1, 14)), "all of them come")
    check_equal(lane(http, "work")["dead"], 0, "books")
    check_equal(redrive(http, "work")["matched"], "0", "of none")


@case(short=True, threads=True)
def a_redrive_has_a_rate_and_is_stopped(env):
    _, http = with_dead(env, 30)
    for ask in ("/stop", "/undo"):
        none = http.must(http.post(f"/v1/groups/work/redrive{ask}"), 404).refused
        check_equal((none["status"], none["limit"]), ("not_found", "redrive"), ask)
    first = redrive(http, "work", rate=1)
    check_equal(first["job"], "running", "at 1 a second")
    busy = http.must(http.post("/v1/groups/work/redrive", {}), 409).refused
    check_equal((busy["status"], busy["limit"]), ("busy", "redrive"), "one at a time")
    wait_until(lambda: int(http.get("/v1/groups/work/redrive").json["redriven"]) > 0,
               what="the first one")
    stopped = http.must(http.post("/v1/groups/work/redrive/stop"), 200).json
    check_equal(stopped["job"], "stopped", "stopped")
    redriven = int(stopped["redriven"])
    check(0 < redriven < 25, f"{redriven} at 1 a second")
    wait_until(lambda: len(dead_seqs(http, "work")) == 30 - redriven, what="the rest stays dead")
    time.sleep(1.5)
    check_equal(len(dead_seqs(http, "work")), 30 - redriven, "it does not go on")
    redrive(http, "work", rate=1000)
    check_equal(redrive_end(http, "work")["job"], "done", "the next one goes to the end")
    check_equal(dead_seqs(http, "work"), [], "left")


@case(short=True, threads=True)
def a_redrive_ends_with_the_broker(env):
    """It is forgotten; what it did stays done, and nothing is lost."""
    broker, http = with_dead(env, 30)
    redrive(http, "work", rate=20)
    wait_until(lambda: int(http.get("/v1/groups/work/redrive").json["redriven"]) >= 3,
               what="a few of them")
    http.close()
    broker.kill()
    broker.start()
    http = broker.http()
    check_equal(http.get("/v1/groups/work/redrive").code, 404, "forgotten")
    left = dead_seqs(http, "work")
    check(0 < len(left) < 30, f"{len(left)} are left")
    time.sleep(0.5)
    check_equal(dead_seqs(http, "work"), left, "it does not go on")
    check_equal(sorted(list(pull_all(http)) + left), list(range(1, 32)), "each dead or alive")
    redrive(http, "work")
    check_equal(redrive_end(http, "work")["redriven"], str(len(left)), "once more")


@case(short=True)
def a_redrive_is_taken_back(env):
    """But for what somebody was given since."""
    broker, http = with_dead(env, 6)
    check_equal(http.post("/v1/groups/work/redrive/undo").code, 404, "there was none")
    check_equal(http.get("/v1/groups/work/redrive").code, 404, "there was none")
    redrive(http, "work")
    redrive_end(http, "work")
    lease = pull_one(http, "work", "orders", 1)
    undone = http.must(http.post("/v1/groups/work/redrive/undo"), 200).json
    check_equal(undone, {"undone": "5"}, "undone")
    check_equal(dead_seqs(http, "work"), [2, 3, 4, 5, 6], "dead again")
    ranges = http.settle("work", lease, "orders", "ack", seqs=["1"])
    check_equal(ranges[0]["outcome"], "accepted", "who has it may ack it")
    check_equal(pull_all(http), {7: 1}, "what else comes")
    http.close()
    broker.restart()
    http = broker.http()
    check_equal(dead_seqs(http, "work"), [2, 3, 4, 5, 6], "dead after a restart")
    books = lane(http, "work")
    check_equal((books["published"], books["acked"], books["dead"]), (7, 1, 5), "books")


@case(short=True, threads=True)
def the_dead_are_given_up(env):
    broker, http = with_dead(env, 8)
    discarded = http.must(http.post("/v1/groups/work/discard",
                                    {"topic": "orders", "ranges": [["2", "4"], ["8", "20"]]}), 200)
    check_equal(discarded.json, {"discarded": "4"}, "discarded")
    check_equal(dead_seqs(http, "work"), [1, 5, 6, 7], "left")
    check_equal(lane(http, "work")["deleted"], 4, "books")
    check_equal(http.post("/v1/groups/work/discard", {"topic": "orders", "seqs": ["2"]}).json,
                {"discarded": "0"}, "once more")
    check_equal(http.post("/v1/groups/work/discard", {"topic": "nope"}).code, 404, "no topic")
    check_equal(http.post("/v1/groups/work/discard", {}).code, 400, "which?")
    http.close()
    broker.restart()
    http = broker.http()
    check_equal(dead_seqs(http, "work"), [1, 5, 6, 7], "left after a restart")
    http.must(http.post("/v1/groups/work/discard", {"topic": "orders"}), 200)
    check_equal(dead_seqs(http, "work"), [], "all")
    check_equal(pull_all(http), {9: 1}, "what was given up does not come")


@case(short=True)
def settling_the_dead(env):
    """Who acks a dead message without a lease settles it; a nack comes too late."""
    _, http = with_dead(env, 2)
    nack = http.post("/v1/groups/work/settle", {"topic": "orders", "action": "nack",
                                                "seqs": ["1"]}).json["ranges"]
    check_equal([r["outcome"] for r in nack], ["late"], "nack")
    ack = http.post("/v1/groups/work/settle", {"topic": "orders", "action": "ack",
                                               "seqs": ["1"]}).json["ranges"]
    check_equal([r["outcome"] for r in ack], ["accepted"], "ack")
    check_equal(dead_seqs(http, "work"), [2], "left")
    check_equal(gate(http, "work", "orders", 1), "acked", "it stands")


@case(short=True)
def the_dead_are_kept(env):
    """They are not settled: a topic that keeps until all is settled keeps them."""
    broker, http = with_dead(env, 3, config={"store": {"segment_mib": 16, "checkpoint_ms": 100}})
    lease, messages, _ = http.pull("work", 10, 5)
    http.settle("work", lease, "orders", "ack", seqs=[m["seq"] for m in messages])
    # A topic that was made later and fills the file without dead ones: retention looks at
    # it last, and takes its messages away.
    http.make_topic("witness")
    http.make_group("witness", "witness")
    session = broker.session()
    for _ in range(5):
        session.publish("witness", ["x" * 100000] * 40)
    session.attach("witness", credit_bytes=64 << 20)
    for _ in range(200):
        session.ack("witness", session.next().seq)
    session.close()
    wait_until(lambda: int(http.get("/v1/topics/witness").json["first_seq"]) > 1, 60,
               "the witness to go")
    check_equal(http.get("/v1/topics/orders").json["first_seq"], "1", "first kept")
    broker.restart()
    http = broker.http()
    check_equal(http.get("/v1/topics/orders").json["first_seq"], "1", "first kept")
    check_equal(http.get("/v1/topics/orders/messages/2").json["body"], "body 2", "still there")
    redrive(http, "work")
    redrive_end(http, "work")
    check_equal(sorted(pull_all(http)), [1, 2, 3], "they come again")


@case(short=True, threads=True)
def a_group_on_another_worker(env):
    """Each of several groups, asked over one connection that began anywhere."""
    broker = env.broker(config={"workers": 2})
    http = broker.http()
    http.make_topic("orders")
    groups = [f"group-{i}" for i in range(4)]
    for group in groups:
        http.make_group(group, "orders")
    for i in range(3):
        http.must(http.publish("orders", f"body {i}"))
    for group in groups:
        kill_messages(http, group, "orders", [1, 2, 3], group)
    for group in groups:
        check_equal(dead_seqs(http, group), [1, 2, 3], group)
        redrive(http, group, topic="orders", seqs=["2"])
        check_equal(redrive_end(http, group)["redriven"], "1", group)
        check_equal(http.post(f"/v1/groups/{group}/redrive/undo").json, {"undone": "1"}, group)
        check_equal(http.post(f"/v1/groups/{group}/discard",
                              {"topic": "orders", "seqs": ["3"]}).json, {"discarded": "1"}, group)
        check_equal(dead_seqs(http, group), [1, 2], group)


# --- the command line ---

def said(done):
    return done.stdout.decode() + done.stderr.decode()


@case(short=True)
def commands_for_the_dead(env):
    broker, http = with_dead(env, 6, reason="no \x1b[31mstock")
    text = broker.godwit("dead", "list", "work").stdout.decode()
    for part in ("TOPIC", "orders", "reject", "no \\x1b[31mstock"):
        check_in(part, text, "list")
    done = broker.godwit("dead", "list", "work", "-n", "4", "--json")
    check_equal([json.loads(line)["seq"] for line in done.stdout.decode().splitlines()],
                ["1", "2", "3", "4"], "list as JSON")
    check_in("more than these 4", done.stderr.decode(), "there are more")
    check_equal(broker.godwit("dead", "list", "work", "orders").stdout.decode().count("orders"), 6,
                "of the topic")
    http.make_topic("other")
    check_in("no dead messages of topic other", said(broker.godwit("dead", "list", "work", "other")),
             "of another one")
    text = broker.godwit("dead", "show", "work", "orders", "2").stdout.decode()
    for part in ("dead for group work", "reject", "body 2", "region = de"):
        check_in(part, text, "show")
    text = broker.godwit("dead", "show", "work", "orders", "7").stdout.decode()
    check(text.startswith("not dead: no_subscriber for group work"), text)
    broker.godwit("dead", "redrive", "work", "--cause", "nack")
    for word in ("status", "stop"):
        check_equal(said(broker.godwit("dead", word, "work")), "no redrive runs\n", word)
    check_in("6 dead messages match", said(broker.godwit("dead", "redrive", "work", "--dry-run")),
             "dry run")
    text = said(broker.godwit("dead", "redrive", "work", "orders", "--seqs", "1-2,4"))
    check_in("3 of 3 dead messages redriven", text, "redrive")
    check_in("undo", text, "a hint")
    for word in ("status", "stop"):
        check_equal(said(broker.godwit("dead", word, "work")),
                    "no redrive runs; the last one:\n3 of 3 dead messages redriven\n", word)
    check_in("3 messages are dead again", said(broker.godwit("dead", "undo", "work")), "undo")
    check_equal(len(dead_seqs(http, "work")), 6, "as before")
    check_in("2 dead messages discarded",
             said(broker.godwit("dead", "discard", "work", "orders", "--seqs", "5-6")), "discard")
    check_in("4 dead messages discarded",
             said(broker.godwit("dead", "discard", "work", "orders", "--all")), "discard")
    check_in("no dead messages", said(broker.godwit("dead", "list", "work")), "none left")
    for code, *words in ((5, "list", "nope"), (2, "list", "bad name"), (5, "status", "nope"),
                         (2, "discard", "work", "orders"), (5, "show", "work", "nope", "1"),
                         (2, "redrive", "work", "--seqs", "1"), (1, "redrive", "work", "--cause",
                                                                 "bad luck")):
        check_in("godwit: ", broker.godwit("dead", *words, check_code=code).stderr.decode(), words)


@case(short=True)
def ctrl_c_stops_a_redrive(env):
    broker, http = with_dead(env, 30)
    process = broker.godwit_start("dead", "redrive", "work", "--rate", "1")
    wait_until(lambda: len(dead_seqs(http, "work")) < 30, what="its beginning")
    process.send_signal(signal.SIGINT)
    check_equal(process.wait(20), 130, "exit code")
    check_in("was stopped", process.stdout.read().decode(), "it says so")
    left = len(dead_seqs(http, "work"))
    check_equal(http.get("/v1/groups/work/redrive").json["job"], "stopped", "stopped")
    check(left > 20, f"{left} are left")


main()
