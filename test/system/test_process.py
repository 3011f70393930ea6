#!/usr/bin/env python3
"""The life of the process: starting, idling, draining."""
import os
import re
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main, wait_until
from session import RefusedReply, Session
from websocket import Closed


@case(short=True)
def port_0_is_reported(env):
    broker = env.broker(port=0)
    check(broker.port > 0, "no port in the log")
    check_equal(broker.http().get("/health").code, 200, "health")
    check_in(str(broker.port), broker.credentials()["url"], "url in the credentials")


@case(short=True, threads=True)
def sigterm_drains_and_exits_0(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    session.attach("work")
    first = session.publish_start("orders", ["x"] * 1000)
    broker.process.send_signal(signal.SIGTERM)
    confirms = []
    try:
        confirms = session.publish_end(first, 1000, 10)
    except Closed:
        pass
    except RefusedReply as refused:
        check_equal(refused.status, "closed", "what came too late is refused")
    closed = session.ws.wait_closed(10)
    check_equal(closed.code, 1001, "close code: going away")
    check_equal(broker.wait_exit(), 0, "exit code")
    broker.start()
    last = int(broker.http().get("/v1/topics/orders").json["last_seq"])
    check(last >= len(confirms), f"{len(confirms)} confirmed, {last} stored")


@case()
def sigterm_with_a_client_that_does_not_go(env):
    broker = env.broker(config={"drain_ms": 500})
    import socket
    stubborn = socket.create_connection((broker.host, broker.port), 5)
    env.at_end(stubborn.close)
    stubborn.sendall(b"GET /health HT")
    deaf = broker.session()
    began = time.monotonic()
    check_equal(broker.stop(10), 0, "exit code")
    check(time.monotonic() - began < 8, "took too long")
    deaf.ws.sock.close()


@case()
def sigint_is_the_same(env):
    broker = env.broker()
    broker.process.send_signal(signal.SIGINT)
    check_equal(broker.wait_exit(), 0, "exit code")


@case(short=True, threads=True)
def a_waiting_pull_is_answered_at_the_end(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    answers = []

    def pull():
        try:
            answers.append(http.post("/v1/groups/work/pull?max=1&wait=30").code)
        except Exception as error:
            answers.append(error)
    thread = threading.Thread(target=pull)
    thread.start()
    time.sleep(0.3)
    check_equal(broker.stop(), 0, "exit code")
    thread.join(10)
    check(answers and answers[0] in (200, 204, 503), f"the pull got {answers}")


@case()
def an_idle_broker_uses_no_cpu(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session()
    session.publish("orders", ["x"] * 100)
    session.attach("work")
    session.take(100)
    session.settle("orders", "ack", ranges=[(1, 100)])
    scrubbed = re.compile(rb"^godwit_store_scrub_passes_total 1$", re.M)
    wait_until(lambda: scrubbed.search(http.get("/metrics").body), 30, "the first scrub")
    log = os.path.join(broker.data_dir, "log")
    wait_until(lambda: not [name for name in os.listdir(log) if name.endswith(".tmp")], 30,
               "the next segment to be filled")
    time.sleep(1)  # the keeper's checkpoint of it
    before = broker.cpu_seconds()
    time.sleep(3)
    used = broker.cpu_seconds() - before
    check(used <= 0.04, f"{used} s of CPU in 3 idle seconds")


@case(short=True)
def log_lines_have_one_shape_and_no_secrets(env):
    broker = env.broker(config={"log_level": "debug"})
    http = broker.http()
    http.make_topic("orders")
    canary = "canary-body-" + os.urandom(8).hex()
    session = broker.session()
    session.publish("orders", [canary])
    http.publish("orders", canary)
    secret = http.make_app("evil", publish=["*"])
    http.get("/v1/topics/%0d%0aforged%20line=1")
    bad = Session(broker, hello=False)
    bad.send({"type": "hello", "id": "1", "app": "x\nforged app=admin\x1b[31m", "secret": "y"})
    try:
        bad.receive()
    except Closed:
        pass
    broker.stop()
    log = broker.log()
    for word in (canary, secret, broker.credentials()["secret"]):
        check(word not in log, "a body or a secret is in the log")
    for line in log.splitlines():
        check(re.match(r"^(<\d>)?\S+ (\S+ )?", line) and "\x1b" not in line, f"line {line!r}")
        check(not line.startswith("forged"), f"a forged line: {line!r}")
    for event in ("listening", "stop"):
        check_in(event, log, "the log")


@case()
def the_first_start_and_the_second(env):
    broker = env.broker()
    check_equal(os.stat(broker.data_dir).st_mode & 0o077, 0, "others' rights on the folder")
    names = sorted(os.listdir(broker.data_dir))
    broker.restart()
    check_equal(sorted(os.listdir(broker.data_dir)), names, "files after a restart")
    for _ in range(3):
        broker.kill()
        broker.start()
    check(len(os.listdir(broker.data_dir)) < len(names) + 10, "files pile up")


@case()
def many_connections_come_and_go(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    fds = f"/proc/{broker.process.pid}/fd"
    before = len(os.listdir(fds))
    for _ in range(env.size(300)):
        session = broker.session()
        session.publish("orders", ["x"])
        session.abort()
    wait_until(lambda: len(os.listdir(fds)) <= before + 5, 10, "descriptors to be given back")


main()
