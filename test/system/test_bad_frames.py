#!/usr/bin/env python3
"""Frames and messages that break the rules. Each gets a clear answer, and the
broker serves others as if nothing had happened."""
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Failed, case, check, check_equal, check_in, main
from session import RefusedReply
from websocket import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Closed, Refused, WebSocket,
                       frame)


def with_topic(env):
    broker = env.broker()
    broker.http().make_topic("orders")
    return broker


def still_serves(broker):
    session = broker.session()
    check_equal(len(session.publish("orders", ["fine"])), 1, "confirms afterwards")
    session.close()


def closes(broker, raw, *codes, protocol="godwit.v1.json", hello=True):
    """Send raw bytes; the broker closes with one of the codes and says why."""
    session = broker.session(protocol=protocol, hello=hello and protocol.endswith("json"))
    try:
        session.ws.send_raw(raw)
        closed = session.ws.wait_closed(10)
    except Closed as early:
        closed = early
    check(closed.code in codes, f"closed with {closed.code} {closed.text!r}, want {codes}")
    session.ws.sock.close()
    return closed


@case(short=True)
def an_unmasked_frame(env):
    broker = with_topic(env)
    closes(broker, frame(TEXT, '{"type":"ping","id":"1"}', mask=False), 1002)
    closes(broker, frame(BINARY, b"\x32\x02\x08\x01", mask=False), 1002,
           protocol="godwit.v1.proto")
    still_serves(broker)


@case(short=True)
def frames_the_rfc_forbids(env):
    broker = with_topic(env)
    for name, raw in (
            ("reserved bit", frame(TEXT, "{}", rsv=4)),
            ("reserved opcode", frame(3, "{}")),
            ("reserved control opcode", frame(11, "")),
            ("fragmented ping", frame(PING, "x", fin=False)),
            ("long ping", frame(PING, "x" * 126)),
            ("continuation of nothing", frame(CONTINUATION, "x")),
            ("text inside a message", frame(TEXT, "{", fin=False) + frame(TEXT, "}")),
            ("close of one byte", frame(CLOSE, b"\x03")),
            ("close code 1005", frame(CLOSE, struct.pack(">H", 1005))),
            ("length not minimal", b"\x81\xfe\x00\x01" + b"\0\0\0\0" + b"x"),
            ("length with the top bit", b"\x82\xff" + b"\x80" + b"\0" * 7 + b"\0\0\0\0")):
        try:
            closes(broker, raw, 1002, None if name.startswith("length") else 1002)
        except AssertionError as error:
            raise Failed(f"{name}: {error}")
    still_serves(broker)


@case(short=True)
def invalid_utf8(env):
    broker = with_topic(env)
    for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"abc\xe2\x82"):
        closes(broker, frame(TEXT, bad), 1007)
    closes(broker, frame(TEXT, b"\xe2\x82", fin=False) + frame(CONTINUATION, b"x"), 1007)
    still_serves(broker)


@case(short=True)
def a_frame_over_the_limit(env):
    broker = with_topic(env)
    limit = 4 * 1024 * 1024
    closed = closes(broker, frame(TEXT, b" " * 10, length=limit + 1), 1009)
    check_in(str(limit), closed.text.replace(",", ""), "the close frame's text")
    closes(broker, frame(TEXT, b"", length=1 << 62), 1009, 1002)
    piece = frame(TEXT, b" " * (limit // 4), fin=False)
    more = frame(CONTINUATION, b" " * (limit // 4), fin=False)
    closes(broker, piece + more * 4, 1009)
    still_serves(broker)


@case()
def a_fragmented_message_is_put_together(env):
    broker = with_topic(env)
    session = broker.session()
    text = json.dumps({"type": "publish", "id": "50", "topic": "orders",
                       "messages": [{"body": "päckchen"}]}, ensure_ascii=False).encode()
    session.ws.send(TEXT, text[:1], fin=False)
    for at in range(1, len(text) - 1):
        session.ws.send(CONTINUATION, text[at:at + 1], fin=False)
        if at == 20:
            session.ws.send(PING, b"in between")
    session.ws.send(CONTINUATION, text[-1:])
    check_equal(session.reply_to(50)["type"], "confirm", "reply")


@case(short=True)
def json_garbage(env):
    broker = with_topic(env)
    bad = ["", "{", "[]", "null", "5", '"x"', "{}", '{"type":5}', '{"type":"dance","id":"1"}',
           '{"type":"ping","type":"ping","id":"1"}', '{"type":"ping","id":"1"} x',
           '{"type":"publish","id":"1","topic":"orders"}',
           '{"type":"publish","id":"1","topic":"orders","messages":[]}',
           '{"type":"publish","id":"1","topic":"orders","messages":{}}',
           '{"type":"publish","id":"1","topic":"orders","messages":[5]}',
           '{"type":"publish","id":"1","topic":5,"messages":[{"body":"x"}]}',
           '{"type":"publish","id":"-1","topic":"orders","messages":[{"body":"x"}]}',
           '{"type":"publish","id":"18446744073709551616","topic":"orders","messages":[{"body":"x"}]}',
           '{"type":"publish","id":"1","topic":"orders","messages":[{"body_base64":"***"}]}',
           '{"type":"publish","id":"1","topic":"orders","messages":[{"body":"x","body_base64":"eA=="}]}',
           '{"type":"publish","id":"1","topic":"orders","messages":[{"body":"x","headers":[]}]}',
           '{"type":"settle","id":"1","topic":"orders","action":"eat","seqs":["1"]}',
           '{"type":"settle","id":"1","topic":"orders","action":"ack","ranges":[{"first":"9","last":"1"}]}',
           "[" * 5000, '{"a":' * 3000]
    for text in bad:
        session = broker.session()
        session.ws.send(TEXT, text)
        try:
            reply = session.receive()
            check_equal(reply["type"], "refused", f"reply to {text[:100]}")
            check(reply["text"], f"no text for {text[:100]}")
        except Closed as closed:
            check(closed.code in (1002, 1003, 1007, 1008), f"{text[:100]}: closed {closed.code}")
            check(closed.text, f"{text[:100]}: closed without a word")
        session.ws.sock.close()
    still_serves(broker)


@case(short=True)
def protobuf_garbage(env):
    broker = with_topic(env)
    for raw in (b"\xff", b"", b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x7f", b"\x08\x01" * 1000,
                b"\x07\x07\x07", b"\x0a\x00\x12\x00", b"\x80" * 20, os.urandom(5000),
                b"\x12\x04\x12\x02\xff\xff", b"\x0b\x0c"):
        ws = WebSocket(broker.host, broker.port, protocol="godwit.v1.proto")
        ws.send(BINARY, raw)
        try:
            reply = ws.receive(10)
            check_equal(reply[:1], b"\x1a", f"a Refused for {raw[:20]!r}")
        except Closed as closed:
            check(closed.code in (1002, 1003, 1007, 1008), f"{raw[:20]!r}: closed {closed.code}")
        ws.sock.close()
    still_serves(broker)


@case()
def the_wrong_kind_of_frame(env):
    broker = with_topic(env)
    closes(broker, frame(BINARY, b'{"type":"ping","id":"1"}'), 1003, 1002, 1008)
    closes(broker, frame(TEXT, b"{}"), 1003, 1002, 1008, protocol="godwit.v1.proto")
    still_serves(broker)


@case(short=True)
def messages_over_their_limits(env):
    broker = with_topic(env)
    session = broker.session()

    def refused(message, what, used, allowed):
        try:
            session.publish("orders", [message])
        except RefusedReply as r:
            check_equal((r.reply.get("used"), r.reply.get("allowed")), (str(used), str(allowed)),
                        f"{what}: {r.reply}")
            check(r.limit, f"{what}: no limit named in {r.reply}")
            return
        raise Failed(f"{what} was taken")
    refused({"body": "x" * 1048577}, "body", 1048577, 1048576)
    refused({"key": "k" * 1025, "body": ""}, "key", 1025, 1024)
    refused({"headers": {f"h{i}": "" for i in range(33)}, "body": ""}, "headers", 33, 32)
    refused({"headers": {"n" * 129: ""}, "body": ""}, "header name", 129, 128)
    refused({"headers": {"n": "v" * 4097}, "body": ""}, "header value", 4097, 4096)
    session.publish("orders", [{"key": "k" * 1024, "body": "x" * 1048576}])
    session.publish("orders", [{"headers": {"n" * 125 + str(i): "v" * 4096 for i in range(100, 132)},
                                "body": ""}])
    check_equal(int(broker.http().get("/v1/topics/orders").json["last_seq"]), 2, "stored")


@case(short=True, threads=True)
def one_bad_message_does_not_spoil_its_batch(env):
    broker = with_topic(env)
    session = broker.session()
    first = session.publish_start("orders", ["a", {"key": "k" * 2000, "body": "b"}, "c"])
    got = {}
    while len(got) < 3:
        reply = session.receive()
        for i in range(int(reply.get("count", 1))):
            got[int(reply["id"]) - first + i] = reply["type"]
    check_equal(got, {0: "confirm", 1: "refused", 2: "confirm"}, "replies by item")


@case()
def too_many_messages_in_a_batch(env):
    broker = with_topic(env)
    session = broker.session()
    try:
        session.publish("orders", [{"body": ""}] * 10001)
        raise Failed("10,001 messages were taken")
    except RefusedReply as refused:
        check_equal(refused.reply["allowed"], "10000", "allowed")
    check_equal(len(session.publish("orders", [{"body": ""}] * 10000)), 10000, "confirms")


@case(short=True)
def unknown_topic_and_bad_names(env):
    broker = with_topic(env)
    for name, status in (("nope", "not_found"), ("", None), ("a b", None), ("x" * 129, None),
                         ("../../etc", None), ("a\u0000b", None)):
        session = broker.session()
        session.publish_start(name, ["x"])
        reply = session.receive(10)
        check_equal(reply["type"], "refused", f"reply for {name!r}")
        check(status is None or reply["status"] == status, f"{name!r}: {reply}")
        check(reply["text"], f"{name!r}: no text")
        session.close()


@case()
def upgrades_that_are_none(env):
    broker = with_topic(env)
    for options, codes in (({"protocol": None}, (400, 426)), ({"protocol": "chat"}, (400, 426)),
                           ({"path": "/v1/other"}, (400, 404)),
                           ({"headers": [("Sec-WebSocket-Version", "13")]}, (400, 426)),
                           ({"headers": [("Authorization", "Bearer admin:wrong")]}, (401,))):
        try:
            WebSocket(broker.host, broker.port, **options).close()
            raise Failed(f"upgraded with {options}")
        except Refused as refused:
            check(refused.code in codes, f"{options}: {refused}")
            check(refused.body, f"{options}: no word")
    ws = WebSocket(broker.host, broker.port, protocol="chat, godwit.v1.json, x")
    check_equal(ws.headers.get("sec-websocket-protocol"), "godwit.v1.json", "chosen")
    check("sec-websocket-extensions" not in ws.headers, "an extension was accepted")
    ws.close()


@case(timeout=90)
def a_flood_of_pings_is_answered_within_bounds(env):
    broker = with_topic(env)
    session = broker.session()
    before = broker.memory_bytes()
    ping = frame(PING, b"x" * 125)
    session.ws.sock.settimeout(3)
    try:
        for _ in range(3000):
            session.ws.sock.sendall(ping * 100)
    except (TimeoutError, OSError, Closed):
        pass  # stopped reading us, or cut us off: both are bounds
    grown = broker.memory_bytes() - before
    check(env.sanitized or grown < 64 << 20, f"memory grew by {grown >> 20} MiB")
    session.ws.sock.close()
    still_serves(broker)


@case()
def pings_are_answered_with_what_they_carry(env):
    broker = with_topic(env)
    session = broker.session()
    session.ws.send(PING, b"abc")
    opcode, payload, _ = session.ws.receive_frame(10)
    check_equal((opcode, payload), (PONG, b"abc"), "answer")
    session.ws.send(PONG, b"nobody asked")
    session.ws.send(CLOSE, struct.pack(">H", 1000) + b"bye")
    check_equal(session.ws.wait_closed(10).code, 1000, "close is answered")


@case()
def random_bytes_after_the_upgrade(env):
    broker = with_topic(env)
    for seed in range(40):
        session = broker.session(hello=seed % 2 == 0)
        try:
            session.ws.send_raw(os.urandom(200) * (seed + 1))
            session.ws.sock.close()
        except Closed:
            pass
    still_serves(broker)


main()
