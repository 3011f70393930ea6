#!/usr/bin/env python3
"""The command line: what it prints, where, and with which exit code."""
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import die_with_parent
from harness import TOP, case, check, check_equal, check_in, main, wait_until

# What connects to no broker that runs already.
OFFLINE = {("verify",), ("dump",), ("backup",), ("restore",), ("bench", "restart"), ("bench", "disk")}
OK, FAILED, USAGE, UNREACHABLE, DENIED, NOT_FOUND, EXISTS, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


def refused(broker, code, *words, **options):
    """Run it; it must end with the code, say why on stderr, and nothing on stdout."""
    done = broker.godwit(*words, check_code=code, **options)
    check_equal(done.stdout, b"", f"{words}: stdout")
    said = done.stderr.decode()
    check("godwit: " in said, f"{words}: stderr {said!r}")
    return said


def published(broker, count=10):
    broker.godwit("topic", "create", "orders")
    broker.godwit("group", "create", "work", "--topics", "orders")
    broker.godwit("pub", "orders", stdin="".join(f"line {i}\n" for i in range(count)).encode())
    return broker


@case(short=True)
def exit_codes_tell_what_happened(env):
    broker = published(env.broker())
    check_in("nope", refused(broker, NOT_FOUND, "pub", "nope", stdin=b"x\n"), "pub")
    refused(broker, NOT_FOUND, "sub", "nope")
    refused(broker, NOT_FOUND, "pull", "nope")
    refused(broker, NOT_FOUND, "topic", "show", "nope")
    refused(broker, NOT_FOUND, "group", "delete", "nope")
    refused(broker, EXISTS, "topic", "create", "orders")
    refused(broker, DENIED, "topic", "list", "--secret", "wrong")
    refused(broker, DENIED, "sub", "work", "--secret", "wrong")
    refused(broker, DENIED, "pub", "orders", "--app", "nobody", stdin=b"x\n")
    refused(broker, UNREACHABLE, "topic", "list", "--url", "ws://127.0.0.1:1")
    refused(broker, UNREACHABLE, "pub", "orders", "--url", "ws://127.0.0.1:1",
            "--connect-timeout", "1", stdin=b"x\n")


@case(short=True)
def wrong_words_are_explained(env):
    broker = published(env.broker())
    for words, word in (((), "usage"), (("dance",), "dance"), (("pub",), "usage"),
                        (("pub", "a", "b"), "usage"), (("pub", "orders", "--colour"), "colour"),
                        (("pub", "orders", "--format", "xml"), "xml"),
                        (("pub", "orders", "--window", "0"), "window"),
                        (("pub", "orders", "--header", "no-equals"), "header"),
                        (("pub", "bad name"), "bad name"), (("sub", "work", "--count", "-1"), "count"),
                        (("sub", "work", "--count", "ten"), "ten"),
                        (("pull", "work", "--max", "1001"), "1000"),
                        (("group", "create", "g"), "topics"),
                        (("topic", "create", "x", "--url", "gopher://x"), "ws://"),
                        (("topic", "create", "x", "--keep", "forever"), "settled or limit"),
                        (("topic", "create", "x", "--max-age", "7d"), "--keep limit"),
                        (("topic", "create", "x", "--keep", "limit"), "--max-age"),
                        (("topic", "create", "x", "--keep", "limit", "--max-age", "0s"), "--max-age"),
                        (("topic", "create", "x", "--keep", "limit", "--max-count", "0"), "--max-count"),
                        (("topic", "create", "x", "--keep", "limit", "--max-bytes", "0"), "--max-bytes"),
                        (("topic", "create", "x", "--keep", "limit", "--max-bytes", "10GB"), "use GiB"),
                        (("topic", "create", "x", "--keep", "limit", "--max-age", "40000d"), "36600d"),
                        (("topic", "create", "x", "--keep", "limit", "--max-age", "1d",
                          "--min-age", "1d"), "--keep settled"),
                        (("topic", "update", "orders"), "nothing to change"),
                        (("topic", "list", "--credentials", "/nowhere"), "/nowhere"),
                        (("pub", "orders", "--file", "/nowhere/x.csv"), "/nowhere/x.csv")):
        done = broker.godwit(*words, check_code=None, stdin=b"")
        check(done.returncode in (FAILED, USAGE), f"{words}: exit code {done.returncode}")
        check_in(word, done.stderr.decode(), f"{words}")
        check("keep_" not in done.stderr.decode(), f"{words}: {done.stderr!r}")
        if words[:1] == ("topic",) and "--url" not in words and "--credentials" not in words:
            check_equal(done.returncode, USAGE, f"{words}")
    broker.godwit("topic", "update", "orders", "--min-age", "0s")


def helps(broker, *words):
    """The help of each command that does something itself."""
    text = broker.godwit(*words, "--help").stdout.decode()
    if "\nCommands:\n" not in text:
        yield text
        return
    for line in text.split("\nCommands:\n")[1].split("\n\n")[0].splitlines():
        yield from helps(broker, *words, line.split()[0])


@case(timeout=120)
def examples_of_the_help_run(env):
    """As pasted, but for paths of other machines; none is a wrong use, whatever it finds."""
    broker = env.broker()
    for topic in ("orders", "audit", "greetings", "todo", "logs", "mails", "pictures"):
        broker.godwit("topic", "create", topic)
    for group in ("billing", "warehouse", "cn"):
        broker.godwit("group", "create", group, "--topics", "orders")
    files = {"orders.csv": "order_id,status,region\n1,paid,cn\n2,sent,de\n",
             "orders.json": '{"nr":1}\n{"nr":2}\n', "orders.txt": "a\nb\n", "app.log": "begun\n"}
    for name, text in files.items():
        with open(env.path(name), "w") as file:
            file.write(text)
    tool = env.godwit
    seen = 0
    for text in helps(broker):
        if "\nExamples:\n" not in text or "usage: godwit bench" in text:
            continue
        for line in text.split("\nExamples:\n")[1].replace("\\\n", " ").splitlines():
            command = line.replace("/var/lib/godwit-again", env.path("again"))
            command = command.replace("/var/lib/godwit", broker.data_dir)
            command = command.replace("/backup/", env.path("backup-"))
            command = re.sub(r"\bjq\b.*", "cat", command).replace("godwitd --", ": ")
            done = subprocess.run(
                ["timeout", "-s", "INT", "1", "bash", "-c",
                 f"set -o pipefail; godwit() {{ {tool} \"$@\"; }}; {command}"],
                cwd=env.tmp, env=broker.godwit_env(), capture_output=True, timeout=30,
                stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
            said = done.stderr.decode()
            check("usage:" not in said, f"{line}: {said}")
            check(done.returncode != USAGE or "Exit code 0:" in text, f"{line}: {said}")
            seen += 1
    check(seen > 40, f"only {seen} examples")


@case(short=True)
def help_is_there_for_every_command(env):
    broker = env.broker(start=False)
    bare = {"PATH": os.environ["PATH"]}

    def commands(*words):
        text = broker.godwit(*words, "--help", env=bare).stdout.decode()
        check_in("usage: godwit", text, f"{words} --help")
        check(all(len(line) <= 80 for line in text.splitlines()), f"{words} --help: a long line")
        if "\nCommands:\n" not in text:
            check_equal("--url" in text, words not in OFFLINE, f"--url in {words} --help")
            return
        listed = text.split("\nCommands:\n")[1].split("\n\n")[0]
        for line in listed.splitlines():
            if words == () and line.split()[0] == "bench":
                measures.append(line)
            elif words == ("bench",):
                check_in(line.split()[0], measures[0], "the line about bench")
                measures.append(line)
            commands(*words, line.split()[0])
    measures = []
    commands()
    check(len(measures) >= 7, f"{measures}")
    check_in("0.1.0", broker.godwit("--version", env=bare).stdout.decode(), "--version")


@case()
def csv_that_is_wrong_is_named_by_line(env):
    broker = published(env.broker(), 0)
    for data, word in ((b"b,order_id\n1,2\n3\n4,5\n", "3"), (b'order_id,b\n1,"2\n', "2"),
                       (b"a,b\n1,2\n", "order_id")):
        done = broker.godwit("pub", "orders", "--format", "csv", "--key-field", "order_id",
                             stdin=data, check_code=None)
        check(done.returncode != 0, f"{data!r} was taken")
        check_in(word, done.stderr.decode(), f"{data!r}")
    done = broker.godwit("pub", "orders", "--format", "json", "--key-field", "id",
                         stdin=b'{"id":"1"}\n{"id":\n', check_code=None)
    check(done.returncode != 0, "broken JSON was taken")
    check_in("2", done.stderr.decode(), "names the line")


@case(short=True)
def credentials_by_file_and_a_new_app(env):
    broker = published(env.broker())
    bare = {"PATH": os.environ["PATH"]}
    admin = ("--credentials", broker.credentials_path)
    broker.godwit("topic", "list", *admin, env=bare)
    made = broker.godwit("app", "create", "shop", "--publish", "orders", *admin, env=bare)
    path = env.path("shop.credentials")
    with open(path, "wb") as file:
        file.write(made.stdout)
    shop = dict(bare, GODWIT_CREDENTIALS=path)
    broker.godwit("pub", "orders", stdin=b"from the shop\n", env=shop)
    refused(broker, DENIED, "group", "create", "g", "--topics", "orders", env=shop)
    listed = json.loads(broker.godwit("app", "list", "--json", *admin, env=bare).stdout)
    check("shop" in json.dumps(listed) and "secret" not in json.dumps(listed), f"app list: {listed}")


@case()
def tables_and_json_of_the_catalog(env):
    broker = published(env.broker())
    table = broker.godwit("group", "show", "work").stdout.decode()
    check_in("orders", table, "group show")
    for kind, name in (("topic", "orders"), ("group", "work"), ("app", "admin")):
        check_in(name, broker.godwit(kind, "list").stdout.decode(), f"{kind} list")
        check_in(name, json.dumps(json.loads(broker.godwit(kind, "list", "--json").stdout)),
                 f"{kind} list --json")
        check_in(name, json.dumps(json.loads(broker.godwit(kind, "show", name, "--json").stdout)),
                 f"{kind} show --json")
    check_equal(broker.godwit("health").returncode, OK, "health")
    broker.godwit("group", "delete", "work")
    broker.godwit("topic", "delete", "orders")
    refused(broker, NOT_FOUND, "topic", "show", "orders")


@case(short=True)
def the_figures_of_a_store_stand_in_columns(env):
    broker = env.broker()
    text = broker.godwit("store").stdout.decode()
    lines = text.split("\n\n")[0].splitlines()
    check(len(lines) > 10, text)
    width = max(len(line) - len(line.split("  ")[-1].lstrip()) for line in lines if "  " in line)
    for line in lines:
        check(line[width - 1] == " " and line[width] != " ", f"not in its column: {line!r}")
        if "bytes" in line[:width]:
            check(line.endswith("B"), f"a figure in plain bytes: {line!r}")


@case()
def no_ack_just_looks(env):
    broker = published(env.broker(), 5)
    looked = broker.godwit("sub", "work", "--no-ack", "--idle", "1").stdout.decode().splitlines()
    check_equal(looked, [f"line {i}" for i in range(5)], "looked at")
    check_equal(broker.godwit("pull", "work", "--count", "5").stdout.decode().splitlines(), looked,
                "still there")


@case()
def interrupted_is_130_and_loses_nothing(env):
    broker = published(env.broker(), 100)
    sub = broker.godwit_start("sub", "work")
    for _ in range(100):
        sub.stdout.readline()
    sub.send_signal(signal.SIGINT)
    check(sub.wait(15) in (OK, INTERRUPTED), f"exit code {sub.returncode}")
    lane = broker.http().get("/v1/groups/work").json["lanes"][0]
    check_equal(int(lane["acked"]), 100, "acked before it ended")
    pub = broker.godwit_start("pub", "orders", stdin=subprocess.PIPE)
    pub.stdin.write(b"one\ntwo\n")
    pub.stdin.flush()
    wait_until(lambda: broker.http().get("/v1/topics/orders").json["last_seq"] == "102", 10,
               "two more to be stored without the end of the input")
    pub.send_signal(signal.SIGINT)
    check_equal(pub.wait(15), INTERRUPTED, "exit code of pub")


@case()
def a_closed_pipe_ends_sub(env):
    broker = published(env.broker(), 5000)
    done = subprocess.run(f"{env.godwit} sub work | head -3", shell=True, capture_output=True,
                          env=broker.godwit_env(), timeout=30)
    check_equal(done.stdout, b"line 0\nline 1\nline 2\n", "what head saw")


@case(short=True, threads=True, timeout=120)
def bench_measures_and_cleans_up(env):
    broker = env.broker()
    for words in (("publish", "--count", "2000"), ("endtoend", "--count", "2000"),
                  ("latency", "--count", "300", "--rate", "1000"),
                  ("fanout", "--count", "500"), ("idle", "--connections", "20")):
        done = broker.godwit("bench", *words, "--json", seconds=30)
        figures = json.loads(done.stdout)
        check(isinstance(figures, dict) and figures, f"bench {words[0]}: {done.stdout!r}")
    done = broker.godwit("bench", "restart", "--json", "--count", "2000", "--rounds", "2",
                         "--godwitd", env.godwitd, "--folder", env.path(), seconds=30)
    figures = json.loads(done.stdout)
    check(figures["first_delivery_us"]["p50"] >= figures["login_us"]["p50"] > 0, f"{figures}")
    check_equal([f for f in os.listdir(env.path()) if "restart" in f], [], "folders left behind")
    check_equal(broker.http().get("/v1/topics").json["topics"], [], "topics left behind")
    check_equal(broker.http().get("/v1/groups").json["groups"], [], "groups left behind")


@case(timeout=400)
def quickstart_from_a_fresh_clone(env):
    clone = env.path("clone")
    subprocess.run(["git", "clone", "-q", TOP, clone], check=True)
    env.at_end(lambda: subprocess.run(["./tools/quickstart", "stop"], cwd=clone,
                                      capture_output=True))
    for number in range(2):
        began = time.monotonic()
        done = subprocess.run(["./tools/quickstart"], cwd=clone, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=400)
        out = done.stdout.decode()
        check_equal(done.returncode, 0, f"{out[-2000:]}{done.stderr.decode()[-2000:]}; exit code")
        for word in ("godwit pub", "godwit sub", "quickstart stop"):
            check_in(word, out + done.stderr.decode(), f"run {number} after {time.monotonic() - began:.0f} s")
    done = subprocess.run(["./tools/quickstart", "stop"], cwd=clone, capture_output=True)
    check_equal(done.returncode, 0, "exit code of stop")


main()
