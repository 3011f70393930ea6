"""What is measured, and how. A scenario is one start of a peer on a new folder
and the measurements that are made on it; each gives the values of one or two
rows of the table."""
import json
import os
import select
import subprocess
import time

import machine
import processes
from peers import Failed

START_STALLS = 4.5      # a start may take so many times what nothing else may
LATENCY_SECONDS = 15    # less when --seconds is less than one
LOAD_SECONDS = 150      # of one run of the load, at most
CALIBRATE_SECONDS = 0.3  # a shorter run tells too little to know the next one's length
CALIBRATE_MAX = 5
FIRST_COUNT = 5000
WINDOW = 1000
RATE = 5000
IDLE = 1000
SETTLE_SECONDS = 1

# key -> (text, unit, is more better)
ROWS = {
    "publish_128": ("publish, 128 B", "msg/s", True),
    "publish_1k": ("publish, 1 KiB", "msg/s", True),
    "publish_16k": ("publish, 16 KiB", "msg/s", True),
    "publish_4x1k": ("publish, 1 KiB, 4 producers", "msg/s", True),
    "endtoend_128": ("end to end, single acks, 128 B", "msg/s", True),
    "endtoend_1k": ("end to end, single acks, 1 KiB", "msg/s", True),
    "latency_p50": ("send to push at 5,000/s, p50", "us", False),
    "latency_p99": ("send to push at 5,000/s, p99", "us", False),
    "fanout_10": ("deliveries, 10 groups, 1 KiB", "msg/s", True),
    "fanout_100": ("deliveries, 100 groups, 1 KiB", "msg/s", True),
    "idle": ("an idle connection", "KiB", False),
    "queued": ("memory with {queued} queued", "MiB", False),
    "restart": ("kill -9 to first delivery, {queued} stored", "ms", False),
    "cpu": ("processor time of a publish, 128 B", "us", False),
}


# What `godwit bench` calls the connections of a mode.
OURS = {"publish": "producers", "fanout": "groups"}


class Bench:
    """The load of one peer, whichever program makes it."""

    def __init__(self, options, peer):
        self.options = options
        self.peer = peer
        self.number = 0

    def words(self, mode, **values):
        words = []
        for name, value in values.items():
            if self.peer.driver is None and name == "connections":
                name = OURS.get(mode, name)
            words += ["--" + name, str(value)]
        if self.peer.driver is None:
            return [self.peer.client, "bench", mode, "--json", *words, *self.peer.connection()]
        self.number += 1
        return [self.options.load, mode, "--peer", self.peer.driver, "--port",
                str(self.peer.port), "--stall", str(self.options.stall),
                *words, *([] if "name" in values else ["--name", f"compare-{self.number}"])]

    def run(self, mode, **values):
        return self.finish(self.begin(self.words(mode, **values)))

    def begin(self, words, **more):
        return processes.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def finish(self, process):
        """What it prints, as an object."""
        try:
            out, err = process.communicate(timeout=LOAD_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"its load did not end within {LOAD_SECONDS} s") from None
        finally:
            processes.end(process)
        lines = err.decode(errors="replace").strip().splitlines()
        if process.returncode != 0:
            why = " ".join(lines[-2:]) if lines else f"exit {process.returncode}"
            raise Failed(self.why_it_ended() or why.removeprefix("godwit: "))
        try:
            return json.loads(out.decode().splitlines()[-1])
        except (ValueError, IndexError):
            raise Failed("its load printed no figures") from None

    def why_it_ended(self):
        if not self.peer.has_ended():
            return ""
        return f"it ended by itself; its last words: {self.peer.last_words()}"

    def start(self):
        """Start the peer and wait until it answers; when that was asked for."""
        began = time.monotonic()
        self.peer.start()
        if self.peer.driver is None:
            self.wait_for_godwit(began)
            return
        ping = self.begin([self.options.load, "ping", "--peer", self.peer.driver, "--port",
                           str(self.peer.port)])
        try:
            while ping.poll() is None:
                self.look_at_start(began)
                time.sleep(0.01)
        finally:
            processes.end(ping)
        if ping.returncode != 0:
            raise Failed("it does not answer as it should")

    def wait_for_godwit(self, began):
        while " listening " not in processes.read(self.peer.log()):
            self.look_at_start(began)
            time.sleep(0.01)

    def look_at_start(self, began):
        if self.peer.has_ended():
            raise Failed(f"it does not start: {self.peer.last_words()}")
        if time.monotonic() - began > self.options.start_seconds:
            raise Failed(f"it does not answer within {self.options.start_seconds:g} s")

    def calibrate(self, mode, count=FIRST_COUNT, **values):
        """Warm up, and learn how many messages take the time that is wanted."""
        for _ in range(CALIBRATE_MAX):
            figures = self.run(mode, count=count, **values)
            if figures["seconds"] >= CALIBRATE_SECONDS:
                break
            count = int(count * min(8, 1.5 * CALIBRATE_SECONDS / max(figures["seconds"], 0.001)))
        return max(100, int(figures["messages_per_second"] * self.options.seconds))


def publish(bench, measure):
    for row, size, producers in (("publish_128", "128", 1), ("publish_1k", "1K", 1),
                                 ("publish_16k", "16K", 1), ("publish_4x1k", "1K", 4)):
        measure(row, lambda row=row, size=size, producers=producers: publish_one(
            bench, row, {"size": size, "window": WINDOW, "connections": producers}))


def publish_one(bench, row, values):
    count = bench.calibrate("publish", **values)
    before = processes.cpu_seconds(bench.peer.process.pid)
    rate = bench.run("publish", count=count, **values)["messages_per_second"]
    used = processes.cpu_seconds(bench.peer.process.pid) - before
    return {row: rate, **({"cpu": used / count * 1e6} if row == "publish_128" else {})}


def endtoend(bench, measure):
    for row, size in (("endtoend_128", "128"), ("endtoend_1k", "1K")):
        measure(row, lambda row=row, size=size: endtoend_one(
            bench, row, {"size": size, "window": WINDOW}))


def endtoend_one(bench, row, values):
    count = bench.calibrate("endtoend", **values)
    return {row: bench.run("endtoend", count=count, **values)["messages_per_second"]}


def latency(bench, measure):
    def one():
        count = max(1000, int(RATE * LATENCY_SECONDS * min(1, bench.options.seconds)))
        figures = bench.run("latency", size="1K", rate=RATE, count=count)["delivery_us"]
        return {"latency_p50": figures["p50"], "latency_p99": figures["p99"]}
    measure("latency", one)


def fanout(bench, measure):
    for row, groups in (("fanout_10", 10), ("fanout_100", 100)):
        measure(row, lambda row=row, groups=groups: {row: fan_rate(bench, groups)})


def fan_rate(bench, groups):
    values = {"size": "1K", "window": WINDOW, "connections": groups}
    count = bench.calibrate("fanout", FIRST_COUNT // groups, **values)
    return bench.run("fanout", count=count, **values)["deliveries_per_second"]


def idle(bench, measure):
    measure("idle", lambda: {"idle": idle_bytes(bench) / 1024})


def idle_bytes(bench):
    if bench.peer.driver is None:
        words = bench.words("idle", connections=IDLE, seconds=1, pid=bench.peer.process.pid)
        return bench.finish(bench.begin(words))["rss_bytes_per_connection"]
    before = processes.memory_bytes(bench.peer.process.pid)
    load = bench.begin(bench.words("idle", connections=IDLE), stdin=subprocess.PIPE)
    if not select.select([load.stdout], [], [], LOAD_SECONDS)[0] or not load.stdout.readline():
        bench.finish(load)  # says why
    time.sleep(SETTLE_SECONDS)
    after = processes.memory_bytes(bench.peer.process.pid)
    processes.end(load)
    return max(0, after - before) / IDLE


def stored(bench, measure):
    measure("queued", lambda: {"queued": queued_bytes(bench) / 2**20})
    if bench.peer.measures_restart:
        measure("restart", lambda: {"restart": restart_ms(bench)})


def queued_bytes(bench):
    if bench.peer.driver is None:
        fill_godwit(bench)
    else:
        bench.run("fill", size=128, count=bench.options.queued, window=WINDOW, name="stored")
    time.sleep(SETTLE_SECONDS)
    return processes.memory_bytes(bench.peer.process.pid)


def fill_godwit(bench):
    path = os.path.join(bench.peer.folder, "lines")
    with open(path, "w") as file:
        file.write(("x" * 128 + "\n") * bench.options.queued)
    for words in (["topic", "create", "stored"], ["group", "create", "work", "--topics", "stored"],
                  ["pub", "stored", "--file", path, "--quiet"]):
        process = bench.begin([bench.peer.client, *words, *bench.peer.connection()])
        try:
            _, err = process.communicate(timeout=LOAD_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"godwit {words[0]} did not end") from None
        finally:
            processes.end(process)
        if process.returncode != 0:
            raise Failed(f"godwit {words[0]}: {err.decode().strip()[-200:]}")
    os.unlink(path)


def restart_ms(bench):
    """From the start of a peer that was killed to its first delivery."""
    if bench.peer.driver is None:
        words = [bench.peer.client, "bench", "restart", "--json", "--rounds", "1", "--size", "128",
                 "--count", str(bench.options.queued), "--godwitd", bench.peer.program,
                 "--folder", bench.peer.folder]
        bench.peer.kill()  # it starts its own
        return bench.finish(bench.begin(words))["first_delivery_us"]["p50"] / 1000
    bench.peer.kill()
    waiting = bench.begin(bench.words("first", name="stored"))
    time.sleep(0.1)
    bench.peer.start()
    began = time.monotonic_ns()  # it runs: this program's own fork is not counted
    return (bench.finish(waiting)["first_ns"] - began) / 1e6


# name -> (what makes it, the rows of the table it fills)
SCENARIOS = {
    "publish": (publish, ["publish_128", "cpu", "publish_1k", "publish_16k", "publish_4x1k"]),
    "endtoend": (endtoend, ["endtoend_128", "endtoend_1k"]),
    "latency": (latency, ["latency_p50", "latency_p99"]),
    "fanout": (fanout, ["fanout_10", "fanout_100"]),
    "idle": (idle, ["idle"]),
    "stored": (stored, ["queued", "restart"]),
}


def run(options, peer, name, folder, note):
    """All of one scenario on one peer. note(what, values, circumstances) for each
    measurement; values is a text, why, when it failed."""
    bench = Bench(options, peer)

    def measure(what, one):
        os.sync()
        circumstances = {"disk": machine.probe_disk(options.folder)}
        watch = machine.Watch()
        try:
            values = one()
        except Exception as error:  # whatever it is, the others are still measured
            values = why(error)
        note(what, values, {**circumstances, **watch.seen()})

    try:
        peer.prepare(folder)
        bench.start()
        SCENARIOS[name][0](bench, measure)
    except (Failed, OSError) as error:
        note(name, why(error), {})
    finally:
        peer.end()


def why(error):
    """For the table's reader; of what nobody foresaw the kind too."""
    return str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
