#!/usr/bin/env python3
"""How long a topic keeps its messages, and that the disk gets smaller by it."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main, wait_until
from operate import lane
from session import Gap

MIB = 1 << 20
SMALL = {"segment_mib": 16, "checkpoint_ms": 100}
BODY = "x" * 100000  # 160 of them fill a segment


def topic(http, name="orders"):
    return http.must(http.get(f"/v1/topics/{name}")).json


def store(http):
    return {name: int(value) for name, value in http.get("/v1/store").json.items()
            if isinstance(value, (int, str)) and not isinstance(value, bool)}


def in_use(http):
    """What the log's files take, without those that wait to be used again."""
    shown = store(http)
    return shown["disk_bytes"] - shown["pool_segments"] * SMALL["segment_mib"] * MIB


def make(http, name="orders", **keep):
    http.must(http.post("/v1/topics", {"name": name, **keep}), 201)


def fill(session, count, name="orders", body=BODY):
    """Publish so many, 40 at a time; the last seq."""
    last = 0
    for at in range(0, count, 40):
        last = session.publish(name, [body] * min(40, count - at))[-1].seq
    return last


def take_all(session, count, ack=lambda seq: True, name="orders"):
    """Take so many deliveries and ack those that `ack` says; the seqs in order."""
    seqs = []
    while len(seqs) < count:
        got = session.take(min(100, count - len(seqs)))
        check(not any(isinstance(d, Gap) for d in got), f"a gap in {got}")
        seqs += [d.seq for d in got]
        wanted = [d.seq for d in got if ack(d.seq)]
        if wanted:
            outcomes = {r[2] for r in session.settle(name, "ack", seqs=wanted)}
            check_equal(outcomes, {"accepted"}, "acks")
    return seqs


def witness(http, session):
    """A topic made after the one that matters, whose first file all have settled."""
    make(http, "witness")
    http.make_group("witness", "witness")
    fill(session, 160, "witness")


def wait_for_witness(broker, http):
    """Until its messages go: retention has looked at all topics, the older ones first."""
    reader = broker.session()
    reader.attach("witness", credit_bytes=64 * MIB)
    take_all(reader, 160, name="witness")
    reader.close()
    wait_until(lambda: int(topic(http, "witness")["first_seq"]) > 1, 60, "the witness to go")


def wait_for_trims(http, session):
    """Until retention has looked at all that was published, some of it by whole files that a
    checkpoint has to know of. `witness` keeps one message and was made last."""
    for _ in range(2):
        before = store(http)["checkpoints"]
        last = session.publish("witness", ["x", "x"])[-1].seq
        wait_until(lambda: int(topic(http, "witness")["first_seq"]) == last, 60, "the witness")
        wait_until(lambda: store(http)["checkpoints"] > before, 60, "a checkpoint")


# --- what is said ---

@case(short=True, threads=True)
def a_topic_is_told_how_to_keep(env):
    broker = env.broker()
    http = broker.http()
    make(http)
    check_equal(topic(http)["keep"], "settled", "the default")
    make(http, "audit", keep="limit", keep_ms_max="604800000", keep_bytes_max=10 << 30)
    shown = topic(http, "audit")
    check_equal((shown["keep"], shown["keep_ms_max"], shown["keep_bytes_max"]),
                ("limit", "604800000", str(10 << 30)), "audit")
    check("keep_count_max" not in shown, f"a bound nobody set: {shown}")
    for wrong, limit in (({"keep_ms_max": 5}, "keep_ms_max"),
                         ({"keep": "limit"}, "keep"),
                         ({"keep": "limit", "keep_count_max": 5, "keep_ms_min": 1}, "keep_ms_min"),
                         ({"keep": "limit", "keep_ms_max": 10 ** 16}, "keep_ms_max")):
        for answer in (http.post("/v1/topics", {"name": "no", **wrong}),
                       http.call("PUT", "/v1/topics/audit", wrong)):
            check_equal((answer.code, answer.refused["limit"]), (400, limit), f"{wrong}: {answer}")
            check(len(answer.refused["text"]) > 20, f"no reason in {answer}")
    check_equal(topic(http, "audit"), shown, "after what was refused")
    check_equal(http.get("/v1/topics/no").code, 404, "the refused topic")
    http.must(http.call("PUT", "/v1/topics/audit", {"keep": "limit", "keep_count_max": "1000"}))
    check_equal(http.call("PUT", "/v1/topics/nope", {}).code, 404, "an update of nothing")
    for _ in range(2):
        shown = topic(http, "audit")
        check_equal((shown["keep"], shown["keep_count_max"]), ("limit", "1000"), "updated")
        check("keep_ms_max" not in shown, f"the old bound is there: {shown}")
        broker.kill()
        broker.start()
        http = broker.http()


@case()
def the_command_line_says_it_with_units(env):
    broker = env.broker()
    broker.godwit("topic", "create", "audit", "--keep", "limit", "--max-age", "7d", "--max-bytes",
                  "10GiB", "--max-count", "3M")
    shown = topic(broker.http(), "audit")
    check_equal((shown["keep_ms_max"], shown["keep_bytes_max"], shown["keep_count_max"]),
                (str(7 * 86400 * 1000), str(10 << 30), "3000000"), "created")
    said = broker.godwit("topic", "show", "audit").stdout.decode()
    for words in ("limit", "7 d", "10.0 GiB", "3,000,000"):
        check_in(words, said, "topic show")
    said = broker.godwit("topic", "list").stdout.decode()
    check_in("limit, 7 d, 10.0 GiB, 3,000,000 messages", said, "topic list")
    broker.godwit("topic", "update", "audit", "--min-age", "36h")
    said = broker.godwit("topic", "list").stdout.decode()
    check_in("settled, 36 h at least", said, "topic list after the update")
    failed = broker.godwit("topic", "update", "audit", "--max-age", "7d", check_code=None)
    check(failed.returncode != 0, "a contradiction is taken")
    check_in("keep", failed.stderr.decode(), "the refusal")


# --- what goes ---

@case(short=True, threads=True, timeout=120)
def what_all_have_settled_gives_its_space_back(env):
    broker = env.broker(config={"store": SMALL, "workers": 2})
    http = broker.http()
    make(http)
    http.make_group("one", "orders")
    http.make_group("two", "orders")
    session = broker.session()
    witness(http, session)
    count = fill(session, 960)
    one, two = broker.session(), broker.session()
    one.attach("one", credit_bytes=64 * MIB)
    two.attach("two", credit_bytes=64 * MIB)
    take_all(one, count)
    used = store(http)["disk_bytes"]
    check(used >= 96 * MIB, f"only {used >> 20} MiB for {count} messages")
    wait_for_witness(broker, http)
    check_equal(int(topic(http)["first_seq"]), 1, "first_seq while the other group needs it")
    check(store(http)["disk_bytes"] >= count * len(BODY), "files went that the other group needs")
    take_all(two, count)
    # Nobody does anything any more, and the two readers stay attached.
    wait_until(lambda: in_use(http) <= 80 * MIB, 30, "the disk to get smaller")
    shown = topic(http)
    check(int(shown["first_seq"]) > 1, f"first_seq of {shown}")
    check_equal(int(shown["last_seq"]), count, "last_seq")
    for group in ("one", "two"):
        check_equal(lane(http, group)["acked"], count, f"acked by {group}")
    with open(f"/proc/{broker.process.pid}/maps") as maps:
        gone = [line for line in maps if "/log/" in line and "(deleted)" in line]
    check(not gone, f"files that are gone are mapped: {gone}")
    for fd in os.scandir(f"/proc/{broker.process.pid}/fd"):
        target = os.readlink(fd.path)
        check("/log/" not in target or "(deleted)" not in target, f"{target} is open")
    broker.kill()
    broker.start()
    http = broker.http()
    session = broker.session()
    session.attach("one")
    check_equal(session.publish("orders", ["next"])[0].seq, count + 1, "the next seq")
    check_equal([d.seq for d in session.take(1)], [count + 1], "and nothing else")


@case(timeout=180)
def one_old_message_a_segment_keeps_no_segment(env):
    broker = env.broker(config={"store": SMALL})
    http = broker.http()
    make(http)
    http.make_group("work", "orders")
    session = broker.session()
    count = fill(session, 1600)
    reader = broker.session()
    reader.attach("work", credit_messages=5000, credit_bytes=64 * MIB)
    held = [seq for seq in range(1, count + 1) if seq % 100 == 50]
    take_all(reader, count, lambda seq: seq not in held)
    wait_until(lambda: in_use(http) <= 80 * MIB, 60, "the disk to get smaller")
    check(store(http)["moved_bytes"] > 0, "nothing was moved")
    for end in (broker.kill, broker.stop):
        end()
        broker.start()
        reader = broker.session()
        reader.attach("work", credit_messages=5000, credit_bytes=64 * MIB)
        again = reader.take(len(held))
        check_equal([d.seq for d in again], held, "what was not acked")
        check({d.body for d in again} == {BODY.encode()}, "their bodies")
        check(reader.none_comes(0.3), "something else came")
        reader.close()
    http = broker.http()
    check_equal(lane(http, "work")["gap"], 0, "gaps")


def limited(env, **keep):
    broker = env.broker(config={"store": SMALL})
    http = broker.http()
    make(http, keep="limit", **keep)
    http.make_group("work", "orders", lease_ms=300000)  # none ends while much is written
    return broker, http, broker.session()


def check_rest(broker, http, count):
    """A group that has read nothing gets what is left, in order, without a gap."""
    def books_agree():
        first, books = int(topic(http)["first_seq"]), lane(http, "work")
        shown = (books["deleted"], books["ready"], books["gap"])
        return first if shown == (first - 1, count - first + 1, 0) else None
    first = wait_until(books_agree, 30, "the books to agree with first_seq")
    reader = broker.session()
    reader.attach("work", credit_messages=5000, credit_bytes=64 * MIB)
    seqs = take_all(reader, count - first + 1)
    check_equal(seqs, list(range(first, count + 1)), "what is left")
    check(reader.none_comes(0.3), "something else came")
    reader.close()
    return first


@case(short=True, threads=True, timeout=120)
def a_limit_by_count(env):
    broker, http, session = limited(env, keep_count_max=100)
    count = fill(session, 960)
    wait_until(lambda: int(topic(http)["first_seq"]) == count - 99, 30, "the trim")
    wait_until(lambda: in_use(http) <= 80 * MIB, 30, "the disk to get smaller")
    check_equal(check_rest(broker, http, count), count - 99, "the first one left")
    broker.kill()
    broker.start()
    check_equal(int(topic(broker.http())["first_seq"]), count - 99, "after a restart")


@case(timeout=120)
def a_limit_by_bytes(env):
    broker, http, session = limited(env, keep_bytes_max=40 * MIB)
    make(http, "witness", keep="limit", keep_count_max=1)
    count = fill(session, 1600)
    wait_until(lambda: in_use(http) <= 120 * MIB, 30, "the disk to get smaller")
    wait_for_trims(http, session)
    first = check_rest(broker, http, count)
    kept = (count - first + 1) * len(BODY)
    check(40 * MIB <= kept + 200000 and kept <= 60 * MIB, f"{kept >> 20} MiB are kept")


@case(timeout=120)
def a_limit_by_age(env):
    broker, http, session = limited(env, keep_ms_max=3000)
    count = fill(session, 480)
    wait_until(lambda: int(topic(http)["first_seq"]) == count + 1, 30, "all to be too old")
    wait_until(lambda: in_use(http) <= 64 * MIB, 30, "the disk to get smaller")
    check_equal(lane(http, "work")["deleted"], count, "deleted")
    session.publish("orders", ["young"])
    reader = broker.session()
    reader.attach("work")
    check_equal([d.seq for d in reader.take(1)], [count + 1], "deliveries")


@case(timeout=120)
def a_least_age_keeps_what_is_settled(env):
    broker = env.broker(config={"store": SMALL})
    http = broker.http()
    make(http, keep_ms_min=3600000)
    http.make_group("work", "orders")
    session = broker.session()
    witness(http, session)
    count = fill(session, 480)
    reader = broker.session()
    reader.attach("work", credit_bytes=64 * MIB)
    take_all(reader, count)
    wait_for_witness(broker, http)
    check_equal(int(topic(http)["first_seq"]), 1, "first_seq")
    check(store(http)["disk_bytes"] >= count * len(BODY), "files are gone")
    http.make_group("later", "orders")
    late = broker.session()
    late.attach("later", credit_bytes=64 * MIB)
    check_equal(take_all(late, count), list(range(1, count + 1)), "a later group's messages")
    http.must(http.call("PUT", "/v1/topics/orders", {}))
    wait_until(lambda: int(topic(http)["first_seq"]) > 1, 30, "the update to count")


@case(short=True, threads=True, timeout=120)
def what_is_in_flight_may_be_acked_when_it_is_deleted(env):
    broker, http, session = limited(env, keep_count_max=20)
    session.publish("orders", ["a", "b", "c"])
    reader = broker.session()
    reader.attach("work", credit_messages=3)
    check_equal([d.seq for d in reader.take(3)], [1, 2, 3], "deliveries")
    count = fill(session, 960)
    wait_until(lambda: int(topic(http)["first_seq"]) == count - 19, 30, "the trim")
    check_equal(lane(http, "work")["in_flight"], 3, "in flight")
    check_equal(reader.settle("orders", "ack", seqs=[1]), [(1, 1, "accepted", 0)], "an ack")
    check_equal(reader.settle("orders", "nack", seqs=[2]), [(2, 2, "accepted", 0)], "a nack")
    reader.close()
    wait_until(lambda: lane(http, "work")["in_flight"] == 0, 20, "the reader to be gone")
    books = lane(http, "work")
    check_equal((books["acked"], books["delayed"]), (1, 0), f"books {books}")
    first = int(topic(http)["first_seq"])
    reader = broker.session()
    reader.attach("work", credit_messages=5000)
    check_equal(take_all(reader, count - first + 1)[0], first, "the next delivery")


@case(timeout=180)
def a_new_group_begins_where_the_topic_does(env):
    """Old messages that are there for one slow group only are not for a new one."""
    broker = env.broker(config={"store": SMALL})
    http = broker.http()
    make(http)
    http.make_group("slow", "orders")
    session = broker.session()
    count = fill(session, 960)
    slow = broker.session()
    slow.attach("slow", credit_messages=5000, credit_bytes=64 * MIB)
    take_all(slow, count, lambda seq: seq != 7)
    wait_until(lambda: in_use(http) <= 80 * MIB, 60, "the disk to get smaller")
    check_equal(int(topic(http)["first_seq"]), 7, "first_seq: the slow group's")
    http.make_group("new", "orders")
    for _ in range(2):
        books = lane(http, "new")
        check(books["published"] < 400, f"the new group begins with the old ones: {books}")
        new = broker.session()
        new.attach("new", credit_messages=5000, credit_bytes=64 * MIB)
        first = count - books["published"] + 1
        got = new.take(books["published"])
        check_equal([getattr(d, "seq", d) for d in got], list(range(first, count + 1)),
                    "deliveries to the new group")
        new.close()
        broker.kill()
        broker.start()
        http = broker.http()
    slow = broker.session()
    slow.attach("slow")
    check_equal([d.seq for d in slow.take(1)], [7], "the slow group's")


@case(timeout=240)
def many_rounds_do_not_fill_the_disk(env):
    """Log and keydir stay as they are while all that comes is settled, also beside workers and
    sessions that do nothing."""
    broker = env.broker(config={"store": SMALL, "workers": 3})
    http = broker.http()
    make(http)
    make(http, "quiet")
    http.make_group("work", "orders")
    idle = [broker.session() for _ in range(3)]
    for name, quiet in zip(("a", "b", "c"), idle):
        http.make_group(name, "quiet")
        quiet.attach(name)
    session, reader = broker.session(), broker.session()
    reader.attach("work", credit_messages=10000, credit_bytes=64 * MIB)
    keydir = []
    for _ in range(8):
        fill(session, 320)                    # two segments of large ones
        fill(session, 4000, body="small")     # and many small ones
        take_all(reader, 4320)
        wait_until(lambda: in_use(http) <= 96 * MIB, 30, "the disk to get smaller")
        keydir.append(store(http)["keydir_bytes"])
    check(keydir[-1] <= 2 * keydir[2] + MIB, f"keydir bytes: {keydir}")


main()
