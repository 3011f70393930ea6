#!/usr/bin/env python3
"""The client's example programs, as a reader of its header would build and run them."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import die_with_parent
from harness import TOP, Skip, case, check, check_equal, check_in, main


def run(broker, path, *words, seconds=40, **more):
    return subprocess.run([path, *words], env=dict(broker.godwit_env(), **more),
                          capture_output=True, timeout=seconds, preexec_fn=die_with_parent)


def prepared(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("billing", "orders")
    return broker


def publish_and_subscribe(env, publish, subscribe, **more):
    broker = prepared(env)
    done = run(broker, publish, "orders", **more)
    check_equal(done.returncode, 0, f"{done.stderr.decode()}; exit code")
    check_equal(sorted(done.stdout.decode().splitlines()),
                sorted(f"message {i} is stored as number {i + 1}" for i in range(10)), "confirms")
    done = run(broker, subscribe, "billing", "10", **more)
    check_equal(done.returncode, 0, f"{done.stderr.decode()}; exit code")
    check_equal(done.stdout.decode().splitlines(),
                [f"orders {i + 1}: message {i}" for i in range(10)], "messages")
    lane = broker.http().get("/v1/groups/billing").json["lanes"][0]
    check_equal(int(lane["acked"]), 10, "acked")


def built(env, name):
    path = os.path.join(env.build, "client", name)
    check(os.access(path, os.X_OK), f"{path} was not built")
    return path


@case(short=True, threads=True)
def publish_then_subscribe(env):
    publish_and_subscribe(env, built(env, "example_publish"), built(env, "example_subscribe"))


@case(short=True)
def an_order_twice_is_stored_once(env):
    broker = prepared(env)
    order = built(env, "example_order")
    done = run(broker, order, "orders", "A-17")
    check_equal(done.returncode, 0, f"{done.stderr.decode()}; exit code")
    check_equal(sorted(done.stdout.decode().splitlines()),
                ["line 0 is stored as number 1", "line 1 is stored as number 2",
                 "reminder 0 is stored as number 3"], "the first time")
    done = run(broker, order, "orders", "A-17")
    check_equal(sorted(done.stdout.decode().splitlines()),
                ["line 0 was stored before", "line 1 was stored before",
                 "reminder 0 was stored before"], "the second time")


@case(short=True)
def refusals_are_shown(env):
    broker = prepared(env)
    done = run(broker, built(env, "example_publish"), "nowhere")
    check_in("nowhere", done.stdout.decode() + done.stderr.decode(), "an unknown topic")
    done = run(broker, built(env, "example_publish"), "orders", GODWIT_SECRET="wrong")
    check(done.returncode != 0, "a wrong secret: exit code 0")
    check_in("authenticated", done.stdout.decode() + done.stderr.decode(), "a wrong secret")
    done = run(broker, built(env, "example_subscribe"), "nobody", "1")
    check_in("nobody", done.stderr.decode(), "an unknown group")


@case(timeout=120)
def as_built_by_an_application_with_pkg_config(env):
    """Installed into a folder, found by pkg-config, compiled by one command."""
    if env.sanitized:
        raise Skip("the installed library would want the sanitizer too")
    prefix = env.path("installed")
    subprocess.run(["cmake", "--install", env.build, "--prefix", prefix], check=True,
                   capture_output=True)
    found = [base for base, _, names in os.walk(prefix) if "godwit.pc" in names]
    check(found, "no godwit.pc was installed")
    settings = dict(os.environ, PKG_CONFIG_PATH=found[0])
    asked = ["pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "godwit"]
    flags = subprocess.run(asked, env=settings, check=True, capture_output=True).stdout.decode()
    for name in ("publish", "subscribe"):
        subprocess.run(["cc", "-Wall", "-Werror", os.path.join(TOP, f"client/examples/{name}.c"),
                        "-o", env.path(name), *flags.split()], check=True)
    library = os.path.dirname(found[0])
    publish_and_subscribe(env, env.path("publish"), env.path("subscribe"), LD_LIBRARY_PATH=library)
    installed = [os.path.join(prefix, name) for name in ("bin/godwit", "sbin/godwitd")]
    for path in installed:
        done = subprocess.run([path, "--version"], capture_output=True)
        check_equal(done.returncode, 0, f"{path} --version: exit code")


main()
