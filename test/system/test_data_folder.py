#!/usr/bin/env python3
"""Damage, newer versions and strangers in the data folder."""
import ctypes
import fcntl
import glob
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import Broker
from harness import Failed, Skip, case, check, check_equal, check_in, main, wait_until
from session import Gap

BLOCK_HALF, FIELDS = 2048, 2040  # FORMAT.md: the block at the head of a file


def checksum(data):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library.XXH3_64bits(data, len(data))


def files_with_blocks(data_dir):
    """Files that begin with the block every file of the log begins with."""
    found = []
    for base, _, names in os.walk(data_dir):
        for name in names:
            with open(os.path.join(base, name), "rb") as file:
                half = file.read(BLOCK_HALF)
            if len(half) == BLOCK_HALF and \
                    struct.unpack_from("<Q", half, FIELDS)[0] == checksum(half[:FIELDS]):
                found.append(os.path.join(base, name))
    return sorted(found)


def make_newer(path):
    """The same block as a later format version would write it."""
    with open(path, "r+b") as file:
        half = bytearray(file.read(BLOCK_HALF))
        struct.pack_into("<I", half, 8, 999)
        struct.pack_into("<Q", half, FIELDS, checksum(bytes(half[:FIELDS])))
        file.seek(0)
        file.write(half + half)


@case(short=True, threads=True)
def an_idle_broker_removes_what_a_crash_left_unfinished(env):
    broker = env.broker()
    log = os.path.join(broker.data_dir, "log")
    broker.kill()
    for number in (90, 91):
        with open(os.path.join(log, f"00000000{number}.tmp"), "wb") as file:
            file.write(bytes(1 << 20))
    broker.start()
    wait_until(lambda: not [name for name in os.listdir(log) if name[:8] == "00000000"
                            and name.endswith((".tmp", ".old")) and name[8] == "9"],
               20, "unfinished segments to be removed")


def segments(data_dir):
    return sorted(glob.glob(os.path.join(data_dir, "**", "*.seg"), recursive=True))


def places(data_dir, body):
    """(path, offset) of a body in the log."""
    found = []
    for path in segments(data_dir):
        with open(path, "rb") as file:
            whole = file.read()
        at = whole.find(body)
        while at >= 0:
            found.append((path, at))
            at = whole.find(body, at + 1)
    return found


def flip(path, offset, bit=0):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def filled(env, count=200, **options):
    """A stopped broker with `count` messages, published 20 at a time."""
    broker = env.broker(**options)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    for at in range(0, count, 20):
        session.publish("orders", [body_of(at + i) for i in range(20)])
    session.close()
    return broker


def body_of(index):
    return f"<<body number {index:06}>>" + "x" * 200


def collect(broker, count, seconds=20):
    """Deliveries by seq and gap seqs until all `count` numbers are accounted for."""
    session = broker.session()
    session.attach("work", credit_messages=5000)
    bodies, gaps = {}, set()
    while len(bodies) + len(gaps) < count:
        try:
            got = session.next(seconds)
        except TimeoutError:
            raise Failed(f"{len(bodies)} messages and {len(gaps)} gaps of {count}; missing "
                         f"{sorted(set(range(1, count + 1)) - set(bodies) - gaps)[:20]}")
        if isinstance(got, Gap):
            gaps.update(range(got.first, got.last + 1))
        else:
            check(got.seq not in bodies, f"{got.seq} twice")
            bodies[got.seq] = got.body.decode()
    for seq, body in bodies.items():
        check_equal(body, body_of(seq - 1), f"body of {seq}")
    check(not gaps & set(bodies), "both a gap and a delivery")
    return bodies, gaps


def health(broker):
    answer = broker.http().get("/health")
    return answer.json


def flip_and_collect(env, indexes, clean, part="body", forget_keydir=False):
    broker = filled(env)
    broker.stop() if clean else broker.kill()
    for index in indexes:
        found = places(broker.data_dir, body_of(index).encode())
        check(found, f"message {index} is not in the log")
        for path, at in found:
            flip(path, at + 5 if part == "body" else at - 40)
    if forget_keydir:
        for path in glob.glob(os.path.join(broker.data_dir, "**", "*.mdb"), recursive=True):
            os.unlink(path)
    broker.start()
    bodies, gaps = collect(broker, 200)
    return broker, bodies, gaps


@case(short=True)
def a_flipped_bit_is_a_gap_and_nothing_else_is_lost(env):
    broker, bodies, gaps = flip_and_collect(env, [50], clean=True)
    check_equal(gaps, {51}, "gaps")
    state = health(broker)
    check_equal(state["status"], "yellow", f"health {state}")
    check(state["reasons"], "health gives no reason")
    session = broker.session()
    check_equal(session.publish("orders", ["next"])[0].seq, 201, "publishing goes on")
    metrics = broker.http().get("/metrics").body.decode()
    check_in("corrupt", metrics, "metrics")


@case(short=True)
def neighbours_that_are_lost_are_one_gap(env):
    broker, _, gaps = flip_and_collect(env, [*range(30, 70), 100], clean=True)
    check_equal(gaps, {*range(31, 71), 101}, "gaps")
    told = re.findall(r"gap topic=orders group=work first=(\d+) last=(\d+)", broker.log())
    check_equal(told, [("31", "70"), ("101", "101")], "gaps in the log")


@case(short=True)
def flipped_bits_after_kill_9(env):
    _, _, gaps = flip_and_collect(env, [3, 77, 78, 150], clean=False)
    # 20 messages are in one batch: an unclean start may give up the batches it
    # cannot read, never what stands before or behind them.
    touched = {seq for index in (3, 77, 78, 150) for seq in
               range(index // 20 * 20 + 1, index // 20 * 20 + 21)}
    check({4, 78, 79, 151} <= gaps <= touched, f"gaps {sorted(gaps)}")


@case()
def a_flipped_bit_in_a_record_header(env):
    _, _, gaps = flip_and_collect(env, [100], clean=True, part="header")
    check(101 in gaps and len(gaps) <= 20, f"gaps {sorted(gaps)}")


@case()
def flipped_bits_and_no_keydir(env):
    _, _, gaps = flip_and_collect(env, [50], clean=True, forget_keydir=True)
    check(51 in gaps and len(gaps) <= 20, f"gaps {sorted(gaps)}")


@case()
def a_gap_is_told_once_and_stays_settled(env):
    broker, _, gaps = flip_and_collect(env, [10], clean=True)
    broker.restart()
    session = broker.session()
    session.attach("work", credit_messages=5000)
    seen = session.take(199)
    check(all(not isinstance(d, Gap) for d in seen), "the gap was told again")
    lane = broker.http().get("/v1/groups/work").json["lanes"][0]
    check_equal(int(lane["gap"]), len(gaps), "gap in the books")


@case(timeout=120)
def any_flipped_bit_is_survived(env):
    """Bits all over the folder: start or refuse, never crash, never a wrong body."""
    broker = filled(env, 100)
    broker.stop()
    whole = env.path("whole")
    shutil.copytree(broker.data_dir, whole)
    dice = random.Random(11)
    used = {path: used_len(path) for path in segments(broker.data_dir)}
    for number in range(12 if not env.sanitized else 4):
        shutil.rmtree(broker.data_dir)
        shutil.copytree(whole, broker.data_dir)
        path = dice.choice(list(used))
        at = dice.randrange(used[path])
        flip(path, at, dice.randrange(8))
        try:
            broker.start()
        except Failed as error:
            check(broker.process is not None and broker.process.returncode in (1, 2),
                  f"flip {number} at {at} of {os.path.basename(path)}: {error}")
            broker.process = None
            continue
        try:
            collect(broker, 100)
        except Exception as error:
            raise Failed(f"flip {number} at {at} of {os.path.basename(path)}: {error}")
        broker.kill()


def used_len(path):
    """Up to the last byte that is not zero."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


@case(short=True)
def a_lost_keydir_is_built_again(env):
    broker = filled(env)
    session = broker.session()
    session.attach("work")
    session.take(50)
    session.settle("orders", "ack", ranges=[(1, 50)])
    session.settle("orders", "nack", seqs=[51], delay_ms="1")
    wait_until(lambda: session.next().attempt == 2, 10, "the second attempt of 51")
    broker.stop()
    lost = glob.glob(os.path.join(broker.data_dir, "**", "*.mdb"), recursive=True)
    check(lost, "no keydir found")
    for path in lost:
        os.unlink(path)
    broker.start()
    session = broker.session()
    session.attach("work", credit_messages=1000)
    got = session.take(150)
    check_equal(sorted(d.seq for d in got), list(range(51, 201)), "what is left")
    # Two deliveries failed: one by the nack, the second by the end of the broker.
    check_equal([d.attempt for d in got if d.seq == 51], [3], "its attempt")


@case()
def a_keydir_full_of_noise_is_built_again(env):
    broker = filled(env, 100)
    broker.stop()
    for path in glob.glob(os.path.join(broker.data_dir, "**", "data.mdb"), recursive=True):
        with open(path, "r+b") as file:
            file.write(os.urandom(os.path.getsize(path)))
    broker.start()
    collect(broker, 100)


@case(short=True)
def a_torn_tail_is_cut(env):
    broker = filled(env)
    broker.kill()
    last = places(broker.data_dir, body_of(199).encode())[-1]
    with open(last[0], "r+b") as file:
        file.seek(last[1] + 20)
        file.write(bytes(5000))
    broker.start()
    session = broker.session()
    session.attach("work", credit_messages=1000)
    first = session.take(180)
    check_equal([d.seq for d in first], list(range(1, 181)), "what is before the tear")
    check_in("recover", broker.log(), "the log")


@case(short=True)
def a_newer_folder_is_refused_untouched(env):
    broker = filled(env, 20)
    broker.stop()
    paths = files_with_blocks(broker.data_dir)
    check(any(p.endswith(".seg") for p in paths), f"no segment among {paths}")
    for path in paths:
        kept = open(path, "rb").read(4096)
        make_newer(path)
        before = snapshot(broker.data_dir)
        broker.spawn()
        code = broker.wait_exit()
        name = os.path.basename(path)
        check(code not in (0, None) and code > 0, f"{name}: exit code {code}")
        check_in("999", broker.log(), f"{name}: the log names the version found")
        check(re.search(r" [1-9]\b", broker.log()), f"{name}: the log names the version it can read")
        check_equal(snapshot(broker.data_dir), before, f"{name}: the folder afterwards")
        with open(path, "r+b") as file:
            file.write(kept)
    broker.start()
    collect(broker, 20)


def snapshot(data_dir):
    """Content of all files of the log; LMDB's lock file may change."""
    found = {}
    for base, _, names in os.walk(data_dir):
        for name in sorted(names):
            if "lock" not in name:
                with open(os.path.join(base, name), "rb") as file:
                    found[os.path.join(base, name)] = hash(file.read())
    return found


@case(short=True)
def a_second_broker_is_refused(env):
    broker = filled(env, 20)
    second = Broker(env, data_dir=broker.data_dir)
    second.log_path = env.path("second.log")
    second.spawn()
    check(second.wait_exit() > 0, "exit code 0")
    check_in(broker.data_dir, second.log(), "names the folder")
    check_in("in use by another process", second.log(), "why")
    check_equal(second.log().count("waiting for the data folder"), 1, "it waited, and said so")
    collect(broker, 20)


@case(short=True)
def a_broker_that_is_just_dying_is_waited_for(env):
    """Whoever has the lock, as a process has that was killed and is not gone yet."""
    broker = filled(env, 20)
    broker.kill()
    with open(os.path.join(broker.data_dir, "store.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        broker.spawn()
        wait_until(lambda: "waiting for the data folder" in broker.log(), what="it waits")
        check("listening" not in broker.log(), "it went on without the lock")
    wait_until(lambda: "listening" in broker.log(), what="it goes on")
    broker.port = int(re.search(r"address=\S+:(\d+)", broker.log()).group(1))
    collect(broker, 20)


@case(short=True)
def a_stop_is_heard_while_it_waits(env):
    broker = filled(env, 20)
    second = Broker(env, data_dir=broker.data_dir)
    second.log_path = env.path("second.log")
    second.spawn()
    wait_until(lambda: "waiting for the data folder" in second.log(), what="it waits")
    second.process.send_signal(signal.SIGTERM)
    check_equal(second.wait_exit(), 0, "exit code")
    check_in("stopped before it started", second.log(), "what it says")
    collect(broker, 20)


@case()
def a_folder_of_something_else_is_refused(env):
    os.makedirs(env.path("other", "log"))
    broker = env.broker(start=False, data_dir=env.path("file"))
    with open(env.path("file"), "w") as file:
        file.write("not a folder")
    broker.spawn()
    check(broker.wait_exit() > 0, "a file taken for a folder")
    check_in("file", broker.log(), "names it")
    with open(env.path("other", "log", "0000000001.seg"), "wb") as file:
        file.write(b"my holiday pictures" * 1000)
    broker = env.broker(start=False, data_dir=env.path("other"))
    broker.spawn()
    try:
        code = broker.wait_exit(5)
        check(code > 0, "exit code 0")
    except Failed:
        raise Failed("started on a folder with a foreign file")
    with open(env.path("other", "log", "0000000001.seg"), "rb") as file:
        check_equal(file.read(), b"my holiday pictures" * 1000, "the foreign file")


def slow_disk(env, ms):
    """The environment of a broker whose syncs take so much longer."""
    with open(env.godwitd, "rb") as file:
        binary = file.read()
    if b"__asan_init" in binary or b"__tsan_init" in binary:
        raise Skip("a preloaded library may not come before a sanitizer's runtime")
    library = env.path("slow_sync.so")
    source = os.path.join(os.path.dirname(__file__), "../lib/slow_sync.c")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": library, "SLOW_SYNC_MS": str(ms)}


@case()
def a_slow_start_says_how_far_it_is(env):
    broker = filled(env)
    broker.kill()
    broker.start()
    found = broker.wait_log(r"store open .*state=recovered .*replayed_records=(\d+) .*"
                            r"rescued_records=(\d+)")
    check(int(found.group(1)) + int(found.group(2)) >= 200, f"the log says {found.group(0)}")
    check("recovering" not in broker.log(), "a quick start reports progress")
    broker.kill()
    broker.more_env = slow_disk(env, 700)
    broker.start(60)
    broker.wait_log(r"recovering seconds=2 done_mib=\d+ total_mib=\d+")
    took = int(re.search(r"store open .*\bms=(\d+)", broker.log()).group(1))
    check(took > 2000, f"the start took {took} ms")
    broker.more_env = {}
    broker.restart()
    collect(broker, 200)


main()
