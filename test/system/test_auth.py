#!/usr/bin/env python3
"""Who may come in: secrets, signatures, clocks, nonces, and where a bearer
secret may not be sent."""
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Failed, Skip, case, check, check_equal, check_in, main
from http_api import raw
from session import RefusedReply, Session, signed_hello
from websocket import Closed, frame


def hello_refused(broker, message):
    """The refusal of a hello, and that the connection is of no use afterwards."""
    session = broker.session(hello=False)
    try:
        session.request(message, "welcome")
    except RefusedReply as refused:
        check(refused.status in ("unauthenticated", "invalid", "too_large"),
              f"status of {refused.reply}")
        check(refused.text, f"no text in {refused.reply}")
        try:
            session.request({"type": "publish", "topic": "orders",
                             "messages": [{"body": "x"}]}, "confirm", 5)
        except (RefusedReply, Closed):
            return refused
        finally:
            session.ws.sock.close()
        raise Failed("could publish after a refused hello")
    raise Failed(f"was let in with {message}")


@case(short=True)
def good_hellos_are_welcome(env):
    broker = env.broker()
    for options in ({}, {"signed": True}):
        welcome = broker.session(**options).welcome
        check_in("godwit", welcome["broker"].lower(), "broker")
        check_equal(int(welcome["body_len_max"]), 1048576, "body_len_max")
    who = broker.credentials()
    session = Session(broker, hello=False,
                      headers=[("Authorization", f"Bearer {who['app']}:{who['secret']}")])
    check_equal(session.ping()["type"], "pong", "authorized by the handshake")


@case(short=True)
def unknown_app_and_wrong_secret(env):
    broker = env.broker()
    who = broker.credentials()
    refused = hello_refused(broker, {"type": "hello", "app": "nobody", "secret": who["secret"]})
    check_in("nobody", json.dumps(refused.reply), "names the app")
    hello_refused(broker, {"type": "hello", "app": who["app"], "secret": who["secret"] + "x"})
    hello_refused(broker, {"type": "hello", "app": who["app"], "secret": who["secret"][:-1]})
    hello_refused(broker, {"type": "hello", "app": who["app"].upper(), "secret": who["secret"]})
    hello_refused(broker, {"type": "hello", "app": who["app"]})
    check(who["secret"] not in broker.log(), "a secret in the log")


@case(short=True)
def wrong_signature(env):
    broker = env.broker()
    who = broker.credentials()
    good = signed_hello(who["app"], who["secret"])
    hello_refused(broker, signed_hello(who["app"], "wrong"))
    hello_refused(broker, dict(good, signature="0" * 64))
    hello_refused(broker, dict(good, signature=good["signature"][:-2]))
    hello_refused(broker, dict(good, signature="zz" + good["signature"][2:]))
    hello_refused(broker, dict(good, nonce=good["nonce"] + "0"))
    hello_refused(broker, dict(good, timestamp_ms=str(int(good["timestamp_ms"]) + 1)))


@case(short=True)
def stale_and_future_timestamps(env):
    broker = env.broker()
    who = broker.credentials()
    now = int(time.time() * 1000)
    for skew in (-70000, 70000, -now):
        refused = hello_refused(broker, signed_hello(who["app"], who["secret"], now + skew))
        check_in("timestamp", refused.limit + refused.text, "names the timestamp")
    check(refused.reply.get("allowed") == "60000" or "60" in refused.text,
          f"says what is allowed: {refused.reply}")
    session = broker.session(hello=False)
    session.request(signed_hello(who["app"], who["secret"], now + 50000), "welcome")
    # Signed before the broker started: it cannot know whether the nonce was used.
    session = broker.session(hello=False)
    try:
        session.request(signed_hello(who["app"], who["secret"], now - 50000), "welcome")
        raise Failed("a signature from before the start was taken")
    except RefusedReply as early:
        check_equal(early.status, "again", "status")
        check(0 < int(early.reply["retry_after_ms"]) <= 60000, f"retry_after_ms in {early.reply}")


@case(short=True, threads=True)
def a_replayed_nonce(env):
    broker = env.broker(config={"workers": 2})
    who = broker.credentials()
    hello = signed_hello(who["app"], who["secret"])
    broker.session(hello=False).request(hello, "welcome")
    for _ in range(4):  # on whichever worker
        refused = hello_refused(broker, hello)
        check_in("nonce", refused.limit + refused.text, "names the nonce")
    for nonce in ("short", "n" * 65):
        hello_refused(broker, signed_hello(who["app"], who["secret"], nonce=nonce))


@case()
def signed_http(env):
    broker = env.broker()
    http = broker.http()
    who = broker.credentials()

    def header(nonce="0123456789abcdef", secret=who["secret"]):
        timestamp = str(int(time.time() * 1000))
        text = f"{who['app']}\n{timestamp}\n{nonce}".encode()
        signature = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
        return {"Authorization": f"Godwit-HMAC-SHA256 app={who['app']},timestamp={timestamp},"
                                 f"nonce={nonce},signature={signature}"}
    good = header()
    check_equal(http.get("/v1/topics", headers=good).code, 200, "signed")
    check_equal(http.get("/v1/topics", headers=good).code, 401, "replayed")
    check_equal(http.get("/v1/topics", headers=header("another-nonce", "wrong")).code, 401,
                "wrong secret")
    for odd in ("Bearer", "Bearer x", "Bearer :", "Basic YWRtaW46eA==", "Bearer admin:",
                "Godwit-HMAC-SHA256 app=admin", "Godwit-HMAC-SHA256 ,,,=", "Bearer " + "x" * 4000):
        answer = http.get("/v1/topics", headers={"Authorization": odd})
        check_equal(answer.code, 401, f"Authorization: {odd[:40]}")
        check_equal(answer.refused["status"] in ("unauthenticated", "invalid"), True, odd[:40])


@case()
def nothing_before_hello(env):
    broker = env.broker()
    for message in ({"type": "publish", "topic": "orders", "messages": [{"body": "x"}]},
                    {"type": "attach", "group": "g", "credit_messages": "1", "credit_bytes": "1"},
                    {"type": "settle", "topic": "orders", "action": "ack", "seqs": ["1"]}):
        session = broker.session(hello=False)
        try:
            session.request(message, "nothing")
            raise Failed(f"not refused: {message}")
        except RefusedReply as refused:
            check_equal(refused.status, "unauthenticated", message["type"])
        except Closed as closed:
            check(closed.code is not None, "closed without a word")


@case(short=True)
def an_upgrade_inherits_no_login(env):
    """A proxy may send the requests of many over one connection."""
    broker = env.broker()
    broker.http().make_topic("orders")
    who = broker.credentials()
    publish = {"type": "publish", "id": "1", "topic": "orders", "messages": [{"body": "mine?"}]}
    got, _ = raw(broker, (
        f"GET /v1/topics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who['app']}:{who['secret']}"
        "\r\n\r\n"
        "GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: godwit.v1.json\r\n\r\n").encode()
        + frame(1, json.dumps(publish).encode()), seconds=2)
    check_in("101 Switching", got.decode("latin1"), "the upgrade")
    check_in("unauthenticated", got.decode("latin1"), "the publish after it")
    check_equal(int(broker.http().get("/v1/topics/orders").json["last_seq"]), 0, "stored")


@case()
def a_deleted_app_is_out(env):
    broker = env.broker()
    admin = broker.http()
    admin.make_topic("orders")
    secret = admin.make_app("shop", publish=["*"], subscribe=["*"])
    session = broker.session(app="shop", secret=secret)
    session.publish("orders", ["x"])
    admin.must(admin.delete("/v1/apps/shop"))
    try:
        session.publish("orders", ["y"], timeout=5)
        raise Failed("a deleted app may still publish")
    except (RefusedReply, Closed):
        pass
    hello_refused(broker, {"type": "hello", "app": "shop", "secret": secret})


def refused_as(status, act):
    try:
        act()
    except RefusedReply as refused:
        check_equal(refused.status, status, "status")
        return
    raise Failed(f"not refused with {status}")


@case(short=True, threads=True)
def a_deleted_app_gets_nothing_more(env):
    """Attached or pulling when it is deleted: on each worker, at once."""
    broker = env.broker(config={"workers": 2})
    admin = broker.http()
    admin.make_topic("orders")
    secret = admin.make_app("shop", subscribe=["*"])
    own = broker.http(app="shop", secret=secret)
    for group in ("one", "two"):
        own.make_group(group, "orders")
    sessions = [broker.session(app="shop", secret=secret) for _ in range(2)]
    for session, group in zip(sessions, ("one", "two")):
        session.attach(group)
    admin.publish("orders", "before")
    held = [session.next().seq for session in sessions]
    pulls = []
    puller = threading.Thread(target=lambda: pulls.append(
        own.post("/v1/groups/one/pull?max=1&wait=20")))
    puller.start()
    deadline = time.monotonic() + 20
    while int(admin.get("/v1/groups/one").json["members"]) < 2:
        check(time.monotonic() < deadline, "the pull never began")
        time.sleep(0.01)
    admin.must(admin.delete("/v1/apps/shop"))
    puller.join()
    check_equal(pulls[0].code, 401, f"a pull that waited: {pulls[0]}")
    admin.publish("orders", "after")
    for session, group, seq in zip(sessions, ("one", "two"), held):
        refused_as("unauthenticated", lambda s=session, n=seq: s.ack("orders", n))
        refused_as("unauthenticated", lambda s=session, g=group: s.attach(g))
        check(session.none_comes(0.5), "a message for an app that is no more")
    lanes = [admin.get(f"/v1/groups/{group}").json["lanes"][0] for group in ("one", "two")]
    for lane in lanes:
        check_equal((int(lane["ready"]), int(lane["in_flight"])), (2, 0), f"books {lane}")


@case()
def credentials_are_private_and_stay(env):
    broker = env.broker()
    mode = os.stat(broker.credentials_path).st_mode & 0o777
    check_equal(oct(mode), oct(0o600), "mode of admin.credentials")
    who = broker.credentials()
    check_equal(sorted(who), ["app", "secret", "url"], "its lines")
    check_in(str(broker.port), who["url"], "url")
    broker.restart()
    check_equal(broker.credentials()["secret"], who["secret"], "the secret after a restart")
    broker.session().ping()


INSIDE = """
import os, sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import subprocess, types
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "addr", "add", "192.0.2.1/32", "dev", "lo"], check=True)
from broker import Broker
from session import Session, RefusedReply
from http_api import Http
import session as session_module
env = types.SimpleNamespace(brokers=[], path=lambda *p: os.path.join(sys.argv[3], *p),
                            godwitd=sys.argv[2])
broker = Broker(env, host="0.0.0.0")
broker.start()
try:
    broker.host = "192.0.2.1"
    http = Http(broker)
    http.http.source_address = ("192.0.2.1", 0)
    answer = http.get("/v1/topics")
    print("http", answer.code, answer.refused["text"])
    try:
        Session(broker)
        print("ws welcome")
    except RefusedReply as refused:
        print("ws", refused.status, refused.text)
    Session(broker, signed=True)
    print("signed welcome")
finally:
    broker.stop()
"""


@case()
def no_bearer_over_plain_tcp_from_elsewhere(env):
    """In a network namespace of its own, so that nothing outside sees it."""
    probe = subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True)
    if probe.returncode != 0:
        raise Skip("no network namespaces here: " + probe.stderr.decode().strip())
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", INSIDE,
                           os.path.join(os.path.dirname(__file__), "../lib"), env.godwitd, env.tmp],
                          capture_output=True, timeout=50)
    out = done.stdout.decode()
    check_equal(done.returncode, 0, done.stderr.decode()[-1500:] + out)
    check("http 401" in out or "http 403" in out, out)
    check("ws welcome" not in out and "ws un" in out or "ws forbidden" in out, out)
    check_in("signed welcome", out, "a signed hello from elsewhere")


main()
