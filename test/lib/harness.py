"""The frame of a system test: cases, checks, and an environment that cleans up.

A topic file holds cases and ends with `main()`:

    @case(short=True)
    def a_promise_as_a_name(env):
        broker = env.broker()
        ...

Each case gets a fresh environment. Brokers it started are stopped afterwards,
their logs are searched for sanitizer reports and failed checks, and the logs of
a failed case are kept. `short` cases also run under AddressSanitizer, `threads`
cases under ThreadSanitizer: those in which threads of the broker meet.
"""
import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
CASES = []
SETS = ("short", "normal", "long", "threads")
# A program under ThreadSanitizer else sleeps for a second before it exits, in case a
# thread is left that races; each command of a test would take that long.
EXIT_SLEEP_MS = 20


class Skip(Exception):
    """The case cannot run here; the text says why."""


class Failed(AssertionError):
    pass


class CaseTimeout(Exception):
    pass


class Case:
    def __init__(self, function, short, long, threads, timeout):
        self.function = function
        self.timeout = timeout
        self.sets = {"long"}
        if not long:
            self.sets.add("normal")
        if short:
            self.sets.add("short")
        if threads:
            self.sets.add("threads")


def case(short=False, long=False, threads=False, timeout=60):
    def add(function):
        CASES.append(Case(function, short, long, threads, timeout))
        return function
    return add


def check(condition, text="check failed"):
    if not condition:
        raise Failed(text)


def check_equal(have, want, what="value"):
    if have != want:
        raise Failed(f"{what}: have {shorten(have)}, want {shorten(want)}")


def check_in(part, whole, what="text"):
    if part not in whole:
        raise Failed(f"{what}: {shorten(part)} is not in {shorten(whole, 1500)}")


def shorten(value, size=400):
    text = repr(value)
    return text if len(text) <= size else text[:size] + f"... ({len(text)} characters)"


def wait_until(condition, seconds=20, what="condition"):
    """Poll until condition() is true and return its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s in vain for: {what}")
        time.sleep(0.01)


class Env:
    def __init__(self, options, name):
        self.build = os.path.realpath(options.build)
        self.set = options.set
        self.logs = options.logs
        self.name = name
        self.sanitized = os.path.basename(self.build).endswith(("asan", "tsan"))
        self.tmp = tempfile.mkdtemp(prefix="godwit-test-")
        self.brokers = []
        self.endings = []  # called last to first

    @property
    def godwitd(self):
        return os.path.join(self.build, "broker", "godwitd")

    @property
    def godwit(self):
        return os.path.join(self.build, "tools", "godwit", "godwit")

    def size(self, count):
        """Less work for the slow builds."""
        return max(1, count // 10) if self.sanitized else count

    def path(self, *parts):
        return os.path.join(self.tmp, *parts)

    def broker(self, start=True, **options):
        from broker import Broker
        broker = Broker(self, **options)
        self.brokers.append(broker)
        return broker.start() if start else broker

    def at_end(self, function):
        self.endings.append(function)

    def close(self, failed):
        """End everything; the texts of what was wrong."""
        faults = []
        for function in reversed(self.endings):
            try:
                function()
            except Exception as error:
                faults.append(f"at the end: {error!r}")
        for broker in self.brokers:
            faults += broker.finish()
        if failed or faults:
            self.keep_logs()
        shutil.rmtree(self.tmp, ignore_errors=True)
        return faults

    def keep_logs(self):
        for number, broker in enumerate(self.brokers):
            if os.path.exists(broker.log_path):
                os.makedirs(self.logs, exist_ok=True)
                shutil.copy(broker.log_path,
                            os.path.join(self.logs, f"{self.name}-{number}.log"))


def on_alarm(_number, _frame):
    raise CaseTimeout()


def run_case(function, timeout, options, topic):
    env = Env(options, f"{topic}-{function.__name__}")
    error = None
    if env.sanitized:
        timeout *= 4
    signal.alarm(timeout)
    try:
        function(env)
    except Skip as skip:
        signal.alarm(0)
        env.close(False)
        return "skip", str(skip)
    except CaseTimeout:
        error = f"no end after {timeout} s\n{traceback.format_exc()}"
    except Exception:
        error = traceback.format_exc()
    except BaseException:  # told to stop: leave nothing behind
        signal.alarm(15)
        env.close(False)
        raise
    finally:
        signal.alarm(0)
    signal.alarm(60)
    try:
        faults = env.close(error is not None)
    except CaseTimeout:
        faults = ["cleaning up did not end"]
    finally:
        signal.alarm(0)
    if error is None and not faults:
        return "pass", ""
    return "fail", (error or "") + "\n".join(faults)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--set", default="normal", choices=SETS)
    parser.add_argument("--logs", default=os.path.join(TOP, "build/test-logs/system"))
    parser.add_argument("--results", help="file that result lines are added to")
    parser.add_argument("--name", default="system")
    parser.add_argument("--case", help="only cases with this in their name")
    parser.add_argument("--share", default="1/1", help="2/3: of three shares the second")
    options = parser.parse_args()
    os.environ.setdefault("TSAN_OPTIONS", f"atexit_sleep_ms={EXIT_SLEEP_MS}")
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    topic = os.path.basename(sys.argv[0]).removeprefix("test_").removesuffix(".py")
    failed = 0
    for one in chosen(options):
        name = one.function.__name__
        began = time.monotonic()
        verdict, why = run_case(one.function, one.timeout, options, topic)
        report(options, topic, name, verdict, why, time.monotonic() - began)
        failed += verdict == "fail"
    sys.exit(1 if failed else 0)


def chosen(options):
    cases = [c for c in CASES if options.set in c.sets
             and (not options.case or options.case in c.function.__name__)]
    number, count = map(int, options.share.split("/"))
    return cases[number - 1::count]


def report(options, topic, name, verdict, why, took):
    shown = {"pass": "ok  ", "fail": "FAIL", "skip": "skip"}[verdict]
    text = f"{shown} {topic}: {name} ({took:.1f} s)"
    if why:
        text += (": " if verdict == "skip" else "\n") + why.rstrip()
    print(text, flush=True)
    if options.results:
        short = why.strip().split("\n")[-1].replace("\t", " ")[:300]
        with open(options.results, "a") as results:
            results.write(f"{verdict}\t1\t{options.name}/{topic}: {name}\t{short}\n")
