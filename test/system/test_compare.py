#!/usr/bin/env python3
"""tools/compare: what it refuses, what it says of a peer that fails, and that it
leaves nothing behind. The peers are made here, so none need be installed."""
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import types

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
sys.path.insert(1, os.path.join(os.path.dirname(__file__), "../../tools/compare"))

import scenarios
from broker import die_with_parent
from harness import TOP, Skip, case, check, check_equal, check_in, main, wait_until

COMPARE = os.path.join(TOP, "tools/compare/compare")
QUOTE = os.path.join(TOP, "tools/compare/quote.py")
FAKE = os.path.join(TOP, "test/lib/fake_redis.py")


def prepare(env, mode="good"):
    """A folder for data, one for results, and a redis-server that is ours."""
    for name in ("data", "out", "bin"):
        os.makedirs(env.path(name), exist_ok=True)
    path = env.path("bin/redis-server")
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\nexec {sys.executable} {FAKE} {mode} "$@"\n')
    os.chmod(path, 0o755)


def words(env, *more):
    return [sys.executable, COMPARE, "--build", env.build, "--folder", env.path("data"), "--out",
            env.path("out"), "--no-install", *more]


def surroundings(env):
    return dict(os.environ, PATH=env.path("bin") + ":/bin", FAKE_MARK=env.tmp)


def compare(env, *more, seconds=100):
    return subprocess.run(words(env, *more), env=surroundings(env), capture_output=True, text=True,
                          timeout=seconds, preexec_fn=die_with_parent)


def measure(env, *more):
    return compare(env, "--rounds", "1", "--peers", "redis", "--seconds", "0.05", "--queued",
                   "1000", "--stall", "2", *more)


def left_behind(env):
    """Processes that have our folder in their command or surroundings."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"FAKE_MARK={env.tmp}".encode() in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def check_clean(env):
    check_equal(os.listdir(env.path("data")), [], "what is left in the data folder")
    check_equal(left_behind(env), [], "processes that are left")


def results(env):
    with open(env.path("out/RESULTS.json")) as file:
        return json.load(file)


@case(short=True)
def nonsense_is_refused_with_a_clear_line(env):
    prepare(env)
    for more, text in ((["--rounds", "0"], "0 is not between 1 and 100"),
                       (["--rounds", "x"], "not a number: 'x'"),
                       (["--seconds", "0"], "is not between"),
                       (["--queued", "5"], "is not between"),
                       (["--peers", "kafka"], "no such peer: kafka: there are godwit, rabbitmq"),
                       (["--peers", ","], "no such peer: none"),
                       (["--scenarios", "all"], "no such scenario: all"),
                       (["--folder", env.path("none")], "no such folder"),
                       (["--out", "/proc/none"], "--out /proc/none: "),
                       (["--build", env.tmp], "peer_load is not there"),
                       (["--seconds", "600"], "are free, and it may take")):
        done = compare(env, *more)
        check_equal(done.returncode, 2, f"exit code of {more}: {done.stderr}")
        check_in(text, done.stderr, f"what it says of {more}")
        check("Traceback" not in done.stderr, done.stderr)
        check_equal(os.listdir(env.path("out")), [], "results")
    check_clean(env)


@case(short=True)
def the_load_refuses_nonsense(env):
    load = os.path.join(env.build, "tools/compare/peer_load")
    for more, text in ((["publish"], "give --peer and --port"),
                       (["publish", "--peer", "kafka", "--port", "9"], "give --peer and --port"),
                       (["dance", "--peer", "nats", "--port", "9"], "no such mode: dance"),
                       (["publish", "--peer", "nats", "--port", "9", "--window", "0"], "--window"),
                       (["publish", "--peer", "nats", "--port", "9", "--size", "15"], "--size"),
                       (["publish", "--peer", "nats", "--port", "9", "--size", "65K"], "--size"),
                       (["publish", "--peer", "mqtt", "--port", "9", "--window", "65535"],
                        "at most 65534 with mqtt")):
        done = subprocess.run([load, *more], capture_output=True, text=True, timeout=20)
        check_equal(done.returncode, 2, f"exit code of {more}: {done.stderr}")
        check_in(text, done.stderr, f"what it says of {more}")


@case(short=True, timeout=120)
def the_figures_are_those_of_the_runs(env):
    prepare(env)
    done = measure(env, "--scenarios", "publish,endtoend", "--rounds", "2")
    check_equal(done.returncode, 0, f"exit code: {done.stderr}")
    figures = results(env)
    for peer in ("godwit", "redis"):
        for row in ("publish_128", "publish_1k", "publish_16k", "publish_4x1k", "cpu",
                    "endtoend_128", "endtoend_1k"):
            values = [run["values"][row] for run in figures["runs"]
                      if run["peer"] == peer and row in run["values"]]
            check_equal(len(values), 2, f"{peer} {row}: values")
            least = 0 if row == "cpu" else 1  # of ticks of 10 ms there may be none
            check(all(value >= least for value in values), f"{peer} {row}: {values}")
            check_equal(figures["medians"][peer][row], statistics.median(values), "median")
    check_in("| publish, 128 B | **", done.stdout, "table")
    for line in figures["quote"][-3:]:
        check_in(line, done.stdout, "what README would say")
    with open(env.path("out/RESULTS.md")) as file:
        check_in("appendfsync always", file.read(), "settings")
    check_equal(os.path.exists(env.path("out/RESULTS.svg")),
                shutil.which("gnuplot", path="/bin") is not None, "a plot where gnuplot is")
    check_clean(env)


def check_failed(env, done, text, scenario="publish"):
    """It said why; the other one has its figures."""
    check_equal(done.returncode, 1, f"exit code: {done.stderr}")
    check_in(text, done.stderr, "what it says")
    check_in("redis: ", done.stderr, "the name")
    figures = results(env)
    row = {"publish": "publish_1k", "endtoend": "endtoend_1k"}[scenario]
    check_equal(figures["medians"]["redis"][row], None, "the figure of the one that failed")
    check(figures["medians"]["godwit"][row] > 0, "the other one went on")
    check_in("| failed |", done.stdout, "table")
    check_in("- failed: redis", done.stdout, "the list of failures")
    check_clean(env)


@case(short=True)
def a_peer_that_does_not_start_is_named(env):
    prepare(env, "refuses")
    check_failed(env, measure(env, "--scenarios", "publish"),
                 "it does not start: no, not today")


@case()
def a_peer_that_never_answers_is_given_up(env):
    prepare(env, "silent")
    check_failed(env, measure(env, "--scenarios", "publish"), "it does not answer within 9 s")


@case()
def a_peer_that_stops_confirming_is_given_up(env):
    prepare(env, "stops")
    check_failed(env, measure(env, "--scenarios", "publish"), "nothing came for 2000 ms")


@case(short=True)
def a_peer_that_dies_under_load_is_named(env):
    prepare(env, "dies")
    check_failed(env, measure(env, "--scenarios", "publish"), "it ended by itself")


@case(short=True)
def a_peer_that_lies_has_no_figures(env):
    for mode, scenario, text in (("doubles", "publish", "which is not open"),
                                 ("errs", "publish", "-ERR no"),
                                 ("garbage", "publish", "FAILED"),
                                 ("loses", "endtoend", "it delivered message 4 when 3 was next"),
                                 ("repeats", "endtoend", "it delivered message 3 when 4 was next")):
        prepare(env, mode)
        check_failed(env, measure(env, "--scenarios", scenario), text, scenario)


@case(short=True)
def what_nobody_foresaw_costs_one_measurement(env):
    prepare(env)
    noted = []
    peer = types.SimpleNamespace(prepare=lambda folder: None, start=lambda: None, driver=None,
                                 log=lambda: env.path("log"), has_ended=lambda: False,
                                 end=lambda: noted.append("ended"))
    with open(env.path("log"), "w") as file:
        file.write("info listening address=here\n")

    def two(_bench, measure):
        measure("one", lambda: {}["no such figure"])
        measure("two", lambda: {"idle": 1})

    scenarios.SCENARIOS["two"] = (two, ["idle"])
    scenarios.run(types.SimpleNamespace(folder=env.path("data"), start_seconds=5), peer, "two",
                  env.path("data/x"), lambda what, values, _: noted.append((what, values)))
    check_equal(noted, [("one", "KeyError: 'no such figure'"), ("two", {"idle": 1}), "ended"],
                "what is noted")


def quote(*arguments):
    return subprocess.run([sys.executable, QUOTE, *arguments], capture_output=True, text=True,
                          timeout=20)


@case(short=True)
def readme_says_what_was_measured_or_the_check_fails(env):
    readme, figures = env.path("README.md"), env.path("RESULTS.json")
    with open(readme, "w") as file:
        file.write("# A\n<!-- written by tools/compare/compare -->\n<!-- up to here -->\nZ\n")
    check_equal(quote("--check", readme, figures).returncode, 0, "nothing measured, nothing said")
    with open(figures, "w") as file:
        json.dump({"quote": ["| a | 12 k |", "", "Medians."]}, file)
    check_equal(quote("--check", readme, figures).returncode, 1, "measured and not said")
    check_equal(quote(readme, figures).returncode, 0, "said")
    check_equal(quote("--check", readme, figures).returncode, 0, "measured and said")
    with open(readme) as file:
        text = file.read()
    check_in("\n\n| a | 12 k |\n\nMedians.\n\n", text, "the quote")
    check(text.startswith("# A\n") and text.endswith("\nZ\n"), "the rest is as it was")
    for wrong in (text.replace("12 k", "13 k"), text.replace("up to here", "here")):
        with open(readme, "w") as file:
            file.write(wrong)
        check_equal(quote("--check", readme, figures).returncode, 1, "made by hand")


@case()
def a_peer_that_is_not_installed_is_left_out(env):
    prepare(env)
    if shutil.which("nats-server", path="/bin"):
        raise Skip("nats-server is in /bin")
    done = measure(env, "--scenarios", "publish", "--peers", "redis,nats")
    check_equal(done.returncode, 1, f"exit code: {done.stderr}")
    check_in("nats: not measured: nats-server is not installed", done.stderr, "what it says")
    check_in("- nats was not measured: nats-server is not installed", done.stdout, "report")
    check(results(env)["medians"]["redis"]["publish_1k"] > 0, "the others went on")


@case()
def a_full_disk_is_refused(env):
    prepare(env)
    disk = env.path("disk")
    os.mkdir(disk)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", disk],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise Skip("mount is not permitted: " + done.stderr.strip())
    env.at_end(lambda: subprocess.run(["umount", disk], check=True))
    done = measure(env, "--folder", disk)
    check_equal(done.returncode, 2, "exit code")
    check_in("64 MiB are free, and it may take", done.stderr, "what it says")
    check_equal(os.listdir(disk), [], "what is left")


def interrupt(env, mode, text, signal_number):
    """Start, wait until it says or has begun something, and interrupt it."""
    prepare(env, mode)
    with open(env.path("said"), "w") as said:
        process = subprocess.Popen(
            words(env, "--peers", "redis", "--scenarios", "publish", "--seconds", "0.05"),
            env=surroundings(env), stdout=said, stderr=said, preexec_fn=die_with_parent)
    env.at_end(lambda: (process.poll() is None and process.kill(), process.wait()))
    wait_until(lambda: os.path.exists(env.path(text)), 60, "the peer's mark")
    process.send_signal(signal_number)
    check_equal(process.wait(30), 130, "exit code")
    with open(env.path("said")) as said:
        check_in("interrupted; everything is cleaned up", said.read(), "what it says")
    check_equal(os.listdir(env.path("out")), [], "results")
    check_clean(env)
    os.unlink(env.path(text))


@case(short=True)
def ctrl_c_leaves_nothing_behind(env):
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        # asked in vain to answer, with a grandchild in a session of its own
        interrupt(env, "family", "family-is-there", signal_number)
        interrupt(env, "stops", "stops-is-there", signal_number)


@case(long=True, timeout=300)
def those_that_are_installed_are_measured(env):
    prepare(env)
    os.unlink(env.path("bin/redis-server"))
    known = {"rabbitmq": "rabbitmq-server", "redis": "redis-server", "nats": "nats-server",
             "mosquitto": "mosquitto"}
    there = [name for name, program in known.items()
             if shutil.which(program, path="/usr/bin:/usr/sbin")]
    if not there:
        raise Skip("none of the peers is installed")
    done = subprocess.run(words(env, "--peers", ",".join(there), "--rounds", "1", "--seconds",
                                "0.05", "--queued", "5000"), capture_output=True, text=True,
                          env=dict(surroundings(env), PATH="/usr/bin:/bin"), timeout=280)
    check_equal(done.returncode, 0, f"exit code: {done.stderr}")
    check_clean(env)


main()
