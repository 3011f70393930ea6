#!/usr/bin/env python3
"""Tag, id, delay, time to live, all or nothing: what a publish may ask for."""
import json
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, main, wait_until
from operate import lane
from websocket import TEXT, Closed

DAY_MS = 24 * 3600 * 1000
ATOMIC_LEN_MAX = 2 << 20


def with_orders(env, **config):
    broker = env.broker(**config)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    return broker, http


def now_ms():
    return int(time.time() * 1000)


def last_seq(http, topic="orders"):
    return int(http.get(f"/v1/topics/{topic}").json["last_seq"])


def batch(http, messages, topic="orders", **more):
    return http.post(f"/v1/topics/{topic}/batch", {"messages": messages, **more})


@case(short=True)
def options_come_with_the_delivery(env):
    _, http = with_orders(env)
    past = now_ms() - 5000
    results = http.must(batch(http, [
        {"tag": "röd", "id": "o-1", "ttl_ms": 600000, "key": "k", "body": "a"},
        {"deliver_at_ms": str(past)}])).json["results"]
    check_equal([r["seq"] for r in results], ["1", "2"], "results")
    http.must(http.post("/v1/topics/orders/messages", "b", headers={
        "Godwit-Tag": "r%C3%B6d", "Godwit-Message-Id": "o-2", "Godwit-Ttl-Ms": "5000"}))
    _, messages, _ = http.pull("work", wait=5)
    shown = [{k: m[k] for k in ("tag", "id", "ttl_ms", "deliver_at_ms", "key", "body") if k in m}
             for m in messages]
    check_equal(shown, [
        {"tag": "röd", "id": "o-1", "ttl_ms": "600000", "key": "k", "body": "a"},
        {"deliver_at_ms": str(past), "body": ""},
        {"tag": "röd", "id": "o-2", "ttl_ms": "5000", "body": "b"}], "pulled")


# (the message, its refusal's status, its limit, has numbers)
BAD = [
    ({"tag": "t" * 129}, "too_large", "tag_len", True),
    ({"id": "i" * 129}, "too_large", "message_id_len", True),
    ({"delay_ms": 366 * DAY_MS + 1}, "invalid", "delay_ms", True),
    ({"delay_ms": "18446744073709551615"}, "invalid", "delay_ms", True),
    ({"deliver_at_ms": "253402300800000"}, "invalid", "deliver_at_ms", True),
    ({"deliver_at_ms": "253402300799999"}, "invalid", "deliver_at_ms", True),  # the year 9999
    ({"deliver_at_ms": now_ms() + 367 * DAY_MS}, "invalid", "deliver_at_ms", True),
    ({"delay_ms": 1, "deliver_at_ms": 1}, "invalid", "delay_ms", False),
    ({"ttl_ms": 3660 * DAY_MS + 1}, "invalid", "ttl_ms", True),
]
GOOD = [
    {"tag": "t" * 128}, {"id": "i" * 128}, {"delay_ms": 366 * DAY_MS},
    {"deliver_at_ms": now_ms() + 365 * DAY_MS}, {"deliver_at_ms": 1},
    {"ttl_ms": 3660 * DAY_MS}, {"ttl_ms": 0, "delay_ms": 0, "deliver_at_ms": "0"},
]


@case(short=True)
def each_bad_value_is_refused_by_its_name_and_alone(env):
    _, http = with_orders(env)
    results = http.must(batch(http, [m for bad in BAD for m in (bad[0], {"body": "good"})]
                              + GOOD)).json["results"]
    good = [r["seq"] for r in results if "seq" in r]
    check_equal(good, [str(1 + i) for i in range(len(BAD) + len(GOOD))], "the good ones")
    for number, (message, status, limit, numbers) in enumerate(BAD):
        refused = results[2 * number].get("refused")
        check(refused, f"{message}: {results[2 * number]}")
        check_equal((refused["status"], refused.get("limit")), (status, limit), f"{message}")
        check(refused["text"], f"no text for {message}")
        if numbers:
            check(int(refused["used"]) > int(refused["allowed"]), f"{message}: {refused}")
    check_equal(last_seq(http), len(good), "last seq")


@case(short=True, threads=True)
def an_id_is_stored_once(env):
    broker, http = with_orders(env)
    http.make_topic("other")
    ids = [{"id": f"o-{i % 3}", "body": str(i)} for i in range(6)]
    results = http.must(batch(http, ids)).json["results"]
    check_equal([(r["seq"], r.get("duplicate", False)) for r in results],
                [("1", False), ("2", False), ("3", False),
                 ("1", True), ("2", True), ("3", True)], "in one batch")
    again = http.must(http.post("/v1/topics/orders/messages", "x",
                                headers={"Godwit-Message-Id": "o-1"})).json
    check_equal((again["seq"], again["duplicate"]), ("2", True), "again")
    check_equal(http.must(batch(http, ids[:1], "other")).json["results"][0]["seq"], "1",
                "in another topic it is another one")
    check_equal(last_seq(http), 3, "last seq")
    for end in (broker.stop, broker.kill):
        end()
        broker.start()
        http = broker.http()
        results = http.must(batch(http, ids[:3] + [{"id": "new" + end.__name__}])).json["results"]
        check_equal([r.get("duplicate", False) for r in results], [True, True, True, False],
                    f"after {end.__name__}")
        check_equal([r["seq"] for r in results[:3]], ["1", "2", "3"], f"after {end.__name__}")


@case(short=True)
def an_id_in_a_numbered_publish_is_refused_alone(env):
    broker, http = with_orders(env)
    session = broker.session(producer=5)
    first = session.publish_start("orders", ["a", {"id": "o-1", "body": "b"}, "c"], producer_seq=1)
    replies = [session.reply_to(first + i) for i in range(3)]
    check_equal([r["type"] for r in replies], ["confirm", "refused", "confirm"], "replies")
    check_equal((replies[1]["status"], replies[1]["limit"], replies[1]["count"]),
                ("invalid", "message_id", "1"), "the refusal")
    check_equal(last_seq(http), 2, "last seq")


# ---- all or nothing ----

@case(short=True)
def a_bad_one_refuses_all_of_an_atomic_batch(env):
    broker, http = with_orders(env)
    for message, status, limit, _ in BAD:
        answer = batch(http, [{"body": "good"}, message, {"tag": "x" * 200}], atomic=True)
        check(answer.code in (400, 413), f"{message}: {answer}")
        check_equal((answer.refused["status"], answer.refused["limit"]), (status, limit),
                    f"{message}")
        check_equal(answer.refused["scope"], "messages[1]", "scope")
    check_equal(last_seq(http), 0, "last seq")
    session = broker.session()
    first = session.next_id(3)
    session.send({"type": "publish", "id": str(first), "topic": "orders", "atomic": True,
                  "messages": [{}, {}, {"ttl_ms": "99999999999999"}]})
    reply = session.reply_to(first)
    check_equal((reply["type"], reply["count"], reply["limit"]), ("refused", "3", "ttl_ms"),
                "on a stream")
    results = http.must(batch(http, [{}, {"tag": "x"}, {"id": "a"}], atomic=True)).json["results"]
    check_equal([r["seq"] for r in results], ["1", "2", "3"], "good ones")


def atomic_of(records):
    """Messages whose records take `records` bytes of the log, half of it each."""
    body_len = records // 2 - 64 - 4
    return [{"body": "x" * body_len}, {"body": "y" * body_len}]


@case()
def an_atomic_batch_has_a_bound(env):
    _, http = with_orders(env)
    results = http.must(batch(http, atomic_of(ATOMIC_LEN_MAX), atomic=True)).json["results"]
    check_equal([r["seq"] for r in results], ["1", "2"], "at the bound")
    answer = batch(http, atomic_of(ATOMIC_LEN_MAX)[:1] + [
        {"body": "x" * (ATOMIC_LEN_MAX // 2 - 67)}], atomic=True)
    check_equal((answer.code, answer.refused["limit"]), (413, "atomic_len"), "one past")
    check_equal((answer.refused["used"], answer.refused["allowed"]),
                (str(ATOMIC_LEN_MAX + 8), str(ATOMIC_LEN_MAX)), "numbers")
    check_equal(last_seq(http), 2, "last seq")


def on_a_slow_disk(env, broker, ms):
    """Start it anew with syncs that take so much longer. A preloaded library may not come before a
    sanitizer's runtime: such a broker is only started anew."""
    broker.stop()
    if not env.sanitized:
        library = env.path("slow_sync.so")
        source = os.path.join(os.path.dirname(__file__), "../lib/slow_sync.c")
        subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source],
                       check=True)
        broker.more_env = {"LD_PRELOAD": library, "SLOW_SYNC_MS": str(ms)}
    broker.start()
    return broker.http()


@case(timeout=120)
def atomic_batches_wait_for_room_as_a_whole(env):
    """Several times what the worker's ring (8 MiB) holds, faster than a slow disk takes it: they
    stand behind each other, unmixed."""
    broker, http = with_orders(env, config={"workers": 1})
    http = on_a_slow_disk(env, broker, 100)
    count = env.size(20)
    sessions = [broker.session() for _ in range(2)]
    firsts = []
    for number in range(count):
        session = sessions[number % 2]
        first = session.next_id(4)
        session.send({"type": "publish", "id": str(first), "topic": "orders", "atomic": True,
                      "messages": [{"key": str(number), "body": "x" * 500000}] * 4})
        firsts.append((session, first))
    begins = [confirms[0].seq for confirms in
              (session.publish_end(first, 4, 60) for session, first in firsts)]
    check_equal(sorted(begins), list(range(1, 4 * count, 4)), "where the batches begin")
    got = []
    while len(got) < 4 * count:
        lease, messages, _ = http.pull("work", most=100, wait=5)
        got += [(int(m["seq"]), m["key"]) for m in messages]
        http.settle("work", lease, "orders", seqs=[m["seq"] for m in messages])
    keys = [key for _, key in sorted(got)]
    check(all(len(set(keys[i:i + 4])) == 1 for i in range(0, len(keys), 4)), f"mixed: {keys}")


def send_batches(session, size, sent):
    """Until the broker is gone; the bodies are such that the log's own batches (4 MiB) would be
    full in the midst of one."""
    text = json.dumps({"type": "publish", "id": "0", "topic": "orders", "atomic": True,
                       "messages": [{"body": "x" * 300000}] * size})
    try:
        while True:
            session.ws.send(TEXT, text)
            sent.append(size)
    except (OSError, Closed):
        pass


@case(timeout=120)
def an_atomic_batch_is_whole_after_kill_9(env):
    """Between two writes of the log, if it hits; the power cuts of test/storage hit each of them."""
    broker, http = with_orders(env, config={"workers": 1})
    size, before = 5, 0
    for turn in range(env.size(6)):
        sent = []
        threads = [threading.Thread(target=send_batches, args=(broker.session(), size, sent))
                   for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(sent) > 10 and last_seq(http) > before, what="the first is stored")
        time.sleep(0.005 * turn)
        broker.kill()
        for thread in threads:
            thread.join()
        broker.start()
        http = broker.http()
        last = last_seq(http)
        check_equal((last - before) % size, 0, f"messages from {before} to {last}")
        before = last


@case()
def an_atomic_batch_sent_again_is_a_duplicate(env):
    broker, http = with_orders(env)
    messages = [{"body": str(i)} for i in range(4)]
    for turn in range(2):
        session = broker.session(producer=77)
        first = session.next_id(4)
        session.send({"type": "publish", "id": str(first), "topic": "orders", "atomic": True,
                      "producer_seq": "1", "messages": messages})
        confirms = session.publish_end(first, 4)
        check_equal([(c.seq, c.duplicate) for c in confirms],
                    [(i + 1, turn == 1) for i in range(4)], f"turn {turn}")
        broker.restart()
    check_equal(last_seq(broker.http()), 4, "last seq")


# ---- when it comes ----

@case(short=True, threads=True)
def a_delay_is_a_lower_bound_and_holds_up_nobody(env):
    broker, http = with_orders(env)
    session = broker.session()
    session.attach("work")
    began = time.time()
    at_ms = now_ms() + 1200
    session.publish("orders", [{"delay_ms": 800, "body": "later"},
                               {"deliver_at_ms": str(at_ms), "body": "last"}, {"body": "now"},
                               {"deliver_at_ms": "1", "body": "past"}])
    check_equal([session.next().body for _ in range(2)], [b"now", b"past"], "at once")
    check_equal(lane(http)["delayed"], 2, "delayed in the books")
    got = session.next()
    check_equal((got.body, got.seq, got.attempt), (b"later", 1, 1), "the delayed one")
    check(time.time() - began >= 0.8, "it came before its time")
    check_equal(session.next().body, b"last", "the one with a time")
    check(now_ms() >= at_ms, "it came before its time")


@case(short=True, threads=True)
def a_delay_outlives_kill_9(env):
    broker, http = with_orders(env)
    http.must(batch(http, [{"delay_ms": 4000 if env.sanitized else 2000}, {"delay_ms": 1}]))
    due = time.time() + (4 if env.sanitized else 2)
    broker.kill()
    broker.start()
    session = broker.session()
    session.attach("work")
    check_equal([session.next().seq, session.next().seq], [2, 1], "order")
    check(time.time() >= due - 0.1, "it came before its time")


@case(short=True)
def what_is_too_old_does_not_come(env):
    broker, http = with_orders(env)
    http.must(batch(http, [{"ttl_ms": 300, "body": "short"}, {"ttl_ms": 600000, "body": "long"},
                           {"delay_ms": 200, "ttl_ms": 200, "body": "late and short"},
                           {"delay_ms": 900, "ttl_ms": 600000, "body": "late and long"}]))
    time.sleep(0.6)
    session = broker.session()
    session.attach("work")
    check_equal([session.next().body for _ in range(2)], [b"long", b"late and long"], "delivered")
    session.ack("orders", 2, 4)
    wait_until(lambda: lane(http)["expired"] == 2, what="two expired in the books")
    check(session.none_comes(0.3), "one more came")


# ---- what a subscriber says ----

def reasons(http, seq):
    """(cause, reason) of each failed attempt at a message of orders."""
    shown = http.must(http.get(f"/v1/groups/work/messages/orders/{seq}")).json
    return [(h["cause"], h.get("reason", "")) for h in shown["history"]]


@case(short=True)
def rejected_is_dead_at_once(env):
    broker, http = with_orders(env)
    session = broker.session()
    session.publish("orders", ["a", "b", "c"])
    session.attach("work")
    session.take(3)
    check_equal(session.settle("orders", "reject", seqs=[1, 3], reason="no such customer"),
                [(1, 1, "accepted", 0), (3, 3, "accepted", 0)], "reject")
    check_equal(lane(http)["dead"], 2, "dead in the books")
    check_equal(session.settle("orders", "nack", seqs=[1])[0][2], "late", "a nack of a dead one")
    session.settle("orders", "nack", seqs=[2], delay_ms="1", reason="again")
    check_equal((lambda d: (d.seq, d.attempt))(session.next()), (2, 2), "what was not rejected")
    check_equal(reasons(http, 1), [("reject", "no such customer")], "history of 1")
    check_equal(reasons(http, 2), [("nack", "again")], "history of 2")
    broker.kill()
    broker.start()
    session = broker.session()
    session.attach("work")
    check_equal(session.next().seq, 2, "after a restart")
    check(session.none_comes(0.3), "a dead one came")
    http = broker.http()
    check_equal(lane(http)["dead"], 2, "dead after a restart")
    check_equal(reasons(http, 3), [("reject", "no such customer")], "history of 3")


@case(short=True, threads=True)
def rejected_over_http(env):
    broker, http = with_orders(env)
    http.publish("orders", "x")
    lease, _, _ = http.pull("work", wait=5)
    ranges = http.settle("work", lease, "orders", "reject", seqs=["1"], reason="r" * 256)
    check_equal([(r["first"], r["outcome"]) for r in ranges], [("1", "accepted")], "reject")
    check_equal(lane(http)["dead"], 1, "dead in the books")
    answer = http.post("/v1/groups/work/settle", {"lease": lease, "topic": "orders",
                                                  "action": "reject", "seqs": ["1"],
                                                  "reason": "r" * 257})
    check_equal((answer.code, answer.refused["limit"]), (413, "reason_len"), "a reason too long")


@case(short=True, threads=True)
def a_notice_comes_before_a_lease_ends(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms=1500, notice_ms=1000)
    session = broker.session()
    session.publish("orders", ["a", "b"])
    session.attach("work")
    session.take(2)
    session.ack("orders", 2)
    seen = wait_for(session, "notice")
    check_equal((seen["topic"], seen["first"], seen["last"]), ("orders", "1", "1"), "the notice")
    check(0 < int(seen["ends_in_ms"]) <= 1000, f"{seen}")
    session.settle("orders", "extend", seqs=[1], delay_ms="1500")
    check_equal(wait_for(session, "notice")["first"], "1", "once a lease: the new one's")
    check_equal([r[2] for r in session.ack("orders", 1)], ["accepted"], "ack in time")


def wait_for(session, kind, timeout=10):
    """The next reply of this type, wherever it is."""
    deadline = time.monotonic() + timeout
    while True:
        for reply in session.others:
            if reply["type"] == kind:
                session.others.remove(reply)
                return reply
        reply = session.receive(max(0.01, deadline - time.monotonic()))
        if reply is not None:
            session.others.append(reply)


# ---- the command line ----

@case(short=True)
def the_command_line_says_them_all(env):
    broker, http = with_orders(env)
    broker.godwit("pub", "orders", "--key", "k", "--tag", "red", "--id", "o-1", "--ttl", "7d",
                  "--deliver-at", "2020-01-31T18:00", stdin=b"hello\n")
    done = broker.godwit("pub", "orders", "--id", "o-1", "--json", stdin=b"again\n")
    check_equal(json.loads(done.stdout)["duplicates"], 1, "duplicates of the second run")
    rows = b"id,kind,text\n7,red,one\n8,blue,two\n7,red,one\n"
    broker.godwit("pub", "orders", "--format", "csv", "--id-field", "id", "--tag-field", "kind",
                  stdin=rows)
    broker.godwit("pub", "orders", "--format", "json", "--key-field", "k", "--id-field", "n",
                  stdin=b'{"k":"a","n":9}\n')
    shown = broker.godwit("sub", "work", "--json", "--count", "4").stdout.decode().splitlines()
    shown = [json.loads(line) for line in shown]
    check_equal([{k: m[k] for k in ("key", "tag", "id", "ttl_ms", "deliver_at_ms", "body")
                  if k in m} for m in shown],
                [{"key": "k", "tag": "red", "id": "o-1", "ttl_ms": 7 * DAY_MS,
                  "deliver_at_ms": 1580493600000, "body": "hello"},
                 {"tag": "red", "id": "7", "body": "7,red,one"},
                 {"tag": "blue", "id": "8", "body": "8,blue,two"},
                 {"key": "a", "id": "9", "body": '{"k":"a","n":9}'}], "shown")


@case()
def the_command_line_publishes_all_or_nothing(env):
    broker, http = with_orders(env)
    lines = b"".join(b"line %d\n" % i for i in range(1500))  # more than the usual window
    broker.godwit("pub", "orders", "--atomic", stdin=lines)
    check_equal(last_seq(http), 1500, "last seq")
    broker.godwit("pub", "orders", "--atomic", stdin=b"x" * 1000000 + b"\n" + b"y" * 1000000
                  + b"\n" + b"z" * 200000 + b"\n", check_code=1)
    broker.godwit("pub", "orders", "--atomic", "--format", "json", stdin=b'{"a":1}\nno json\n',
                  check_code=1)
    broker.godwit("pub", "orders", "--atomic", "--tag", "t" * 129, stdin=b"a\nb\n", check_code=1)
    check_equal(last_seq(http), 1500, "last seq after what was refused")
    broker.godwit("pub", "orders", "--atomic", stdin=b"")


@case()
def the_command_line_refuses_contradictions(env):
    broker = env.broker(start=False)
    for words, said in [
            (["--key", "a", "--key-field", "b", "--format", "csv"], b"--key and --key-field"),
            (["--id-field", "b"], b"lines have no fields"),
            (["--delay", "5s", "--deliver-at", "2030-01-01"], b"--delay and --deliver-at"),
            (["--deliver-at", "2h"], b"--deliver-at 2h"),
            (["--delay", "367d"], b"--delay 367d"), (["--delay", "5"], b"--delay"),
            (["--ttl", "0s"], b"--ttl")]:
        done = broker.godwit("pub", "orders", *words, stdin=b"", check_code=2, env=dict(os.environ))
        check(said in done.stderr, f"{words}: {done.stderr}")
    for words, said in [(["--nack", "--reject"], b"one of them"), (["--delay", "5s"], b"--nack"),
                        (["--reason", "x"], b"--reason")]:
        done = broker.godwit("sub", "work", *words, check_code=2, env=dict(os.environ))
        check(said in done.stderr, f"{words}: {done.stderr}")


@case()
def the_command_line_nacks(env):
    broker, http = with_orders(env)
    broker.godwit("pub", "orders", stdin=b"a\nb\n")
    done = broker.godwit("sub", "work", "--count", "2", "--nack", "--delay", "1s", "--reason", "no")
    check(b"2 nacks accepted" in done.stderr, f"{done.stderr}")
    shown = broker.godwit("sub", "work", "--count", "2", "--json").stdout.decode().splitlines()
    check_equal([json.loads(line)["attempt"] for line in shown], [2, 2], "attempts")


@case()
def a_dump_shows_them(env):
    broker, http = with_orders(env)
    http.must(batch(http, [{"tag": "red", "id": "o-1", "delay_ms": 5, "body": "a"},
                           {"id": "o-2", "ttl_ms": 60000}], atomic=True))
    broker.stop()
    done = broker.godwit("dump", broker.data_dir, "--topic", "orders", env=dict(os.environ))
    shown = [json.loads(line) for line in done.stdout.decode().splitlines()]
    names = ("seq", "tag", "id", "delay_ms", "ttl_ms", "more", "producer")
    check_equal([{k: m[k] for k in names if k in m} for m in shown if m["kind"] == "message"],
                [{"seq": 1, "tag": "red", "id": "o-1", "delay_ms": 5, "more": True},
                 {"seq": 2, "id": "o-2", "ttl_ms": 60000}], "the dump")


@case(short=True)
def pub_makes_headers_of_columns(env):
    broker, _ = with_orders(env)
    rows = b"id,region,vip\n1,eu,true\n2,,false\n3,cn,true\n"
    for more in ((), ("--atomic",)):
        broker.godwit("pub", "orders", "--format", "csv", "--key-field", "id", "--header", "by=me",
                      "--header-field", "region", "--header-field", "vip", *more, stdin=rows)
    found = broker.godwit("search", "orders", "--filter", "vip == true && by == 'me'", "--json")
    check_equal([(m["key"], m["headers"]) for m in map(json.loads, found.stdout.splitlines())],
                [(key, {"by": "me", "region": region, "vip": "true"})
                 for key, region in (("1", "eu"), ("3", "cn"))] * 2, "found")
    none = broker.godwit("search", "orders", "--filter", "!has(region)", "--json")
    check_equal([json.loads(line)["key"] for line in none.stdout.splitlines()], ["2", "2"],
                "an empty column is no header")


main()
