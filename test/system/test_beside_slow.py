#!/usr/bin/env python3
"""What the other groups of a worker lose to one subscriber that reads nothing, acks
nothing, takes a minute for a message or reconnects every second: less than a tenth of
their throughput.

A bench goes on all the time, in a broker whose log has been round its files by then, so
that neither new files nor new pages of memory are measured. Beside it a bad subscriber
is let in for one phase of two: without, with, with, without, ... Each two neighbours make
a ratio, many ratios an interval (pairs.py). One ratio says nothing on a virtual machine:
two phases with nobody differ by a tenth and more.

What is measured is harsher than the bar: the subscriber is a new one in each phase, so
that its lease ends (after a fifth of a second) and all its reconnects are in each of them.
It is given messages of a topic of its own, as many as the printed line says; they cost
what any subscriber's do, and those in the phase are not taken out.

The bench, the broker and this process share the processors, so what a subscriber's own
process needs is lost too; these need nearly nothing. Nobody at all must show no loss, and
a broker that stands still for a fifth of the time must show it. A machine that does
other things as well makes the interval too wide to tell, and the case is skipped."""
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time


sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from bad_subscribers import LIMITS, AcksNothing, ComesAndGoes, ReadsNothing, TakesAMinute, fill
from broker import die_with_parent
from harness import Skip, case, check, check_equal, main, wait_until
from operate import lane
from pairs import estimate

LEFT_LEAST = 0.9
PAIRS = 36      # and as many again when they do not tell
WARM_GIB = 3    # of log, in segments that are used again
PHASE_S = 0.6
LEASE_MS = 200
STOPPED_S, RUNNING_S = 0.005, 0.02
INTERRUPTED = 130


class Nobody:
    def __init__(self, _broker, _group):
        pass

    def is_bad(self, _http):
        return True

    def end(self):
        pass


class ComesOften(ComesAndGoes):
    """Twice in each phase."""

    rest_s = 0.3


class HoldsTheBroker:
    """The planted fault: a fifth of the time the broker does nothing."""

    def __init__(self, broker, _group):
        self.process = broker.process
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.wait(RUNNING_S):
            self.process.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_S)
            self.process.send_signal(signal.SIGCONT)

    def is_bad(self, _http):
        return True

    def end(self):
        self.stop.set()
        self.thread.join()


class Good:
    """A producer and a subscriber that acks each message, both as fast as they can."""

    def __init__(self, broker):
        self.broker, self.http = broker, broker.http()
        self.process = subprocess.Popen(
            [broker.env.godwit, "bench", "endtoend", "--count", "1000000000"],
            env=broker.godwit_env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.group = wait_until(self.find, 20, "the bench's group")

    def find(self):
        names = [g["name"] for g in self.http.get("/v1/groups").json["groups"]]
        return next((name for name in names if re.match("bench-", name)), None)

    def mark(self):
        """Where it is: acked messages, seconds, the broker's processor seconds."""
        acked = lane(self.http, self.group, self.group)["acked"]
        return acked, time.monotonic(), self.broker.cpu_seconds()

    def end(self):
        self.process.send_signal(signal.SIGINT)
        check_equal(self.process.wait(60), INTERRUPTED, "the bench's exit code")


class Bench:
    """The broker, and phases on it."""

    def __init__(self, env):
        self.broker = env.broker(config={"workers": 1, "limits": LIMITS,
                                         "store": {"segment_mib": 64}})
        self.http = self.broker.http()
        self.phases = 0
        fill(self.broker)
        self.good = Good(self.broker)
        wait_until(lambda: self.log_gib() >= WARM_GIB, 120, "a warm log")

    def log_gib(self):
        return int(self.http.get("/v1/store").json["log_bytes"]) / (1 << 30)

    def phase(self, kind):
        """(messages a second, processor time for each, what the bad one was given)"""
        self.phases += 1
        group = f"bad-{self.phases}"
        self.http.make_group(group, "bad", lease_ms=LEASE_MS, **{"from": "earliest"})
        bad = kind(self.broker, group)
        try:
            wait_until(lambda: bad.is_bad(self.http), 20, "the bad one")
            acked, began, cpu = self.good.mark()
            time.sleep(PHASE_S)
            acked_then, ended, cpu_then = self.good.mark()
            given = int(self.http.get(f"/v1/groups/{group}").json["delivered"])
        finally:
            bad.end()
        self.http.must(self.http.delete(f"/v1/groups/{group}"))
        count = acked_then - acked
        check(count > 0, "the bench stands still")
        return count / (ended - began), (cpu_then - cpu) / count, given

    def pair(self, kind, alone_first):
        """(share of the throughput, share of the processor time, given)"""
        if alone_first:
            alone, beside = self.phase(Nobody), self.phase(kind)
        else:
            beside, alone = self.phase(kind), self.phase(Nobody)
        return beside[0] / alone[0], beside[1] / alone[1], beside[2]


def show(kind, pairs):
    """Print and return what is left: (middle, least, most)."""
    left = estimate([p[0] for p in pairs])
    cpu = estimate([p[1] for p in pairs])
    print(f"     {kind.__name__}: {left[0]:.3f} of the throughput is left ({left[1]:.3f} to "
          f"{left[2]:.3f}), {cpu[0]:.3f} times the broker's processor time ({cpu[1]:.3f} to "
          f"{cpu[2]:.3f}), {len(pairs)} pairs; given to it in a phase: "
          f"{statistics.median(p[2] for p in pairs):.0f}", flush=True)
    return left


def measure(env, kind):
    """(middle, least, most) of the throughput that is left beside it."""
    bench = Bench(env)
    pairs = []
    for _ in range(2):
        pairs += [bench.pair(kind, i % 2 == 0) for i in range(PAIRS)]
        left = show(kind, pairs)
        if left[1] >= LEFT_LEAST or left[2] < LEFT_LEAST:
            break
    bench.good.end()
    return left


def judge(env, kind):
    middle, least, _ = measure(env, kind)
    check(middle >= LEFT_LEAST, f"{kind.__name__}: {middle:.3f} of the throughput is left")
    if least < LEFT_LEAST:
        raise Skip(f"cannot tell, the machine is not quiet: {middle:.3f}, at least {least:.3f}")


@case(long=True, timeout=400)
def one_that_reads_nothing_costs_the_others_less_than_a_tenth(env):
    judge(env, ReadsNothing)


@case(long=True, timeout=400)
def one_that_acks_nothing_costs_the_others_less_than_a_tenth(env):
    judge(env, AcksNothing)


@case(long=True, timeout=400)
def one_that_takes_a_minute_costs_the_others_less_than_a_tenth(env):
    judge(env, TakesAMinute)


@case(long=True, timeout=400)
def one_that_comes_and_goes_costs_the_others_less_than_a_tenth(env):
    judge(env, ComesOften)


@case(long=True, timeout=400)
def nobody_costs_nothing(env):
    middle, least, most = measure(env, Nobody)
    check(abs(middle - 1) < 0.05, f"{middle:.3f} is left beside nobody")
    if least < LEFT_LEAST or most > 2 - LEFT_LEAST:
        raise Skip(f"cannot tell, the machine is not quiet: {least:.3f} to {most:.3f}")


@case(long=True, timeout=400)
def a_planted_loss_is_seen(env):
    middle, _, most = measure(env, HoldsTheBroker)
    check(middle < LEFT_LEAST, f"{middle:.3f} is left, and a fifth was taken")
    if most >= LEFT_LEAST:
        raise Skip(f"cannot tell, the machine is not quiet: {middle:.3f}, at most {most:.3f}")


if __name__ == "__main__":
    main()
