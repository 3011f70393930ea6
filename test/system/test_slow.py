#!/usr/bin/env python3
"""Clients that take their time: deadlines end them, and nobody else notices."""
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, main, wait_until
from http_api import code_of
from session import Session
from websocket import Closed, TEXT, frame

FAST = {"limits": {"head_ms": 700, "body_ms": 700, "idle_ms": 1200, "ping_ms": 300}}


def drip(broker, data, pause=0.1, seconds=15):
    """A byte at a time; (bytes that came back, seconds until the peer closed)."""
    began = time.monotonic()
    got = b""
    with socket.create_connection((broker.host, broker.port), 5) as sock:
        sock.settimeout(pause)
        at = 0
        while time.monotonic() - began < seconds:
            try:
                if at < len(data):
                    sock.sendall(data[at:at + 1])
                    at += 1
                part = sock.recv(4096)
                if not part:
                    return got, time.monotonic() - began
                got += part
            except socket.timeout:
                continue
            except (ConnectionResetError, BrokenPipeError):
                return got, time.monotonic() - began
    return got, None


@case(short=True)
def a_head_byte_by_byte(env):
    broker = env.broker(config=FAST)
    got, took = drip(broker, b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1000)
    check(took is not None, "never ended")
    check(code_of(got) in (0, 408), f"answer {got[:200]!r}")
    check_equal(broker.http().get("/health").code, 200, "health afterwards")


@case()
def nothing_at_all(env):
    broker = env.broker(config=FAST)
    _, took = drip(broker, b"")
    check(took is not None, "a silent connection is never ended")


@case(short=True)
def a_body_byte_by_byte(env):
    broker = env.broker(config=FAST)
    http = broker.http()
    got, took = drip(broker, f"POST /v1/topics HTTP/1.1\r\nHost: x\r\nAuthorization: {http.bearer}"
                     "\r\nContent-Length: 1000\r\n\r\n".encode() + b"a" * 500, pause=0.002)
    check(took is not None, "never ended")
    check(code_of(got) in (0, 408), f"answer {got[:200]!r}")


@case(short=True)
def a_frame_byte_by_byte(env):
    broker = env.broker(config=FAST)
    session = broker.session()
    raw = frame(TEXT, b" " * 5000)
    began = time.monotonic()
    closed = None
    try:
        for at in range(len(raw)):
            session.ws.send_raw(raw[at:at + 1])
            session.ws.receive_frame(0.05) if at % 10 == 0 else None
            check(time.monotonic() - began < 15, "a slow frame is never ended")
    except TimeoutError:
        pass
    except (Closed, OSError) as error:
        closed = error
    while closed is None and time.monotonic() - began < 15:
        try:
            session.ws.send_raw(b" ")
            opcode, payload, _ = session.ws.receive_frame(0.1)
            if opcode == 8:
                closed = payload
        except TimeoutError:
            continue
        except (Closed, OSError) as error:
            closed = error
    check(closed is not None, "a slow frame is never ended")


@case(short=True)
def idle_keep_alive_ends(env):
    broker = env.broker(config=FAST)
    with socket.create_connection((broker.host, broker.port), 10) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        check(b"200" in sock.recv(65536), "first answer")
        began = time.monotonic()
        while sock.recv(65536):
            pass
        check(0.5 < time.monotonic() - began < 10, "idle for the wrong time")


@case(short=True, threads=True)
def a_websocket_that_does_not_answer_pings(env):
    broker = env.broker(config=FAST)
    dead = broker.session()
    alive = broker.session()
    stop = threading.Event()
    faults = []

    def keep_reading():
        try:
            while not stop.is_set():
                try:
                    alive.ws.receive(0.2)
                except TimeoutError:
                    pass
        except Exception as error:
            faults.append(error)
    thread = threading.Thread(target=keep_reading)
    thread.start()
    env.at_end(lambda: (stop.set(), thread.join()))
    began = time.monotonic()
    pings = 0
    while True:
        try:
            opcode, _, _ = dead.ws.receive_frame(10)
        except Closed:
            break
        if opcode == 8:
            break
        pings += opcode == 9
    check(pings > 0, "ended without a ping")
    check(time.monotonic() - began < 10, "ended late")
    time.sleep(1.5)
    stop.set()
    thread.join()
    check_equal(faults, [], "one that answers")


@case(short=True, threads=True, timeout=120)
def a_subscriber_that_never_reads(env):
    """Its credit is larger than what may wait for it: it is cut off, others get all."""
    broker = env.broker(config={"limits": {"output_kib": 1024, "idle_ms": 60000}})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("deaf", "orders")
    http.make_group("good", "orders")
    deaf = Session(broker, receive_buffer=4096)
    deaf.attach("deaf", credit_messages=60000, credit_bytes=64 << 20)
    good = broker.session()
    good.attach("good", credit_messages=1000, credit_bytes=32 << 20)
    producer = broker.session()
    count = 400
    before = broker.memory_bytes()
    for at in range(0, count, 10):
        producer.publish("orders", ["x" * 100000] * 10)
        for delivery in good.take(10, 20):
            check_equal(len(delivery.body), 100000, "body")
        good.settle("orders", "ack", ranges=[(at + 1, at + 10)])
    # Mapped segments count as resident: allow for the log itself.
    grown = broker.memory_bytes() - before
    check(env.sanitized or grown < (100 << 20), f"memory grew by {grown >> 20} MiB")
    check_equal(int(http.get("/v1/groups/good").json["lanes"][0]["acked"]), count, "acked")
    deaf.ws.abort()
    taker = broker.session()
    taker.attach("deaf", credit_messages=1000, credit_bytes=64 << 20)
    seqs = sorted({d.seq for d in taker.take(count, 40)})
    check_equal(seqs, list(range(1, count + 1)), "what the deaf one did not take")


@case(timeout=90)
def a_producer_that_never_reads_its_confirms(env):
    broker = env.broker(config={"limits": {"output_kib": 64}})
    broker.http().make_topic("orders")
    deaf = Session(broker, receive_buffer=4096)
    deaf.ws.sock.settimeout(2)
    before = broker.memory_bytes()
    try:
        for _ in range(20000):
            deaf.publish_start("nope", ["x"] * 50)  # each refused in so many words
    except (OSError, Closed):
        pass
    check(env.sanitized or broker.memory_bytes() - before < (64 << 20), "memory grew without bound")
    check_equal(len(broker.session().publish("orders", ["x"])), 1, "others")


@case(short=True, threads=True)
def too_many_connections(env):
    broker = env.broker(config={"limits": {"connections": 20}})
    socks = [socket.create_connection((broker.host, broker.port), 5) for _ in range(40)]
    env.at_end(lambda: [s.close() for s in socks])
    time.sleep(0.3)
    for sock in socks:
        sock.close()

    def answers():
        try:
            return broker.http(timeout=5).get("/health").code == 200
        except OSError:
            return False
    wait_until(answers, 10, "health once they have gone")


@case(timeout=120)
def five_hundred_half_requests(env):
    broker = env.broker(config=FAST)
    http = broker.http()
    socks = []
    env.at_end(lambda: [s.close() for s in socks])
    for _ in range(500):
        sock = socket.create_connection((broker.host, broker.port), 5)
        sock.sendall(b"GET /health HTTP/1.1\r\nHo")
        socks.append(sock)
    check_equal(http.get("/health").code, 200, "health among them")
    time.sleep(1.5)
    ended = 0
    for sock in socks:
        sock.settimeout(5)
        try:
            while sock.recv(4096):
                pass
            ended += 1
        except socket.timeout:
            pass
        except OSError:
            ended += 1
    check_equal(ended, 500, "ended by their deadline")


main()
