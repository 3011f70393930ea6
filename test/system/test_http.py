#!/usr/bin/env python3
"""Every HTTP endpoint, by curl."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, check_in, main


class Curl:
    """curl as a person would call it."""

    def __init__(self, broker, *options):
        who = broker.credentials()
        self.url = f"http://{broker.address}"
        self.options = ["curl", "-sS", "--max-time", "30", "-H",
                        f"Authorization: Bearer {who['app']}:{who['secret']}", *options]

    def raw(self, path, *words, stdin=None):
        """(code, body) of a call."""
        done = subprocess.run([*self.options, "-w", "\n%{http_code}", *words, self.url + path],
                              input=stdin, capture_output=True)
        check_equal(done.returncode, 0, f"curl {path}: {done.stderr.decode()}")
        body, _, code = done.stdout.rpartition(b"\n")
        return int(code), body

    def json(self, path, *words, want=(200, 201), stdin=None):
        code, body = self.raw(path, *words, stdin=stdin)
        check(code in want, f"{path}: {code} {body[:500]!r}")
        return json.loads(body) if body.strip() else None

    def post(self, path, value, **options):
        return self.json(path, "-H", "Content-Type: application/json", "-d", json.dumps(value),
                         **options)

    def refused(self, path, *words, want, stdin=None):
        return self.json(path, *words, want=(want,), stdin=stdin)["refused"]


@case(short=True, threads=True)
def publish_pull_settle(env):
    curl = Curl(env.broker())
    curl.post("/v1/topics", {"name": "orders"})
    curl.post("/v1/groups", {"name": "work", "topics": ["orders"], "lease_ms": 5000})
    done = curl.json("/v1/topics/orders/messages", "-H", "Godwit-Key: o-1",
                     "-H", "Godwit-Header-Source: curl", "--data-binary", "hello")
    check_equal(int(done["seq"]), 1, "seq")
    done = curl.post("/v1/topics/orders/batch",
                     {"messages": [{"key": "o-2", "body": "two"}, {"body_base64": "AAH/"}]})
    pulled = curl.json("/v1/groups/work/pull?max=10&wait=5", "-X", "POST")
    got = [(m["seq"], m.get("key", ""), m.get("body"), m.get("body_base64"))
           for m in pulled["messages"]]
    check_equal(got, [("1", "o-1", "hello", None), ("2", "o-2", "two", None),
                      ("3", "", None, "AAH/")], "pulled")
    headers = pulled["messages"][0]["headers"]
    check_equal({k.lower(): v for k, v in headers.items()}, {"source": "curl"}, "headers")
    settled = curl.post("/v1/groups/work/settle", {"lease": pulled["lease"], "topic": "orders",
                                                   "action": "ack", "seqs": ["1", "2"]})
    check_equal([(r["first"], r["last"], r["outcome"]) for r in settled["ranges"]],
                [("1", "2", "accepted")], "settled")
    settled = curl.post("/v1/groups/work/settle", {
        "lease": pulled["lease"], "topic": "orders", "action": "release",
        "ranges": [{"first": "3", "last": "3"}]})
    check_equal(settled["ranges"][0]["outcome"], "accepted", "release")
    again = curl.json("/v1/groups/work/pull?max=10&wait=5", "-X", "POST")
    check_equal([m["seq"] for m in again["messages"]], ["3"], "again")


@case()
def a_pull_waits_for_a_message(env):
    broker = env.broker()
    curl = Curl(broker)
    curl.post("/v1/topics", {"name": "orders"})
    curl.post("/v1/groups", {"name": "work", "topics": ["orders"]})
    began = time.monotonic()
    empty = curl.json("/v1/groups/work/pull?max=5&wait=1", "-X", "POST")
    check(time.monotonic() - began >= 0.9, "an empty pull did not wait")
    check_equal(empty["messages"], [], "messages of an empty pull")
    waiting = subprocess.Popen([*curl.options, "-X", "POST",
                                curl.url + "/v1/groups/work/pull?max=5&wait=20"],
                               stdout=subprocess.PIPE)
    time.sleep(0.3)
    curl.json("/v1/topics/orders/messages", "--data-binary", "now")
    out, _ = waiting.communicate(timeout=15)
    check_equal(json.loads(out)["messages"][0]["body"], "now", "pulled")


@case(short=True, threads=True)
def catalog_create_list_show_delete(env):
    curl = Curl(env.broker())
    curl.post("/v1/topics", {"name": "b.topic"})
    curl.post("/v1/topics", {"name": "a.topic"})
    listed = curl.json("/v1/topics")
    check_equal([t["name"] for t in listed["topics"]], ["a.topic", "b.topic"], "topics")
    check_equal(int(curl.json("/v1/topics/a.topic")["last_seq"]), 0, "last_seq")
    curl.post("/v1/groups", {"name": "g", "topics": ["a.*", "b.topic"], "from": "latest",
                             "lease_ms": 1234})
    group = curl.json("/v1/groups/g")
    check_equal((group["topics"], group["from"], int(group["lease_ms"])),
                (["a.*", "b.topic"], "latest", 1234), "group")
    check_equal([g["name"] for g in curl.json("/v1/groups")["groups"]], ["g"], "groups")
    app = curl.post("/v1/apps", {"name": "shop", "publish": ["a.*"], "subscribe": ["b.*"]})
    check(len(app["secret"]) >= 24, "secret")
    shown = curl.json("/v1/apps/shop")
    check("secret" not in shown, "a secret is shown")
    check_equal((shown["admin"], shown["publish"], shown["subscribe"]),
                (False, ["a.*"], ["b.*"]), "app")
    check_equal(sorted(a["name"] for a in curl.json("/v1/apps")["apps"]), ["admin", "shop"], "apps")
    for path in ("/v1/groups/g", "/v1/topics/a.topic", "/v1/apps/shop"):
        curl.json(path, "-X", "DELETE", want=(200, 204))
        check_equal(curl.refused(path, want=404)["status"], "not_found", path)
        check_equal(curl.refused(path, "-X", "DELETE", want=404)["status"], "not_found", path)


@case()
def the_catalog_survives_a_restart(env):
    broker = env.broker()
    curl = Curl(broker)
    curl.post("/v1/topics", {"name": "orders"})
    curl.post("/v1/groups", {"name": "g", "topics": ["orders"], "lease_ms": 777})
    secret = curl.post("/v1/apps", {"name": "shop", "publish": ["*"]})["secret"]
    curl.post("/v1/topics", {"name": "gone"})
    curl.json("/v1/topics/gone", "-X", "DELETE", want=(200, 204))
    for restart in (broker.restart, lambda: (broker.kill(), broker.start())):
        restart()
        check_equal([t["name"] for t in curl.json("/v1/topics")["topics"]], ["orders"], "topics")
        check_equal(int(curl.json("/v1/groups/g")["lease_ms"]), 777, "lease_ms")
        check_equal(broker.session(app="shop", secret=secret).ping()["type"], "pong", "shop")


@case()
def what_exists_is_not_made_twice(env):
    curl = Curl(env.broker())
    curl.post("/v1/topics", {"name": "orders"})
    again = curl.refused("/v1/topics", "-d", json.dumps({"name": "orders"}), want=409)
    check_equal(again["status"], "exists", "the same topic again")
    curl.post("/v1/groups", {"name": "g", "topics": ["orders"]})
    other = curl.refused("/v1/groups", "-d", json.dumps({"name": "g", "topics": ["else"]}),
                         want=409)
    check_equal(other["status"], "exists", "the same group, defined differently")


@case(short=True)
def refusals_name_rule_used_and_allowed(env):
    curl = Curl(env.broker())
    curl.post("/v1/topics", {"name": "orders"})
    unknown = curl.refused("/v1/topics/nope/messages", "--data-binary", "x", want=404)
    check_equal(unknown["status"], "not_found", "unknown topic")
    check_in("nope", json.dumps(unknown), "unknown topic")
    big = curl.refused("/v1/topics/orders/messages", "--data-binary", "@-", want=413,
                       stdin=b"x" * (1024 * 1024 + 1))
    check_equal((big["status"], int(big["used"]), int(big["allowed"])),
                ("too_large", 1048577, 1048576), "body over the limit")
    key = curl.refused("/v1/topics/orders/messages", "-H", "Godwit-Key: " + "k" * 1025,
                       "--data-binary", "x", want=413)
    check_equal((int(key["used"]), int(key["allowed"])), (1025, 1024), "key over the limit")
    for body in ('{"name":"bad name"}', '{"name":""}', '{"name":"' + "n" * 129 + '"}',
                 '{"nam":"x"}', '[]', '{', '{"name":"x"} trailing', '{"name":"x","name":"y"}',
                 '{"name":5}', '{"name":".hidden"}', '{"name":"-x"}'):
        refused = curl.json("/v1/topics", "-d", body, want=(400, 413))["refused"]
        check(refused["status"] in ("invalid", "too_large") and refused["text"], f"{body}: {refused}")
    wrong = curl.refused("/v1/groups", "-d", json.dumps({"name": "g", "topics": ["x"],
                                                         "lease_ms": 1}), want=400)
    check_in("lease", json.dumps(wrong), "lease_ms of 1")
    missing = curl.refused("/v1/nothing", want=404)
    check_equal(missing["status"], "not_found", "path")
    method = curl.raw("/v1/topics", "-X", "PUT")
    check_equal(method[0], 405, "method")
    # What is changed in part is not replaced: RFC 5789.
    whole = curl.raw("/v1/groups/g", "-X", "PUT", "-i", "-d", '{"lease_ms":1000}')
    check_equal(whole[0], 405, "PUT of a group")
    check_in("Allow: GET, HEAD, PATCH, DELETE", whole[1].decode(), "PUT of a group")


@case()
def exactly_the_limit_is_taken(env):
    curl = Curl(env.broker())
    curl.post("/v1/topics", {"name": "n" * 128})
    done = curl.json(f"/v1/topics/{'n' * 128}/messages", "-H", "Godwit-Key: " + "k" * 1024,
                     "--data-binary", "@-", stdin=b"x" * (1024 * 1024))
    check_equal(int(done["seq"]), 1, "seq")


@case()
def batch_answers_item_by_item(env):
    curl = Curl(env.broker())
    curl.post("/v1/topics", {"name": "orders"})
    done = curl.post("/v1/topics/orders/batch", {"messages": [
        {"body": "good"}, {"body": "x", "key": "k" * 2000}, {"json": {"also": ["good", 1]}}]})
    first, second, third = done["results"]
    check_equal((first["seq"], third["seq"]), ("1", "2"), "seqs")
    check_equal((second["refused"]["status"], second["refused"]["allowed"]), ("too_large", "1024"),
                "the second")
    check_equal(int(curl.json("/v1/topics/orders")["last_seq"]), 2, "stored")


@case(short=True, threads=True)
def health_and_metrics(env):
    broker = env.broker()
    curl = Curl(broker)
    curl.post("/v1/topics", {"name": "orders"})
    curl.json("/v1/topics/orders/messages", "--data-binary", "x")
    health = curl.json("/health")
    check_equal(health["status"], "green", "health")
    code, text = curl.raw("/metrics")
    check_equal(code, 200, "metrics")
    values = {}
    for line in text.decode().splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name.split("{")[0]] = values.get(name.split("{")[0], 0) + float(value)
    confirmed = [v for k, v in values.items() if "confirmed" in k]
    check_equal(confirmed, [1.0], "confirmed messages")
    for line in text.decode().splitlines():
        check(line == "" or line.startswith("# HELP ") or line.startswith("# TYPE ")
              or len(line.rsplit(" ", 1)) == 2, f"metrics line {line!r}")


@case()
def a_late_settlement_is_told_who_holds(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders", lease_ms=200)
    http.must(http.publish("orders", "x"))
    first, _, _ = http.pull("work", wait=5)
    second, messages, _ = http.pull("work", wait=5)
    check_equal((messages[0]["seq"], messages[0]["attempt"]), ("1", 2), "pulled again")
    done = http.settle("work", first, "orders", seqs=["1"])
    check_equal((done[0]["outcome"], done[0]["holder"]), ("late", second), "the first lease's ack")
    check_equal(http.settle("work", second, "orders", seqs=["1"])[0]["outcome"], "accepted",
                "the second lease's")
    check_equal(http.settle("work", second, "orders", seqs=["9"])[0]["outcome"], "unknown",
                "one that never was")


@case(short=True, threads=True)
def publishing_with_a_producer_is_idempotent(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    numbered = {"Godwit-Producer": "9", "Godwit-Producer-Seq": "1"}
    first = http.must(http.publish("orders", "x", headers=numbered)).json
    again = http.must(http.publish("orders", "x", headers=numbered)).json
    check_equal((first["duplicate"], again["duplicate"]), (False, True), "duplicate flags")
    check_equal(again["seq"] in (first["seq"], "0"), True, "seq of the duplicate")
    check_equal(http.get("/v1/topics/orders").json["last_seq"], "1", "stored")


@case()
def keys_and_headers_are_percent_decoded(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    http.make_group("work", "orders")
    http.must(http.publish("orders", "x", key="schlüssel 100%",
                           headers={"Godwit-Header-City": "K%C3%B6ln"}))
    _, messages, _ = http.pull("work", wait=5)
    check_equal(messages[0]["key"], "schlüssel 100%", "key")
    check_equal(list(messages[0]["headers"].values()), ["Köln"], "header")
    check_equal(http.post("/v1/topics/orders/messages", "x",
                          headers={"Godwit-Key": "%ff"}).code, 400, "a key that is not UTF-8")


@case()
def keep_alive_and_pipelining(env):
    broker = env.broker()
    http = broker.http()
    http.make_topic("orders")
    from http_api import raw
    auth = http.bearer
    one = (f"POST /v1/topics/orders/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n"
           "Content-Length: 1\r\n\r\n%d")
    last = f"GET /v1/topics/orders HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n" \
           "Connection: close\r\n\r\n"
    sent = "".join(one % i for i in range(5)) + last
    got, closed = raw(broker, sent.encode())
    check(closed, "Connection: close was not honoured")
    check_equal(got.count(b"HTTP/1.1 2"), 6, f"answers in {got[:2000]!r}")
    check_in(b'"last_seq":"5"', got.replace(b" ", b""), "the last answer")


@case()
def grants_are_kept(env):
    broker = env.broker()
    admin = broker.http()
    admin.make_topic("a.one")
    admin.make_topic("b.one")
    secret = admin.make_app("shop", publish=["a.*"], subscribe=["b.*"])
    shop = broker.http(app="shop", secret=secret)
    check_equal(shop.publish("a.one", "x").code // 100, 2, "a granted publish")
    refused = shop.publish("b.one", "x")
    check_equal((refused.code, refused.refused["status"]), (403, "forbidden"), "not granted")
    check_equal(shop.post("/v1/groups", {"name": "g1", "topics": ["b.*"]}).code // 100, 2, "group")
    check_equal(shop.post("/v1/groups", {"name": "g2", "topics": ["a.*"]}).code, 403,
                "group not granted")
    check_equal(shop.post("/v1/groups", {"name": "g3", "topics": ["*"]}).code, 403,
                "group on everything")
    check_equal(shop.post("/v1/apps", {"name": "more"}).code, 403, "apps are the admin's")
    check_equal(shop.delete("/v1/apps/admin").code, 403, "delete the admin")
    admin.make_group("of-admin", "a.*")
    check(shop.post("/v1/groups/of-admin/pull?max=1&wait=0").code in (403, 404),
          "pull from another app's group")


@case()
def without_credentials_nothing_but_health(env):
    broker = env.broker()
    http = broker.http()
    check_equal(http.get("/health", auth=False).code, 200, "health")
    for method, path in (("GET", "/v1/topics"), ("POST", "/v1/topics"), ("GET", "/v1/groups"),
                         ("GET", "/v1/apps"), ("POST", "/v1/topics/x/messages"),
                         ("POST", "/v1/topics/x/batch"), ("POST", "/v1/groups/g/pull"),
                         ("POST", "/v1/groups/g/settle"), ("DELETE", "/v1/topics/x"),
                         ("DELETE", "/v1/apps/admin"), ("GET", "/v1/groups/g")):
        answer = http.call(method, path, body=None if method == "GET" else "{}", auth=False)
        check_equal(answer.code, 401, f"{method} {path}")
        check_equal(answer.refused["status"], "unauthenticated", f"{method} {path}")


main()
