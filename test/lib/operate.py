"""What operators ask about a group, over HTTP."""
import time
import urllib.parse

from harness import check, check_equal, wait_until


def explain(http, group, topic, seq):
    return http.must(http.get(f"/v1/groups/{group}/messages/{topic}/{seq}"), 200).json


def gate(http, group, topic, seq):
    return explain(http, group, topic, seq)["gate"]


def check_gate(http, group, topic, seq, want):
    """Until the broker's own clock has come so far; the explanation."""
    wait_until(lambda: gate(http, group, topic, seq) == want, 10,
               f"{topic} {seq} for {group} being {want}, "
               f"it is {explain(http, group, topic, seq)}")
    return explain(http, group, topic, seq)


def dead_of(http, group, **query):
    """[(topic, seq)] of all pages."""
    found = []
    words = dict(query)
    while True:
        path = f"/v1/groups/{group}/dead" + ("?" + urllib.parse.urlencode(words) if words else "")
        answer = http.must(http.get(path), 200).json
        found += [(d["topic"], int(d["seq"])) for d in answer["dead"]]
        if "next" not in answer:
            return found
        at = "topic" if "topic" in query else "at"
        words = dict(query, **{at: answer["next"]["topic"], "from": answer["next"]["seq"]})


def dead_seqs(http, group, topic="orders"):
    return [seq for _, seq in dead_of(http, group, topic=topic)]


def lane(http, group="work", topic="orders"):
    """The books of a lane as numbers; they balance."""
    shown = http.must(http.get(f"/v1/groups/{group}"), 200).json
    books = next(one for one in shown["lanes"] if one["topic"] == topic)
    check(books["balanced"], f"books {books}")
    return {k: int(v) for k, v in books.items() if k not in ("topic", "balanced")}


def pull_one(http, group, topic, seq, wait=5):
    """The lease of one message that must come next."""
    lease, messages, _ = http.pull(group, 1, wait)
    check_equal([(m["topic"], int(m["seq"])) for m in messages], [(topic, seq)], "pulled")
    return lease


def kill_messages(http, group, topic, seqs, reason="broken"):
    """Reject these: they must be the next ones of the group, in this order."""
    for seq in seqs:
        lease = pull_one(http, group, topic, seq)
        ranges = http.settle(group, lease, topic, "reject", seqs=[str(seq)], reason=reason)
        check_equal([r["outcome"] for r in ranges], ["accepted"], f"reject of {seq}")


def redrive(http, group, **order):
    return http.must(http.post(f"/v1/groups/{group}/redrive", order), 200).json


def redrive_end(http, group, seconds=20):
    """The state of the last redrive when it does not run any more."""
    path = f"/v1/groups/{group}/redrive"
    wait_until(lambda: http.must(http.get(path), 200).json["job"] != "running", seconds,
               "the end of the redrive")
    return http.get(path).json


def seek(http, group, topic=None, to=None, **place):
    """{topic: first seq that comes}; to earliest or latest, or to seq= or time_us=."""
    order = {"to": to or place, **({"topic": topic} if topic else {})}
    done = http.must(http.post(f"/v1/groups/{group}/seek", order), 200).json
    return {s["topic"]: int(s["seq"]) for s in done["seeks"]}


def now_us():
    return int(time.time() * 1e6)
