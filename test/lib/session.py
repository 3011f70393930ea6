"""Subprotocol godwit.v1.json by hand: one session on one WebSocket."""
import base64
import hashlib
import hmac
import json
import os
import time
from collections import deque, namedtuple

from harness import Failed
from websocket import TEXT, WebSocket

Delivery = namedtuple("Delivery", "topic seq attempt time_us key headers body")
Gap = namedtuple("Gap", "topic first last")
Confirm = namedtuple("Confirm", "seq duplicate")


class RefusedReply(Exception):
    """The broker's `refused`, whole."""

    def __init__(self, reply):
        super().__init__(json.dumps(reply))
        self.reply = reply
        self.status = reply.get("status")
        self.limit = reply.get("limit", "")
        self.text = reply.get("text", "")


def signed_hello(app, secret, timestamp_ms=None, nonce=None):
    timestamp = str(int(time.time() * 1000) if timestamp_ms is None else timestamp_ms)
    nonce = nonce or os.urandom(16).hex()
    text = f"{app}\n{timestamp}\n{nonce}".encode()
    return {"type": "hello", "app": app, "timestamp_ms": timestamp, "nonce": nonce,
            "signature": hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()}


class Session:
    def __init__(self, broker, app=None, secret=None, hello=True, signed=False, producer=None,
                 **options):
        who = broker.credentials()
        self.app = app or who["app"]
        self.secret = secret or who["secret"]
        self.ws = WebSocket(broker.host, broker.port, **options)
        self.ids = 0
        self.deliveries = deque()  # Delivery and Gap in the order they came
        self.others = deque()      # replies nobody waited for yet
        self.welcome = None
        if hello:
            if signed:
                greeting = signed_hello(self.app, self.secret)
            else:
                greeting = {"type": "hello", "app": self.app, "secret": self.secret}
            if producer is not None:
                greeting["producer"] = str(producer)
            self.welcome = self.request(greeting, "welcome")

    # --- plumbing ---

    def next_id(self, count=1):
        first = self.ids + 1
        self.ids += count
        return first

    def send(self, message):
        self.ws.send(TEXT, json.dumps(message))

    def receive(self, timeout=None):
        """One reply as it comes; deliveries and gaps are put aside."""
        while True:
            reply = json.loads(self.ws.receive(timeout))
            if reply["type"] == "deliver":
                for d in reply["deliveries"]:
                    self.deliveries.append(delivery_of(reply["topic"], d))
            elif reply["type"] == "gap":
                self.deliveries.append(Gap(reply["topic"], int(reply["first"]),
                                           int(reply["last"])))
            else:
                return reply
            if timeout is not None:
                return None

    def reply_to(self, request_id, timeout=20):
        for reply in self.others:
            if int(reply.get("id", 0)) == request_id:
                self.others.remove(reply)
                return reply
        deadline = time.monotonic() + timeout
        while True:
            reply = self.receive(max(0.01, deadline - time.monotonic()))
            if reply is None:
                continue
            if int(reply.get("id", 0)) == request_id:
                return reply
            self.others.append(reply)

    def request(self, message, want, timeout=20):
        """Send with a fresh id and return the reply of that type."""
        request_id = self.next_id()
        self.send(dict(message, id=str(request_id)))
        reply = self.reply_to(request_id, timeout)
        if reply["type"] == "refused":
            raise RefusedReply(reply)
        if reply["type"] != want:
            raise Failed(f"have {reply}, want {want}")
        return reply

    # --- the protocol ---

    def publish(self, topic, messages, producer_seq=None, timeout=20):
        """Confirms one by one, in order. A refusal of any raises RefusedReply.

        Messages are bodies (str or bytes) or ready objects."""
        first = self.publish_start(topic, messages, producer_seq)
        return self.publish_end(first, len(messages), timeout)

    def publish_start(self, topic, messages, producer_seq=None):
        first = self.next_id(len(messages))
        message = {"type": "publish", "id": str(first), "topic": topic,
                   "messages": [message_of(m) for m in messages]}
        if producer_seq is not None:
            message["producer_seq"] = str(producer_seq)
        self.send(message)
        return first

    def publish_end(self, first, count, timeout=20):
        confirms = [None] * count
        missing = count
        deadline = time.monotonic() + timeout
        while missing:
            reply = self.take_publish_reply(first, count, deadline)
            if reply["type"] == "refused":
                raise RefusedReply(reply)
            at, many = int(reply["id"]) - first, int(reply.get("count", 1))
            seq = int(reply.get("seq", 0))
            for i in range(many):
                if confirms[at + i] is not None:
                    raise Failed(f"confirmed twice: {reply}")
                confirms[at + i] = Confirm(seq + i if seq else 0,
                                           bool(reply.get("duplicate", False)))
            missing -= many
        return confirms

    def take_publish_reply(self, first, count, deadline):
        for reply in self.others:
            if first <= int(reply.get("id", 0)) < first + count:
                self.others.remove(reply)
                return reply
        while True:
            reply = self.receive(max(0.01, deadline - time.monotonic()))
            if reply is None:
                continue
            if first <= int(reply.get("id", 0)) < first + count:
                return reply
            self.others.append(reply)

    def attach(self, group, credit_messages=1000, credit_bytes=16 << 20):
        return self.request({"type": "attach", "group": group,
                             "credit_messages": str(credit_messages),
                             "credit_bytes": str(credit_bytes)}, "attached")

    def detach(self):
        return self.request({"type": "detach"}, "detached")

    def settle(self, topic, action, seqs=None, ranges=None, **more):
        """[(first, last, outcome, holder)] as answered."""
        message = {"type": "settle", "topic": topic, "action": action, **more}
        if seqs is not None:
            message["seqs"] = [str(s) for s in seqs]
        if ranges is not None:
            message["ranges"] = [{"first": str(a), "last": str(b)} for a, b in ranges]
        reply = self.request(message, "settled")
        return [(int(r["first"]), int(r["last"]), r["outcome"], int(r.get("holder", 0)))
                for r in reply["ranges"]]

    def ack(self, topic, *seqs):
        return self.settle(topic, "ack", seqs=seqs)

    def ping(self):
        return self.request({"type": "ping"}, "pong")

    def next(self, timeout=20):
        """The next Delivery or Gap; TimeoutError when none comes."""
        deadline = time.monotonic() + timeout
        while not self.deliveries:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no delivery came")
            reply = self.receive(left)
            if reply is not None:
                self.others.append(reply)
        return self.deliveries.popleft()

    def take(self, count, timeout=20):
        deadline = time.monotonic() + timeout
        return [self.next(max(0.01, deadline - time.monotonic())) for _ in range(count)]

    def none_comes(self, seconds):
        """True if no delivery comes in this time."""
        try:
            self.deliveries.appendleft(self.next(seconds))
            return False
        except TimeoutError:
            return True

    def close(self):
        self.ws.close()

    def abort(self):
        self.ws.abort()


def message_of(message):
    if isinstance(message, dict):
        return message
    if isinstance(message, str):
        return {"body": message}
    return {"body_base64": base64.b64encode(message).decode()}


def delivery_of(topic, d):
    if "body_base64" in d:
        body = base64.b64decode(d["body_base64"], validate=True)
    else:
        body = d.get("body", "").encode()
    return Delivery(topic, int(d["seq"]), int(d.get("attempt", 1)), int(d.get("time_us", 0)),
                    d.get("key", ""), d.get("headers", {}), body)
