#!/usr/bin/env python3
"""HTTP shapes that smuggle, flood or lie: each is refused and the connection closed."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import Failed, case, check, check_equal, check_in, main
from http_api import code_of, raw


def refused(broker, data, *codes, name=None):
    got, closed = raw(broker, data, seconds=5)
    check(code_of(got) in codes, f"{name or data[:150]!r}: {got[:300]!r}, want {codes}")
    check(closed, f"{name or data[:150]!r}: refused, but the connection stays open")
    check_equal(len(re.findall(rb"HTTP/1\.1 \d\d\d ", got)), 1, f"answers to {name or data[:150]!r}")
    body = got.split(b"\r\n\r\n", 1)[1]
    check(len(body) > 10, f"{name or data[:150]!r}: no word why")
    return got


def head(lines, body=b""):
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


SMUGGLED = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@case(short=True)
def smuggling_shapes(env):
    broker = env.broker()
    post, host = b"POST /v1/topics HTTP/1.1", b"Host: x"
    chunked = b"0\r\n\r\n" + SMUGGLED
    for name, lines, body in (
            ("length and chunked", [post, host, b"Content-Length: 4", b"Transfer-Encoding: chunked"],
             chunked),
            ("two lengths", [post, host, b"Content-Length: 4", b"Content-Length: 5"], b"abcde"),
            ("two equal lengths", [post, host, b"Content-Length: 4", b"Content-Length: 4"], b"abcd"),
            ("a list of lengths", [post, host, b"Content-Length: 4, 4"], b"abcd"),
            ("signed length", [post, host, b"Content-Length: +4"], b"abcd"),
            ("negative length", [post, host, b"Content-Length: -1"], b""),
            ("hexadecimal length", [post, host, b"Content-Length: 0x4"], b"abcd"),
            ("empty length", [post, host, b"Content-Length:"], b""),
            ("length over 2^64", [post, host, b"Content-Length: 18446744073709551620"], b"abcd"),
            ("space before the colon", [post, host, b"Content-Length : 4"], b"abcd"),
            ("tab before the colon", [post, host, b"Content-Length\t: 4"], b"abcd"),
            ("chunked in 1.0", [b"POST /v1/topics HTTP/1.0", host, b"Transfer-Encoding: chunked"],
             chunked),
            ("gzip, chunked", [post, host, b"Transfer-Encoding: gzip, chunked"], chunked),
            ("chunked twice", [post, host, b"Transfer-Encoding: chunked",
                               b"Transfer-Encoding: chunked"], chunked),
            ("xchunked", [post, host, b"Transfer-Encoding: xchunked"], chunked),
            ("vertical tab", [post, host, b"Transfer-Encoding:\x0bchunked"], chunked),
            ("folded header", [post, host, b"X: a", b" b"], b""),
            ("folded first header", [post, b" Host: x"], b""),
            ("no host", [b"GET /health HTTP/1.1"], b""),
            ("two hosts", [b"GET /health HTTP/1.1", host, b"Host: y"], b""),
            ("empty header name", [b"GET /health HTTP/1.1", host, b": x"], b""),
            ("no colon", [b"GET /health HTTP/1.1", host, b"nonsense"], b""),
            ("NUL in a value", [b"GET /health HTTP/1.1", host, b"X: a\0b"], b""),
            ("NUL in the path", [b"GET /hea\0lth HTTP/1.1", host], b""),
            ("bare CR in a value", [b"GET /health HTTP/1.1", host, b"X: a\rY: b"], b""),
            ("bare LF in a value", [b"GET /health HTTP/1.1", host, b"X: a\nY: b"], b""),
            ("two spaces", [b"GET  /health HTTP/1.1", host], b""),
            ("tab for a space", [b"GET\t/health\tHTTP/1.1", host], b""),
            ("no version", [b"GET /health", host], b""),
            ("lower case http", [b"GET /health http/1.1", host], b""),
            ("space after the version", [b"GET /health HTTP/1.1 ", host], b""),
            ("method with a bracket", [b"G(T /health HTTP/1.1", host], b""),
            ("high bytes in the path", [b"GET /h\xe4lth HTTP/1.1", host], b"")):
        refused(broker, head(lines, body), 400, 411, 413, 501, 505, name=name)
    refused(broker, b"GET /health HTTP/1.1\nHost: x\n\n", 400, name="bare line feeds")
    check_equal(broker.http().get("/health").code, 200, "health afterwards")


@case()
def versions_and_methods(env):
    broker = env.broker()
    host = b"Host: x"
    for version in (b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/9.9", b"HTTP/1.10"):
        refused(broker, head([b"GET /health " + version, host]), 400, 505, name=version)
    refused(broker, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 405, 501, 505, name="HTTP/2 preface")
    refused(broker, head([b"TRACE /health HTTP/1.1", host]), 400, 405, 501, name="TRACE")
    refused(broker, head([b"CONNECT x:443 HTTP/1.1", host]), 400, 405, 501, name="CONNECT")
    refused(broker, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400,
            name="a TLS hello")
    got, _ = raw(broker, head([b"GET /health HTTP/1.0", host]), seconds=5)
    check_equal(code_of(got), 200, "HTTP/1.0")
    got, _ = raw(broker, head([b"HEAD /health HTTP/1.1", host, b"Connection: close"]), seconds=5)
    check(code_of(got) in (200, 405), f"HEAD: {got[:200]!r}")
    if code_of(got) == 200:
        check(got.endswith(b"\r\n\r\n"), "a body after HEAD")


@case(short=True)
def heads_over_their_limits(env):
    broker = env.broker()
    first = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    for name, data in (
            ("one long header", first + b"X: " + b"a" * 9000 + b"\r\n\r\n"),
            ("a header of 1 MiB", first + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n"),
            ("2,000 headers", first + b"".join(b"X%d: y\r\n" % i for i in range(2000)) + b"\r\n"),
            ("65 headers", first + b"".join(b"X%d: y\r\n" % i for i in range(64)) + b"\r\n"),
            ("a long path", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("no end in sight", b"A" * 100000),
            ("protocols of 64 KiB", first + b"Sec-WebSocket-Protocol: " + b"a, " * 21000 + b"\r\n\r\n")):
        got = refused(broker, data, 400, 414, 431, name=name)
        check(b"8192" in got or b"64" in got or b"8 KiB" in got,
              f"{name}: does not say what is allowed: {got[-300:]!r}")
    room = 8192 - len(first) - len(b"X: \r\n\r\n")
    got, _ = raw(broker, first + b"X: " + b"a" * room + b"\r\n\r\n", seconds=3)
    check_equal(code_of(got), 200, "a head of exactly 8 KiB")
    got, _ = raw(broker, first + b"".join(b"X%d: y\r\n" % i for i in range(63)) + b"\r\n", seconds=3)
    check_equal(code_of(got), 200, "exactly 64 headers")


@case()
def bodies_over_their_limit(env):
    broker = env.broker()
    http = broker.http()
    auth = f"Authorization: {http.bearer}".encode()
    refused(broker, head([b"POST /v1/topics/x/batch HTTP/1.1", b"Host: x", auth,
                          b"Content-Length: 4194305"], b"{"), 413, name="declared too long")
    got = refused(broker, head([b"POST /v1/topics/x/batch HTTP/1.1", b"Host: x", auth,
                                b"Content-Length: 99999999999"], b"{"), 413, 400, name="absurd")
    check_in(b"4194304", got, "says what is allowed")


@case()
def chunked_bodies(env):
    """Not offered: refused, never guessed."""
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    auth = f"Authorization: {http.bearer}".encode()
    lines = [b"POST /v1/topics/orders/messages HTTP/1.1", b"Host: x", auth,
             b"Transfer-Encoding: chunked", b"Connection: close"]
    good, _ = raw(broker, head(lines, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), seconds=5)
    check_equal(code_of(good), 411, "a good chunked body")
    for body in (b"3\nabc\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
                 b"-3\r\nabc\r\n0\r\n\r\n", b"\r\n", b"fffffffffffffffff\r\nabc", b" 3\r\nabc\r\n0\r\n\r\n",
                 b"3 ;x\r\nab\r\n0\r\n\r\n"):
        refused(broker, head(lines, body), 400, 411, 413, 501, name=body)
    check_equal(http.get("/v1/topics/orders").json["last_seq"], "0", "stored")


@case()
def expect_continue(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    auth = f"Authorization: {http.bearer}".encode()
    got, _ = raw(broker, head([b"POST /v1/topics/orders/messages HTTP/1.1", b"Host: x", auth,
                               b"Content-Length: 3", b"Expect: 100-continue",
                               b"Connection: close"], b"abc"), seconds=5)
    check(b"HTTP/1.1 200" in got, f"{got[:300]!r}")


@case()
def paths_that_climb(env):
    broker = env.broker()
    http = broker.http()
    for path in ("/../etc/passwd", "/v1/topics/../apps", "/v1/topics/%2e%2e/apps", "//v1/topics",
                 "/v1/topics/a%00b", "/v1/topics/%zz", "/v1/topics/a%2fb", "/v1/", "/v1/topics//",
                 "/v1/groups/g/pull?max=-1", "/console/../../etc/passwd"):
        answer = http.get(path)
        check(answer.code in (400, 404, 405), f"{path}: {answer}")
    http.make_topic("t")
    http.make_group("g", "t")
    for query in ("max=0", "max=1001", "max=x", "wait=61", "wait=-1", "max=1&max=2",
                  "max=99999999999999999999"):
        answer = http.post(f"/v1/groups/g/pull?{query}")
        check(answer.code == 400, f"pull?{query}: {answer}")
        check(answer.refused["text"], f"pull?{query}: no text")


@case()
def half_closed_sockets(env):
    broker = env.broker()
    got, closed = raw(broker, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", seconds=5, half_close=True)
    check_equal((code_of(got), closed), (200, True), "a whole request, then the half close")
    got, closed = raw(broker, b"GET /health HTT", seconds=5, half_close=True)
    check(closed, "half a request, then the half close: stays open")
    session = broker.session()
    import socket
    session.ws.sock.shutdown(socket.SHUT_WR)
    check(session.ws.wait_closed(5), "a half-closed WebSocket stays open")
    check_equal(broker.http().get("/health").code, 200, "health afterwards")


@case()
def a_thousand_wrong_requests(env):
    """Mutations of a good request: never a crash, never a hang, always an answer or a close."""
    import random
    broker = env.broker()
    dice = random.Random(7)
    good = (b"POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n"
            b"Authorization: Bearer a:b\r\n\r\n{\"name\":\"t\"}")
    for number in range(env.size(1000)):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(data))
            what = dice.randrange(3)
            if what == 0:
                data[at] = dice.randrange(256)
            elif what == 1:
                del data[at]
            else:
                data.insert(at, dice.choice(b"\r\n :\0\tA"))
        got, _ = raw(broker, bytes(data), seconds=5, half_close=True)
        if got and code_of(got) not in (200, 400, 401, 403, 404, 405, 408, 411, 413, 414, 426, 431,
                                        501, 505):
            raise Failed(f"request {number} {bytes(data)!r}: {got[:200]!r}")
    check_equal(broker.http().get("/health").code, 200, "health afterwards")


main()
