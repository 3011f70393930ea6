#!/usr/bin/env python3
"""TLS by certificate and key in the configuration."""
import os
import socket
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main
from http_api import raw


def certificate(env, name="broker"):
    cert, key = env.path(f"{name}.pem"), env.path(f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key,
                    "-out", cert], check=True, capture_output=True)
    return cert, key


def with_tls(env, **more):
    cert, key = certificate(env)
    broker = env.broker(config={"tls": {"certificate": cert, "key": key}, **more})
    return broker, cert, ssl.create_default_context(cafile=cert)


@case(short=True, threads=True)
def curl_and_session_over_tls(env):
    broker, cert, context = with_tls(env)
    who = broker.credentials()
    check(who["url"].startswith(("wss://", "https://")), f"url {who['url']}")
    done = subprocess.run(["curl", "-sS", "--cacert", cert, "-H",
                           f"Authorization: Bearer {who['app']}:{who['secret']}",
                           f"https://{broker.address}/v1/topics", "-d", '{"name":"orders"}'],
                          capture_output=True, timeout=20)
    check_equal(done.returncode, 0, done.stderr.decode() + "; exit code")
    session = broker.session(context=context)
    session.publish("orders", ["x" * 100000] * 30)
    broker.http(context=context).make_group("work", "orders")
    session.attach("work", credit_bytes=32 << 20)
    check_equal(len(session.take(30)), 30, "deliveries")
    check_equal([r[2] for r in session.settle("orders", "ack", ranges=[(1, 30)])], ["accepted"],
                "ack")


@case(short=True)
def the_command_line_over_tls(env):
    broker, cert, _ = with_tls(env)
    who = broker.credentials()
    settings = dict(os.environ, GODWIT_URL=f"wss://{broker.address}", GODWIT_APP=who["app"],
                    GODWIT_SECRET=who["secret"])
    trusting = dict(settings, SSL_CERT_FILE=cert)
    for words in (("topic", "create", "orders"),
                  ("group", "create", "work", "--topics", "orders")):
        broker.godwit(*words, env=trusting)
    broker.godwit("pub", "orders", stdin=b"a\nb\nc\n", env=trusting)
    got = broker.godwit("sub", "work", "--count", "3", env=trusting)
    check_equal(got.stdout, b"a\nb\nc\n", "bodies")
    refused = broker.godwit("topic", "list", env=settings, check_code=None, seconds=30)
    check(refused.returncode != 0, "an unknown certificate was trusted")
    check_in("certificate", refused.stderr.decode().lower(), "what it says")


@case()
def only_modern_tls(env):
    broker, cert, _ = with_tls(env)
    for version in ("-tls1", "-tls1_1"):
        done = subprocess.run(["openssl", "s_client", "-connect", broker.address, version,
                               "-cipher", "DEFAULT@SECLEVEL=0"], input=b"", capture_output=True,
                              timeout=20)
        check(b"BEGIN CERTIFICATE" not in done.stdout or done.returncode != 0, f"{version} works")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=cert)
        context.minimum_version = context.maximum_version = version
        check_equal(broker.http(context=context).get("/health").code, 200, version.name)


@case()
def plain_http_on_the_tls_port(env):
    broker, _, context = with_tls(env)
    got, closed = raw(broker, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", seconds=5)
    check(closed, "plain HTTP keeps the connection open")
    check(b"200 OK" not in got, "plain HTTP was served")
    for junk in (b"\x16\x03\x01\xff\xff" + b"x" * 500, os.urandom(300), b""):
        with socket.create_connection((broker.host, broker.port), 5) as sock:
            sock.sendall(junk)
    check_equal(broker.http(context=context).get("/health").code, 200, "health afterwards")


@case()
def a_handshake_that_stalls_is_ended(env):
    broker, _, context = with_tls(env, limits={"head_ms": 500})
    with socket.create_connection((broker.host, broker.port), 10) as sock:
        sock.sendall(b"\x16\x03\x01")
        began = time.monotonic()
        check_equal(sock.recv(100), b"", "answer")
        check(time.monotonic() - began < 8, "ended late")
    check_equal(broker.http(context=context).get("/health").code, 200, "health afterwards")


@case()
def a_key_that_does_not_fit(env):
    cert, _ = certificate(env, "one")
    _, key = certificate(env, "two")
    broker = env.broker(start=False, config={"tls": {"certificate": cert, "key": key}})
    broker.spawn()
    check(broker.wait_exit() > 0, "started")
    check(key in broker.log() or cert in broker.log(), broker.log())


@case()
def many_frames_at_odd_sizes(env):
    broker, _, context = with_tls(env)
    http = broker.http(context=context)
    http.make_topic("orders")
    http.make_group("work", "orders")
    session = broker.session(context=context)
    sizes = [0, 1, 100, 16383, 16384, 16385, 65535, 65536, 200001, 1048576]
    session.publish("orders", [bytes([i]) * size for i, size in enumerate(sizes)][:9])
    session.publish("orders", ["z" * 1048576])
    session.attach("work", credit_bytes=64 << 20)
    check_equal([len(d.body) for d in session.take(10)], sizes, "sizes")


main()
