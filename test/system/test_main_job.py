#!/usr/bin/env python3
"""The main job with the command line: a file of orders published, pushed to one
group, pulled by another, each message acked once by each."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

import orders
from harness import case, check, check_equal, check_in, main
from operate import lane

ROWS = 19999


def prepare(broker):
    broker.godwit("topic", "create", "orders")
    broker.godwit("group", "create", "billing", "--topics", "orders", "--from", "earliest")
    broker.godwit("group", "create", "archive", "--topics", "ord*", "--from", "earliest")


def json_lines(raw):
    return [json.loads(line) for line in raw.decode().splitlines() if line]


@case(short=True, threads=True, timeout=120)
def every_order_reaches_both_groups_once(env):
    broker = env.broker()
    lines = orders.rows(env.size(ROWS))
    prepare(broker)
    done = broker.godwit("pub", "orders", "--format", "csv", "--key-field", "order_id",
                         stdin=orders.csv(lines), seconds=90)
    check_in(str(len(lines)), done.stderr.decode().replace(",", ""), "what pub says")
    pushed = broker.godwit("sub", "billing", "--count", str(len(lines)), "--idle", "20", seconds=90)
    check_equal(pushed.stdout.decode().splitlines(), lines, "pushed bodies")
    pulled = broker.godwit("pull", "archive", "--count", str(len(lines)), "--wait", "5", seconds=90)
    check_equal(pulled.stdout.decode().splitlines(), lines, "pulled bodies")
    http = broker.http()
    for group in ("billing", "archive"):
        books = lane(http, group)
        check_equal(books["published"], len(lines), "published")
        check_equal(books["acked"], len(lines), f"acked of {group}")
        left = broker.godwit("pull", group, "--count", "1", "--wait", "0", check_code=None)
        check_equal(left.stdout, b"", f"what is left for {group}")


@case(timeout=120)
def push_while_publishing_carries_keys_and_numbers(env):
    broker = env.broker()
    lines = orders.rows(env.size(5000), seed=2)
    prepare(broker)
    sub = broker.godwit_start("sub", "billing", "--count", str(len(lines)), "--json")
    broker.godwit("pub", "orders", "--format", "csv", "--key-field", "order_id",
                  "--header", "source=test", stdin=orders.csv(lines))
    out, _ = sub.communicate(timeout=60)
    check_equal(sub.returncode, 0, "exit code of sub")
    got = json_lines(out)
    check_equal([int(d["seq"]) for d in got], list(range(1, len(lines) + 1)), "seqs")
    check_equal([d["key"] for d in got], [orders.order_id(line) for line in lines], "keys")
    check_equal({int(d["attempt"]) for d in got}, {1}, "attempts")
    check_equal([d["body"] for d in got], lines, "bodies")


@case(timeout=60)
def two_members_share_a_group(env):
    broker = env.broker()
    lines = orders.rows(2000, seed=3)
    prepare(broker)
    members = [broker.godwit_start("sub", "billing", "--idle", "2") for _ in range(2)]
    broker.godwit("pub", "orders", "--format", "csv", "--key-field", "order_id",
                  stdin=orders.csv(lines))
    got = []
    for member in members:
        out, _ = member.communicate(timeout=40)
        got += out.decode().splitlines()
    check_equal(sorted(got), sorted(lines), "bodies of both members")


@case(timeout=60)
def without_ack_everything_comes_again(env):
    broker = env.broker()
    lines = orders.rows(500, seed=4)
    prepare(broker)
    broker.godwit("pub", "orders", "--format", "lines",
                  stdin=("\n".join(lines) + "\n").encode())
    for command in ("sub", "pull"):
        seen = broker.godwit(command, "billing", "--count", "500", "--no-ack")
        check_equal(sorted(seen.stdout.decode().splitlines()), sorted(lines), f"{command} --no-ack")
    # What pull left unsettled is held until its lease ends; push takes it back at once.
    seen = broker.godwit("sub", "archive", "--count", "500", "--no-ack")
    check_equal(len(seen.stdout.decode().splitlines()), 500, "first sub")
    seen = broker.godwit("sub", "archive", "--count", "500")
    check_equal(len(seen.stdout.decode().splitlines()), 500, "second sub")


@case(timeout=60)
def json_input_keeps_its_lines(env):
    broker = env.broker()
    prepare(broker)
    lines = [json.dumps({"order_id": f"o{i}", "total": i * 1.5, "who": "Zoë"}, ensure_ascii=False)
             for i in range(300)]
    broker.godwit("pub", "orders", "--format", "json", "--key-field", "order_id",
                  stdin=("\n".join(lines) + "\n").encode())
    got = json_lines(broker.godwit("sub", "billing", "--count", "300", "--json").stdout)
    check_equal([d["key"] for d in got], [f"o{i}" for i in range(300)], "keys")
    check_equal([d["body"] for d in got], lines, "bodies")


@case(timeout=60)
def the_books_balance(env):
    broker = env.broker()
    prepare(broker)
    session = broker.session()
    session.publish("orders", [f"m{i}" for i in range(100)])
    session.attach("billing", credit_messages=40)
    session.take(40)
    session.settle("orders", "ack", ranges=[(1, 10)])
    session.settle("orders", "nack", ranges=[(11, 15)], delay_ms="60000")
    books = lane(broker.http(), "billing")
    check_equal(books["published"], sum(v for k, v in books.items() if k != "published"),
                f"sum of {books}")
    check_equal((books["acked"], books["delayed"]), (10, 5), "acked, delayed")
    check(books["in_flight"] > 0, "nothing in flight")


main()
