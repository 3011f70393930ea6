#!/usr/bin/env python3
"""Clients nobody here wrote: Node's `ws`, Python's `websockets`, a browser."""
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import die_with_parent
from harness import Skip, case, check, check_equal, check_in, main

HERE = os.path.dirname(os.path.realpath(__file__))
CHROMIUM_OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                    "--no-first-run", "--disable-background-networking",
                    "--disable-component-update", "--disable-sync"]


def prepared(env, **more):
    broker = env.broker(**more)
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms=2000)
    return broker


def client_env(broker, **more):
    who = broker.credentials()
    return dict(os.environ, URL=f"ws://{broker.address}/v1/stream", APP=who["app"],
                SECRET=who["secret"], **more)


def run_client(broker, words, seconds=60, **more):
    done = subprocess.run(words, env=client_env(broker, **more), capture_output=True,
                          timeout=seconds, preexec_fn=die_with_parent)
    check_equal(done.returncode, 0,
                f"{words[0]}: {done.stdout.decode()[-1500:]}{done.stderr.decode()[-1500:]}; exit code")
    return done.stdout.decode()


def node(broker, script, **more):
    if shutil.which("node") is None:
        raise Skip("node is not installed")
    if not os.path.isdir(os.path.join(HERE, "node_modules/ws")):
        raise Skip("npm could not install ws (no network?)")
    return run_client(broker, ["node", os.path.join(HERE, script)], **more)


@case(short=True, threads=True)
def node_ws_publishes_receives_and_settles(env):
    broker = prepared(env)
    check_in("all good", node(broker, "node_client.js", MODE="whole"), "output")
    lane = broker.http().get("/v1/groups/work").json["lanes"][0]
    check_equal(int(lane["acked"]), 200, "acked")


@case(timeout=90)
def node_ws_reconnects_across_kill_9(env):
    broker = prepared(env)
    if not os.path.isdir(os.path.join(HERE, "node_modules/ws")):
        raise Skip("npm could not install ws (no network?)")
    client = subprocess.Popen(["node", os.path.join(HERE, "node_client.js")],
                              env=client_env(broker, MODE="reconnect"), stdout=subprocess.PIPE,
                              preexec_fn=die_with_parent)
    env.at_end(lambda: (client.poll() is None and client.kill(), client.wait(),
                        client.stdout.close()))
    for _ in range(3):
        check_in("kill me", client.stdout.readline().decode(), "what node says")
        broker.kill()
        broker.start()
    check_in("all good", client.stdout.read().decode(), "what node says")
    check_equal(client.wait(30), 0, "exit code")


@case(short=True)
def python_websockets_publishes_receives_and_settles(env):
    broker = prepared(env)
    try:
        import websockets  # noqa: F401, Debian's python3-websockets
    except ImportError:
        raise Skip("python3-websockets is not installed")
    out = run_client(broker, [sys.executable, os.path.join(HERE, "websockets_client.py")])
    check_in("all good", out, "output")
    lane = broker.http().get("/v1/groups/work").json["lanes"][0]
    check_equal(int(lane["acked"]), 200, "acked")


class Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and takes the page's word for how it went."""

    verdict = None
    told = threading.Event()

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        Pages.verdict = self.rfile.read(size).decode()
        self.send_response(204)
        self.end_headers()
        Pages.told.set()

    def log_message(self, *_):
        pass


@case(timeout=120)
def a_browser_page_of_twenty_lines(env):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise Skip("chromium is not installed")
    broker = prepared(env)
    handler = functools.partial(Pages, directory=HERE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env.at_end(lambda: (server.shutdown(), server.server_close()))
    who = broker.credentials()
    page = (f"http://127.0.0.1:{server.server_port}/browser_page.html#" + json.dumps(
        [f"ws://{broker.address}/v1/stream", who["app"], who["secret"]]).replace('"', "%22")
        .replace(" ", ""))
    log = open(env.path("chromium.log"), "wb")
    browser = subprocess.Popen([chromium, *CHROMIUM_OPTIONS, "--remote-debugging-port=0",
                                f"--user-data-dir={env.path('chromium')}", page],
                               stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               start_new_session=True)
    env.at_end(log.close)
    env.at_end(lambda: end_group(browser))
    check(Pages.told.wait(60), "the page did not report")
    check_equal(Pages.verdict, "all good: 100", "what the page says")


def end_group(process):
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()


main()
