#!/usr/bin/env python3
"""Several workers: groups on each of them, connections wherever they land."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from harness import case, check, check_equal, main

GROUPS = [f"group-{i}" for i in range(8)]


def together(functions):
    faults = []

    def run(function):
        try:
            function()
        except Exception as error:
            faults.append(repr(error))
    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_equal(faults, [], "faults")


@case(short=True, threads=True, timeout=120)
def groups_and_connections_spread_over_workers(env):
    broker = env.broker(config={"workers": 3})
    http = broker.http()
    http.make_topic("orders")
    for group in GROUPS:
        http.make_group(group, "orders")
    per_producer = env.size(1000)
    total = per_producer * 4

    def produce(number):
        session = broker.session()
        for at in range(0, per_producer, 50):
            session.publish("orders", [f"{number}:{at + i}" for i in range(50)], timeout=60)
        session.close()

    def consume(group):
        session = broker.session()
        session.attach(group, credit_messages=200)
        seen = []
        while len(seen) < total:
            got = [session.next(60)]
            while session.deliveries:
                got.append(session.next())
            seen += got
            outcomes = session.ack("orders", *[d.seq for d in got])
            check(all(r[2] == "accepted" for r in outcomes), f"{group}: {outcomes}")
        check_equal([d.seq for d in seen], list(range(1, total + 1)), f"{group}: seqs")
        for number in range(4):
            mine = [d.body for d in seen if d.body.startswith(b"%d:" % number)]
            check_equal(mine, [b"%d:%d" % (number, i) for i in range(per_producer)],
                        f"{group}: order of producer {number}")
        session.close()

    def pull(group):
        client = broker.http()
        seen = 0
        while seen < total:
            lease, messages, _ = client.pull(group, most=300, wait=5)
            if messages:
                done = client.settle(group, lease, "orders", seqs=[m["seq"] for m in messages])
                check(all(r["outcome"] == "accepted" for r in done), f"{group}: {done}")
                seen += len(messages)
    together([lambda n=n: produce(n) for n in range(4)]
             + [lambda g=g: consume(g) for g in GROUPS[:4]]
             + [lambda g=g: pull(g) for g in GROUPS[4:]])
    for group in GROUPS:
        lane = http.get(f"/v1/groups/{group}").json["lanes"][0]
        check_equal(int(lane["acked"]), total, f"acked of {group}")


@case(short=True, threads=True)
def every_connection_can_reach_every_group(env):
    broker = env.broker(config={"workers": 4})
    http = broker.http()
    http.make_topic("orders")
    for group in GROUPS:
        http.make_group(group, "orders")
    broker.session().publish("orders", ["x"])
    for _ in range(3):
        for group in GROUPS:
            session = broker.session()
            session.attach(group)
            check_equal(session.next(10).seq, 1, f"delivery of {group}")
            session.settle("orders", "release", seqs=[1])
            session.detach()
            session.attach(group)
            check_equal(session.next(10).seq, 1, f"again, of {group}")
            session.abort()
    for group in GROUPS:
        client = broker.http()
        lease, _, _ = client.pull(group, most=1, wait=5)
        client.close()
        other = broker.http()  # perhaps on another worker
        done = other.settle(group, lease, "orders", seqs=["1"])
        check_equal(done[0]["outcome"], "accepted", f"{group}: ack on another connection")


@case()
def catalog_changes_are_seen_by_all_workers(env):
    broker = env.broker(config={"workers": 4})
    clients = [broker.http() for _ in range(12)]
    for number, client in enumerate(clients):
        client.make_topic(f"topic-{number}")
        client.make_group(f"g-{number}", f"topic-{number}")
    names = sorted(f"topic-{n}" for n in range(12))
    for client in clients:
        check_equal([t["name"] for t in client.get("/v1/topics").json["topics"]], names, "topics")
    secret = clients[0].make_app("shop", publish=["*"], subscribe=["*"])
    for _ in range(12):
        broker.session(app="shop", secret=secret).publish("topic-3", ["x"])
    clients[5].must(clients[5].delete("/v1/topics/topic-3"))
    for client in clients:
        check_equal(client.get("/v1/topics/topic-3").code, 404, "a deleted topic")


@case()
def what_was_deleted_last_does_not_come_back_by_its_number(env):
    """A topic or group made after a restart is a new one, whatever it is called."""
    broker = env.broker(config={"workers": 2})
    for end in (broker.stop, broker.kill):
        http = broker.http()
        http.make_topic("orders")
        http.make_group("billing", "orders")
        seqs = [http.publish("orders", f"old {n}").json["seq"] for n in range(3)]
        check_equal([int(seq) for seq in seqs], [1, 2, 3], "seqs of a new topic")
        lease, messages, _ = http.pull("billing", most=2)
        http.settle("billing", lease, "orders", seqs=[m["seq"] for m in messages])
        http.must(http.delete("/v1/groups/billing"))
        http.must(http.delete("/v1/topics/orders"))
        http.close()
        end()
        broker.start()
    http = broker.http()
    http.make_group("billing", "orders")
    http.make_topic("orders")
    lane = http.get("/v1/groups/billing").json["lanes"][0]
    check_equal((int(lane["published"]), int(lane["acked"])), (0, 0), f"lane {lane}")


@case()
def the_same_name_from_all_sides_is_made_once(env):
    broker = env.broker(config={"workers": 4})
    codes = []

    def make(number):
        codes.append(broker.http().post("/v1/groups", {"name": "one",
                                                       "topics": [f"t{number}"]}).code)
    together([lambda n=n: make(n) for n in range(8)])
    check_equal(sorted(codes)[1:], [409] * 7, f"codes {codes}")
    check_equal(sorted(codes)[0] // 100, 2, f"codes {codes}")


main()
