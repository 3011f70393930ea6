#!/usr/bin/env python3
"""Runs the system tests: every test_*.py beside this file, several at a time.

    run.py --build build/release [--set short|normal|long|threads] [--only TOPIC]...
           [--jobs N]

Each topic can also be run by itself: test_http.py --build build/release [--case NAME].
Exit code 0: all passed; 1: some failed; 2: nothing could run.
"""
import argparse
import glob
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.realpath(os.path.join(HERE, "../.."))
TOPIC_SECONDS_MAX = 900
# These take longest: they begin first, and in so many shares, so that none is left
# alone at the end.
SHARES = {"command_line": 3, "offline_tools": 4, "compare": 4, "data_folder": 2,
          "slow_consumers": 2, "full_disk": 3, "retention": 3, "bench": 3,
          "publish_options": 1, "damage": 1, "delivery": 1, "kill": 1, "process": 1,
          "bad_input": 1, "search": 1, "groups": 1, "explain": 1, "slow": 1, "dead": 1,
          "auth": 1}
# These measure times: they come last, when nothing else runs. Only in the long set.
ALONE = {"beside_slow"}
# Most of a case is waiting: for a lease, a restart, a disk. A sanitizer works more.
JOBS_A_CPU = 3
JOBS_A_CPU_SANITIZED = 2


def topic_of(path):
    return os.path.basename(path).removeprefix("test_").removesuffix(".py")


def shares(only):
    """What is to run, as (path, share), in this order."""
    paths = {topic_of(p): p for p in sorted(glob.glob(os.path.join(HERE, "test_*.py")))}
    found = []
    first = [t for t in SHARES if t in paths]
    others = sorted((t for t in paths if t not in SHARES), key=lambda t: t in ALONE)
    for topic in first + others:
        if not only or topic in only:
            count = SHARES.get(topic, 1)
            found += [(paths[topic], f"{number}/{count}") for number in range(1, count + 1)]
    return found


class Topic:
    """One running test_*.py, or a share of its cases, in a process group of its own."""

    def __init__(self, path, share, options):
        self.name = topic_of(path) + ("" if share == "1/1" else "-" + share.replace("/", "-"))
        self.log_path = os.path.join(options.logs, f"{self.name}.out")
        self.log = open(self.log_path, "w")
        self.began = time.monotonic()
        words = [sys.executable, path, "--build", options.build, "--set", options.set,
                 "--logs", options.logs, "--name", options.name, "--share", share]
        if options.results:
            words += ["--results", options.results]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def ended(self):
        if self.process.poll() is None:
            if time.monotonic() - self.began < TOPIC_SECONDS_MAX:
                return False
            self.end()
        return True

    def end(self):
        """Let it clean up, then make sure of it. Its brokers die with it."""
        try:
            self.process.terminate()
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def show(self, options):
        """Print what it printed; 0, 1 or 2 for the verdict."""
        self.log.close()
        with open(self.log_path, errors="replace") as log:
            text = log.read().rstrip()
        if text:
            print(text, flush=True)
        code = self.process.returncode
        if code in (0, 1):
            return code
        print(f"FAIL {self.name}: the topic ended with {code}", flush=True)
        if options.results:
            with open(options.results, "a") as results:
                results.write(f"fail\t1\t{options.name}/{self.name}\tended with {code}\n")
        return 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--set", default="normal", choices=["short", "normal", "long", "threads"])
    parser.add_argument("--logs", default=os.path.join(TOP, "build/test-logs/system"))
    parser.add_argument("--results")
    parser.add_argument("--name", default="system")
    parser.add_argument("--only", action="append")
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    sanitized = os.path.basename(os.path.realpath(options.build)).endswith(("asan", "tsan"))
    options.jobs = options.jobs or os.cpu_count() * (
        JOBS_A_CPU_SANITIZED if sanitized else JOBS_A_CPU)
    for program in ("broker/godwitd", "tools/godwit/godwit"):
        if not os.access(os.path.join(options.build, program), os.X_OK):
            print(f"{options.build}/{program} is not built")
            sys.exit(2)
    os.makedirs(options.logs, exist_ok=True)
    waiting = shares(options.only)
    if not waiting:
        print("no such topic")
        sys.exit(2)
    sys.exit(run(waiting, options))


def run(waiting, options):
    running = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    worst = 0
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs and not (
                    running and topic_of(waiting[0][0]) in ALONE):
                running.append(Topic(*waiting.pop(0), options))
            for topic in [t for t in running if t.ended()]:
                running.remove(topic)
                worst = max(worst, topic.show(options))
            time.sleep(0.05)
    finally:
        for topic in running:
            topic.end()
    return worst


main()
