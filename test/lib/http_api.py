"""HTTP against a broker: a good client on http.client, and raw bytes."""
import http.client
import json
import socket
import time
import urllib.parse


class Answer:
    def __init__(self, code, headers, body):
        self.code = code
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def refused(self):
        return self.json["refused"]

    def __repr__(self):
        return f"<{self.code} {self.body[:400]!r}>"


class Http:
    """Keeps its connection; bearer credentials of the admin unless told otherwise."""

    def __init__(self, broker, app=None, secret=None, context=None, timeout=30):
        who = broker.credentials()
        self.bearer = f"Bearer {app or who['app']}:{secret or who['secret']}"
        if context is None:
            self.http = http.client.HTTPConnection(broker.host, broker.port, timeout=timeout)
        else:
            self.http = http.client.HTTPSConnection(broker.host, broker.port, timeout=timeout,
                                                    context=context)

    def call(self, method, path, body=None, headers=(), auth=True):
        sent = dict(headers)
        if auth:
            sent.setdefault("Authorization", self.bearer)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        self.http.request(method, path, body=body, headers=sent)
        answer = self.http.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()},
                      answer.read())

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.call("POST", path, body=body, **options)

    def delete(self, path, **options):
        return self.call("DELETE", path, **options)

    def must(self, answer, *codes):
        if answer.code not in (codes or (200, 201, 204)):
            raise AssertionError(f"HTTP {answer}")
        return answer

    def make_topic(self, name):
        return self.must(self.post("/v1/topics", {"name": name}))

    def make_group(self, name, topics, **more):
        if isinstance(topics, str):
            topics = [topics]
        return self.must(self.post("/v1/groups", {"name": name, "topics": topics, **more}))

    def make_app(self, name, **grants):
        """The new app's secret."""
        return self.must(self.post("/v1/apps", {"name": name, **grants})).json["secret"]

    def publish(self, topic, body, key=None, headers=()):
        sent = dict(headers)
        if key is not None:
            sent["Godwit-Key"] = urllib.parse.quote(key)
        return self.post(f"/v1/topics/{topic}/messages", body, headers=sent)

    def pull(self, group, most=100, wait=0):
        """(lease, messages, gaps)"""
        pulled = self.must(self.post(f"/v1/groups/{group}/pull?max={most}&wait={wait}"), 200).json
        return pulled.get("lease"), pulled["messages"], pulled.get("gaps", [])

    def settle(self, group, lease, topic, action="ack", **what):
        """The ranges of the answer; `what` is seqs or ranges and so on."""
        asked = {"lease": lease, "topic": topic, "action": action, **what}
        return self.must(self.post(f"/v1/groups/{group}/settle", asked), 200).json["ranges"]

    def close(self):
        self.http.close()


def raw(broker, data, seconds=10, half_close=False, context=None):
    """Send bytes as they are; all bytes that came back until the peer closed.

    Returns (bytes, closed): closed is False when the peer kept the connection
    open for `seconds`."""
    with socket.create_connection((broker.host, broker.port), timeout=seconds) as sock:
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=broker.host)
        got = b""
        try:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except (ConnectionResetError, BrokenPipeError):
            pass
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                part = sock.recv(65536)
            except (socket.timeout, TimeoutError):
                return got, False
            except ConnectionResetError:
                return got, True
            if not part:
                return got, True
            got += part
        return got, False


def code_of(raw_answer):
    """The status code of the first answer in raw bytes, 0 if there is none."""
    words = raw_answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/1.") else 0
