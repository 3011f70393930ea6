#!/usr/bin/env python3
"""The configuration file and the arguments: what is wrong is named, with what is
allowed."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Failed, case, check, check_equal, check_in, main


def run(env, *words):
    return subprocess.run([env.godwitd, *words], capture_output=True, timeout=30,
                          cwd=env.tmp)


def checked(env, text):
    """(exit code, what it said) of --check-config on this file."""
    path = env.path("godwit.yaml")
    with open(path, "w") as file:
        file.write(text)
    done = run(env, "--config", path, "--check-config")
    return done.returncode, done.stdout.decode() + done.stderr.decode()


@case(short=True)
def good_files_pass(env):
    for text in ("", "# nothing\n", "listen: 127.0.0.1:7777\nworkers: 2\n",
                 "limits:\n  head_ms: 1000\n  connections: 50\nstore:\n  segment_mib: 32\n",
                 json.dumps({"log_level": "debug", "drain_ms": 0}), "listen: '[::1]:0'\n"):
        code, said = checked(env, text)
        check_equal(code, 0, f"{text!r}: {said}; exit code")
    check(not os.path.exists(env.path("godwit-data")), "--check-config made a data folder")


@case(short=True)
def wrong_files_are_explained(env):
    for text, words in (
            ("tsl: x\n", ("tsl",)),
            ("limits:\n  head_seconds: 5\n", ("head_seconds",)),
            ("workers: 0\n", ("workers", "1", "64")),
            ("workers: 65\n", ("workers", "64")),
            ("workers: many\n", ("workers",)),
            ("workers: -1\n", ("workers",)),
            ("workers: 99999999999999999999999\n", ("workers",)),
            ("workers: [1]\n", ("workers",)),
            ("workers: 1\nworkers: 2\n", ("workers",)),
            ("limits: 5\n", ("limits",)),
            ("limits:\n  head_ms: 50\n", ("limits.head_ms", "100")),
            ("limits:\n  in_flight_mib: 0\n", ("limits.in_flight_mib", "1", "1048576")),
            ("limits:\n  in_flight_mib: 1048577\n", ("limits.in_flight_mib", "1048576")),
            ("limits:\n  in_flight_direct_mib: 1048577\n",
             ("limits.in_flight_direct_mib", "1048576")),
            ("limits:\n  in_flight_file_mib: 1048577\n",
             ("limits.in_flight_file_mib", "1048576")),
            ("store:\n  segment_mib: 15\n", ("store.segment_mib", "16", "1024")),
            ("store:\n  segment_mib: 1025\n", ("store.segment_mib", "1024")),
            ("store:\n  scrub_mib_s: 10001\n", ("store.scrub_mib_s", "10000")),
            ("store:\n  scrub_hours: 0\n", ("store.scrub_hours", "1", "8760")),
            ("store:\n  scrub_hours: 8761\n", ("store.scrub_hours", "8760")),
            ("store:\n  free_mib_min: 1048577\n", ("store.free_mib_min", "1048576")),
            ("listen: 127.0.0.1:99999\n", ("99999", "65535")),
            ("listen: nonsense\n", ("nonsense",)),
            ("log_level: loud\n", ("loud", "debug")),
            ("tls:\n  certificate: a.pem\n", ("key",)),
            ("tls:\n  certificate: /nowhere/a.pem\n  key: /nowhere/b.pem\n", ("/nowhere/a.pem",)),
            ("\tlisten: x\n", ()), ("{", ()), ("- a\n- b\n", ()), ("just text\n", ())):
        code, said = checked(env, text)
        check(code > 0, f"{text!r} was taken")
        check("godwit.yaml" in said or "tls" in said.lower(), f"{text!r}: names neither file nor key: {said}")
        for word in words:
            check_in(word, said, f"{text!r}")


@case()
def the_bounds_themselves_are_taken(env):
    for text in ("workers: 1\n", "workers: 64\n", "store:\n  segment_mib: 16\n",
                 "store:\n  segment_mib: 1024\n", "store:\n  scrub_mib_s: 0\n  scrub_hours: 1\n",
                 "store:\n  scrub_mib_s: 10000\n  scrub_hours: 8760\n  free_mib_min: 0\n",
                 "store:\n  free_mib_min: 1048576\n", "limits:\n  head_ms: 100\n",
                 "limits:\n  in_flight_mib: 1\n  in_flight_direct_mib: 0\n"
                 "  in_flight_file_mib: 0\n",
                 "limits:\n  in_flight_mib: 1048576\n  in_flight_direct_mib: 1048576\n"
                 "  in_flight_file_mib: 1048576\n"):
        code, said = checked(env, text)
        check_equal(code, 0, f"{text!r}: {said}; exit code")


@case()
def a_broker_does_not_start_on_a_wrong_file(env):
    broker = env.broker(start=False, config="wrokers: 3\n")
    broker.spawn()
    check(broker.wait_exit() > 0, "exit code 0")
    check_in("wrokers", broker.log(), "the log")
    check(not os.path.exists(broker.data_dir), "made a data folder all the same")


@case(short=True)
def arguments(env):
    version = run(env, "--version")
    check_equal(version.returncode, 0, "exit code of --version")
    check_in("0.1.0", version.stdout.decode(), "--version")
    helped = run(env, "--help")
    check_equal(helped.returncode, 0, "exit code of --help")
    for option in ("--config", "--data-dir", "--listen", "--check-config", "--version"):
        check_in(option, helped.stdout.decode(), "--help")
    for words in (("--wrong",), ("--config",), ("--config", "/nowhere/x.yaml"), ("stray",),
                  ("--listen", "127.0.0.1:99999"), ("--listen", "a:b:c"), ("--data-dir", "")):
        done = run(env, *words)
        check(done.returncode > 0, f"{words} was taken")
        check(done.stderr, f"{words}: nothing said")


@case()
def the_command_line_wins_over_the_file(env):
    broker = env.broker(config={"listen": "127.0.0.1:1", "data_dir": "/nowhere/else",
                                "log_level": "debug"})
    check_equal(broker.http().get("/health").code, 200, "health")


@case()
def a_busy_port_is_named(env):
    broker = env.broker()
    second = env.broker(start=False, port=broker.port)
    second.spawn()
    check(second.wait_exit() > 0, "two brokers on one port")
    check_in(str(broker.port), second.log(), "the log")
    try:
        check_equal(broker.http().get("/health").code, 200, "the first one's health")
    except OSError as error:
        raise Failed(f"the first broker suffered: {error}")


main()
