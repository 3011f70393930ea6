#!/usr/bin/env python3
"""Looking at topics without a group: peek, search and tail."""
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main, wait_until
from http_api import code_of

DAY_US = 24 * 3600 * 1000 * 1000


def found(answer):
    return [int(m["seq"]) for m in answer["messages"]]


def look(http, topic, **query):
    """The answer of a search."""
    words = "?" + urllib.parse.urlencode(query) if query else ""
    return http.must(http.get(f"/v1/topics/{topic}/messages" + words), 200).json


def topic_of(http, count, name="orders"):
    http.make_topic(name)
    for i in range(1, count + 1):
        http.must(http.publish(name, f"body {i}", key=f"k{i % 3}",
                               headers={"Godwit-Header-Region": "cn" if i % 2 else "de",
                                        "Godwit-Tag": f"t{i % 5}"}))


@case(short=True)
def one_message(env):
    broker = env.broker()
    http = broker.http()
    topic_of(http, 5)
    shown = http.must(http.get("/v1/topics/orders/messages/2"), 200).json
    check(int(shown.pop("time_us")) > 0, "time")
    check_equal(shown, {"topic": "orders", "seq": "2", "key": "k2", "tag": "t2",
                        "headers": {"region": "de"}, "body": "body 2"}, "message")
    for seq, code, text in ((6, 404, "not there yet; the last one is 5"),
                            (2 ** 64 - 1, 404, "not there yet"),
                            (0, 400, "not a number from 1"), ("x", 400, "not a number from 1"),
                            (2 ** 64, 400, "not a number from 1")):
        answer = http.get(f"/v1/topics/orders/messages/{seq}")
        check_equal(answer.code, code, f"code of {seq}")
        check_in(text, answer.refused["text"], f"text of {seq}")
    check_in("there is no topic nope",
             http.must(http.get("/v1/topics/nope/messages/1"), 404).refused["text"], "no topic")
    check_equal(http.get("/v1/topics/orders/messages/1", auth=False).code, 401, "nobody")


@case(short=True, threads=True)
def those_that_match(env):
    broker = env.broker()
    http = broker.http()
    topic_of(http, 30)
    every = list(range(1, 31))
    check_equal(found(look(http, "orders")), every, "all")
    check_equal(found(look(http, "orders", **{"from": 28})), [28, 29, 30], "from")
    check_equal(found(look(http, "orders", **{"from": 4, "to": 6})), [4, 5, 6], "from, to")
    check_equal(found(look(http, "orders", key="k0")), every[2::3], "key")
    check_equal(found(look(http, "orders", tag="t1")), every[0::5], "tag")
    check_equal(found(look(http, "orders", filter='Region == "cn"')), [], "case of a header")
    check_equal(found(look(http, "orders", filter='region == "cn"')), every[0::2], "header")
    check_equal(found(look(http, "orders", filter='region == "cn" && key == "k0"')),
                [s for s in every if s % 2 and s % 3 == 0], "filter")
    check_equal(found(look(http, "orders", newest=3, key="k1")), [22, 25, 28], "newest")
    answer = look(http, "orders", max=10)
    check_equal((found(answer), answer["next_seq"], answer["done"]), (every[:10], "11", False),
                "a page")
    rest = look(http, "orders", **{"from": answer["next_seq"]})
    check_equal((found(rest), rest["done"]), (every[10:], True), "the rest")
    bad = http.must(http.get("/v1/topics/orders/messages?filter=region+%3D+1"), 400).refused
    check_equal(bad["limit"], "filter", "a bad filter")
    check_in("column 8", bad["text"], "where it is bad")


@case(short=True)
def by_time(env):
    http = env.broker().http()
    topic_of(http, 10)
    times = {int(m["seq"]): int(m["time_us"]) for m in look(http, "orders")["messages"]}
    check_equal(sorted(times.values()), list(times.values()), "times")
    check_equal(found(look(http, "orders", since=times[7])), [7, 8, 9, 10], "since")
    check_equal(found(look(http, "orders", until=times[3])), [1, 2, 3], "until")
    check_equal(found(look(http, "orders", since=times[3] + 1, until=times[5])), [4, 5], "both")
    check_equal(found(look(http, "orders", since=times[10] + 1)), [], "later")
    check_equal(found(look(http, "orders", until=times[1] - 1)), [], "earlier")
    check_equal(found(look(http, "orders", since=times[10] - DAY_US)), list(range(1, 11)), "day")


@case(short=True)
def only_with_a_grant(env):
    broker = env.broker()
    http = broker.http()
    topic_of(http, 1, "orders.eu")
    topic_of(http, 1, "bills")
    reader = broker.http(app="reader",
                         secret=http.make_app("reader", subscribe=["orders.*"]))
    writer = broker.http(app="writer", secret=http.make_app("writer", publish=["*"]))
    check_equal(found(look(reader, "orders.eu")), [1], "covered")
    for who, path in ((reader, "bills/messages"), (reader, "bills/messages/1"),
                      (writer, "orders.eu/messages"), (writer, "orders.eu/messages/1")):
        refused = who.must(who.get(f"/v1/topics/{path}"), 403).refused
        check_in("no subscribe grant that covers topic", refused["text"], path)
    http.must(http.delete("/v1/apps/reader"))
    check_equal(reader.get("/v1/topics/orders.eu/messages").code, 401, "deleted app")


@case(short=True)
def nobody_else_is_moved(env):
    """A look takes nothing from a group, and one on another worker sees what was confirmed."""
    broker = env.broker(config={"workers": 2})
    first = broker.http()
    first.make_topic("orders")
    first.make_group("work", "orders")
    others = [broker.http() for _ in range(8)]
    for seq in range(1, 9):
        first.must(first.publish("orders", f"body {seq}"))
        for http in others:
            check_equal(http.must(http.get(f"/v1/topics/orders/messages/{seq}"), 200).json["body"],
                        f"body {seq}", "what was confirmed is seen everywhere")
    _, messages, _ = first.pull("work")
    check_equal([m["seq"] for m in messages], [str(s) for s in range(1, 9)], "the group's")
    check_equal([m["attempt"] for m in messages], [1] * 8, "attempts")


@case(short=True)
def what_is_deleted_is_said(env):
    broker = env.broker()
    http = broker.http()
    http.must(http.post("/v1/topics", {"name": "short", "keep": "limit", "keep_count_max": "5"}))
    for i in range(20):
        http.must(http.publish("short", f"body {i}"))
    first = lambda: int(http.get("/v1/topics/short").json["first_seq"])
    wait_until(lambda: first() == 16, what="the limit")
    answer = look(http, "short", **{"from": 1})
    check_equal((found(answer), answer["deleted"]), ([16, 17, 18, 19, 20],
                                                     {"first": "1", "last": "15"}), "from 1")
    check("deleted" not in look(http, "short"), "nobody asked for those")
    gone = http.must(http.get("/v1/topics/short/messages/3"), 404).refused["text"]
    check_in("is deleted; the first one that is kept is 16", gone, "peek")


# --- tails ---

class Waiting(threading.Thread):
    """A request that waits, in a thread of its own."""

    def __init__(self, http, path):
        super().__init__(daemon=True)
        self.http, self.path, self.answer = http, path, None
        self.began = time.monotonic()
        self.start()

    def run(self):
        self.answer = self.http.get(self.path)
        self.took = time.monotonic() - self.began

    def end(self, seconds=30):
        self.join(seconds)
        check(self.answer is not None, f"no answer to {self.path} within {seconds} s")
        return self.answer


def figure(http, name):
    return int(re.search(rf"^godwit_{name} (\d+)$", http.get("/metrics").body.decode(), re.M)[1])


def requests_of(http):
    """HTTP requests that the broker has taken, but for this one."""
    return figure(http, "net_requests_total")


@case(short=True, threads=True)
def a_tail_waits(env):
    broker = env.broker(config={"workers": 2})
    http = broker.http()
    topic_of(http, 3)
    asked_before, polls = requests_of(http), 0
    tails = [Waiting(broker.http(), "/v1/topics/orders/messages?from=4&wait=30") for _ in range(8)]
    other = Waiting(broker.http(), "/v1/topics/orders/messages?from=4&wait=30&key=mine")

    def all_arrived():
        nonlocal polls
        polls += 1  # each poll counts those before it
        return requests_of(http) - asked_before - polls >= len(tails) + 1
    wait_until(all_arrived, what="the tails at the broker")
    wait_until(lambda: figure(http, "tails") == 9, what="they are counted")
    check_equal(figure(http, "searches"), 0, "searches under way")
    before = broker.cpu_seconds()
    time.sleep(1)
    used = broker.cpu_seconds() - before
    check(used <= 0.3, f"{used} s of CPU for tails that wait")  # the scrub has its share
    check(all(t.answer is None for t in tails), "they wait")
    http.must(http.publish("orders", "news"))
    for tail in tails:
        answer = tail.end().json
        check_equal(([m["body"] for m in answer["messages"]], answer["next_seq"]), (["news"], "5"),
                    "what came")
        check(tail.took < 20, f"it was told after {tail.took} s")
    time.sleep(0.2)
    check(other.answer is None, "what does not match does not wake")
    http.must(http.publish("orders", "for me", key="mine"))
    check_equal(found(other.end().json), [5], "what matches does")
    began = time.monotonic()
    empty = look(http, "orders", wait=1, **{"from": 6})
    check(time.monotonic() - began >= 0.9, "it waits as long as asked")
    check_equal((found(empty), empty["next_seq"]), ([], "6"), "nothing came")
    before = figure(http, "searched_messages_total")
    look(http, "orders", key="none")
    wait_until(lambda: figure(http, "searched_messages_total") == before + 5, what="all looked at")
    wait_until(lambda: figure(http, "tails") == 0, what="no tail any more")


@case(short=True)
def a_tail_in_a_pipeline(env):
    """What was asked behind it on the connection is answered behind it."""
    broker = env.broker()
    http = broker.http()
    topic_of(http, 1)
    lines = ("orders/messages?from=2&wait=20", "orders/messages/1",
             "orders/messages?from=2&wait=0.01", "orders/messages?newest=1")
    request = "".join(f"GET /v1/topics/{line} HTTP/1.1\r\nHost: x\r\n"
                      f"Authorization: {http.bearer}\r\n\r\n" for line in lines)
    with socket.create_connection((broker.host, broker.port), timeout=20) as sock:
        sock.sendall(request.encode())
        time.sleep(0.3)
        http.must(http.publish("orders", "news"))
        got = b""
        while got.count(b"HTTP/1.1 200") < 4 or not got.endswith(b"}"):
            part = sock.recv(65536)
            check(part, f"closed after {got!r}")
            got += part
    bodies = [json.loads(one.split(b"\r\n\r\n", 1)[1]) for one in got.split(b"HTTP/1.1 ")[1:]]
    check_equal([found(bodies[0]), bodies[1]["body"], found(bodies[2]), found(bodies[3])],
                [[2], "body 1", [2], [2]], "answers in order")


@case(short=True)
def a_tail_ends_with_what_it_waits_for(env):
    broker = env.broker()
    http = broker.http()
    topic_of(http, 1)
    secret = http.make_app("reader", subscribe=["orders"])
    deleted = Waiting(broker.http(app="reader", secret=secret),
                      "/v1/topics/orders/messages?from=2&wait=60")
    time.sleep(0.2)
    http.must(http.delete("/v1/apps/reader"))
    check_equal(deleted.end().code, 401, "its app was deleted")
    waiting = Waiting(broker.http(), "/v1/topics/orders/messages?from=2&wait=60")
    time.sleep(0.2)
    http.must(http.delete("/v1/topics/orders"))
    check_in("deleted", waiting.end().refused["text"], "its topic was deleted")
    topic_of(http, 1, "bills")
    waiting = Waiting(broker.http(), "/v1/topics/bills/messages?from=2&wait=60")
    time.sleep(0.2)
    began = time.monotonic()
    check_equal(broker.stop(), 0, "exit code")
    check(time.monotonic() - began < 8, "a stop does not wait for a tail")
    check_equal(waiting.end().code, 200, "the broker was stopped")


@case()
def tails_are_bounded_and_freed(env):
    """TAIL_WAITING_MAX on a worker; who hangs up makes room."""
    broker = env.broker(config={"workers": 1})
    http = broker.http()
    topic_of(http, 1)
    request = ("GET /v1/topics/orders/messages?from=2&wait=60 HTTP/1.1\r\nHost: x\r\n"
               f"Authorization: {http.bearer}\r\n\r\n").encode()
    waiting = []
    for _ in range(256):
        sock = socket.create_connection((broker.host, broker.port))
        sock.sendall(request)
        waiting.append(sock)
    path = "/v1/topics/orders/messages?from=2&wait=0.001"

    def at_the_bound():
        # This very question may have taken the last place from one of them.
        for sock in select.select(waiting, [], [], 0)[0]:
            check_in(b" 429 ", sock.recv(4096), "before anything came")
            sock.sendall(request)
        answer = http.get(path)
        return answer if answer.code == 429 else None
    refused = wait_until(at_the_bound, what="the bound").refused
    check_equal((refused["limit"], refused["used"], refused["allowed"]), ("tails", "256", "256"),
                "refused")
    check_equal(http.get("/v1/topics/orders/messages?from=2").code, 200, "without wait")
    waiting.pop().close()
    wait_until(lambda: http.get(path).code == 200, what="room for one")
    http.must(http.publish("orders", "news"))
    for sock in waiting:
        sock.settimeout(20)
        check_in(b"200 OK", sock.recv(4096), "each is told")
        sock.close()


@case()
def searches_are_bounded(env):
    """SEARCH_COUNT_MAX on a worker, more are told to come again."""
    broker = env.broker(config={"workers": 1})
    http = broker.http()
    http.make_topic("orders")
    session = broker.session()
    for _ in range(10):
        session.publish("orders", ["x" * 100] * 2000, timeout=60)
    request = ("GET /v1/topics/orders/messages?key=nobody HTTP/1.1\r\nHost: x\r\n"
               f"Authorization: {http.bearer}\r\nConnection: close\r\n\r\n").encode()
    socks = [socket.create_connection((broker.host, broker.port)) for _ in range(100)]
    for sock in socks:
        sock.sendall(request)
    answers = []
    for sock in socks:
        sock.settimeout(60)
        answers.append(sock.makefile("rb").read())
        sock.close()
    codes = [code_of(answer) for answer in answers]
    check(set(codes) == {200, 429}, f"codes {sorted(codes)}")
    check(codes.count(200) >= 64, f"{codes.count(200)} were answered")
    refused = answers[codes.index(429)]
    check_in(b'"limit":"searches","used":"64","allowed":"64"', refused, "refused")
    check_in(b"Retry-After: 1", refused, "refused")


@case()
def searches_hold_up_nobody(env):
    """While others search through much without finding anything, a publish is confirmed and a
    message delivered all the same."""
    broker = env.broker(config={"workers": 1})
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", **{"from": "latest"})
    session = broker.session()
    for _ in range(env.size(20)):
        session.publish("orders", ["x" * 100] * 2000, timeout=60)
    count = env.size(20) * 2000
    stop = threading.Event()
    pages = []

    def search():
        mine = broker.http()
        while not stop.is_set():
            answer = look(mine, "orders", key="nobody")
            pages.append(answer)
            while not answer["done"] and not stop.is_set():
                answer = look(mine, "orders", key="nobody", **{"from": answer["next_seq"]})
                pages.append(answer)
    searching = [threading.Thread(target=search, daemon=True) for _ in range(4)]
    for thread in searching:
        thread.start()
    wait_until(lambda: len(pages) > 8, what="searches")
    http.pull("work", 1000)  # what came before
    for i in range(20):
        http.must(http.publish("orders", f"news {i}"))
        wait_until(lambda: any(m["body"] == f"news {i}" for m in http.pull("work", wait=5)[1]),
                   what="delivery")
    stop.set()
    for thread in searching:
        thread.join(20)
    check(all(not p["messages"] for p in pages), "nothing was to be found")
    check(all(p["scanned"] <= 20000 for p in pages), "each looks at so many at most")
    check(any(p["scanned"] > 0 for p in pages) and count > 0, "they did look")


# --- the command line ---

def lines(done):
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


@case(short=True)
def commands_show_messages(env):
    broker = env.broker()
    http = broker.http()
    topic_of(http, 12)
    http.must(http.publish("orders", b"\x00\xff\x01"))
    text = broker.godwit("peek", "orders", "2").stdout.decode()
    for part in ("topic      orders", "key        k2", "tag        t2", "region = de", "\nbody 2\n"):
        check_in(part, text, "peek")
    check_equal(lines(broker.godwit("peek", "orders", "latest", "--json"))[0]["seq"], 13, "latest")
    check_equal(lines(broker.godwit("peek", "orders", "1h", "--json"))[0]["seq"], 1, "of a time")
    check_in("no message since now", broker.godwit("peek", "orders", "now", check_code=5).stderr.decode(),
             "of the time to come")
    check_equal(broker.godwit("peek", "orders", "13", "--body").stdout, b"\x00\xff\x01", "body")
    check_equal(broker.godwit("peek", "orders", "earliest", "--body").stdout, b"body 1", "earliest")
    check_in("not there yet", broker.godwit("peek", "orders", "14", check_code=5).stderr.decode(),
             "beyond the end")
    done = broker.godwit("search", "orders", "--json", "--key", "k0", "--header", "region=cn")
    check_equal([m["seq"] for m in lines(done)], [3, 9], "search")
    check_in("2 found, 13 looked at", done.stderr.decode(), "summary")
    done = broker.godwit("search", "orders", "--filter", 'tag in ("t1", "t2")', "-n", "3",
                         "--header", "region=cn", "--json", "--quiet")
    check_equal(([m["seq"] for m in lines(done)], done.stderr), ([1, 7, 11], b""), "filter and -n")
    done = broker.godwit("search", "orders", "--from", "11", "--to", "now")
    check_in("body 11\n", done.stdout.decode(), "for people")
    check_in("(3 B, base64) AP8B", done.stdout.decode(), "for people")
    check_equal(broker.godwit("search", "orders", "--to", "1h").stdout, b"", "an hour ago")
    done = broker.godwit("search", "orders", "--from", "1h", "--to", "3", "--json")
    check_equal([m["seq"] for m in lines(done)], [1, 2, 3], "from a time to a seq")
    for words, says in ((("--from", "5", "--to", "4"), "nothing is between"),
                        (("--from", "now", "--to", "1h"), "nothing is between"),
                        (("--from", "latest"), "godwit tail"), (("--to", "0"), "a seq (from 1)")):
        check_in(says, broker.godwit("search", "orders", *words, check_code=2).stderr.decode(), words)
    check_in("column 8", broker.godwit("search", "orders", "--filter", "region = 1",
                                       check_code=1).stderr.decode(), "a bad filter")
    done = broker.godwit("tail", "orders", "-n", "2", "--no-follow", "--json")
    check_equal([m["seq"] for m in lines(done)], [12, 13], "tail")
    check_equal(broker.godwit("tail", "orders", "-n", "0", "--no-follow").stdout, b"", "tail of 0")
    broker.godwit("tail", "nope", check_code=5)


@case(short=True, threads=True)
def a_search_goes_on_to_the_end(env):
    """More than one request can look at, and more than one answer can hold."""
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    session = broker.session()
    count = 12 * env.size(2000)
    for _ in range(12):
        session.publish("orders", ["x"] * env.size(2000), timeout=60)
    http.must(http.publish("orders", "needle", key="n"))
    done = broker.godwit("search", "orders", "--key", "n", "--json")
    check_equal([m["seq"] for m in lines(done)], [count + 1], "the needle")
    done = broker.godwit("search", "orders", "--json")
    check_equal([m["seq"] for m in lines(done)], list(range(1, count + 2)), "all of them")


class Tail:
    """A running `godwit tail`; what it printed so far."""

    def __init__(self, broker, *more):
        self.lines = []
        self.process = broker.godwit_start("tail", "orders", "--json", *more)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def seqs(self):
        return [line["seq"] for line in self.lines]


@case(short=True, threads=True)
def a_tail_follows_over_a_restart(env):
    broker = env.broker()
    http = broker.http()
    topic_of(http, 12)
    tail = Tail(broker)
    wait_until(lambda: tail.seqs() == list(range(3, 13)), what="the last ten")
    http.must(http.publish("orders", "thirteen"))
    wait_until(lambda: 13 in tail.seqs(), what="one more")
    http.close()
    broker.restart()
    http = broker.http()
    http.must(http.publish("orders", "fourteen"))
    wait_until(lambda: 14 in tail.seqs(), what="one after the restart")
    broker.kill()
    broker.start()
    http = broker.http()
    for _ in range(3):
        http.must(http.publish("orders", "more"))
    wait_until(lambda: 17 in tail.seqs(), what="those after the kill")
    check_equal(tail.seqs(), list(range(3, 18)), "each once, in order")
    tail.process.send_signal(signal.SIGINT)
    check_equal(tail.process.wait(10), 0, "exit code")
    check_in(b"trying again", tail.process.stderr.read(), "stderr")


@case(short=True)
def a_tail_gives_up(env):
    broker = env.broker()
    topic_of(broker.http(), 1)
    tail = Tail(broker, "--give-up", "1")
    wait_until(lambda: tail.seqs() == [1], what="the first")
    broker.kill()
    check_equal(tail.process.wait(20), 3, "exit code")
    check_in(b"stays away", tail.process.stderr.read(), "stderr")
    broker.start()


main()
