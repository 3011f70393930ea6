"""The JSON subprotocol by Python's `websockets` package."""
import asyncio
import hashlib
import hmac
import json
import os
import time

import websockets

URL, APP, SECRET = os.environ["URL"], os.environ["APP"], os.environ["SECRET"]


class Client:
    def __init__(self, ws):
        self.ws = ws
        self.id = 0
        self.deliveries = []

    async def receive(self):
        message = json.loads(await asyncio.wait_for(self.ws.recv(), 20))
        if message["type"] == "deliver":
            self.deliveries += message["deliveries"]
            return None
        return message

    async def request(self, want, count=1, **message):
        self.id += 1
        first, self.id = self.id, self.id + count - 1
        await self.ws.send(json.dumps(dict(message, id=str(first))))
        while count > 0:
            reply = await self.receive()
            if reply is not None:
                assert reply["type"] == want, reply
                count -= int(reply.get("count", 1))
        return reply

    async def take(self, count):
        while len(self.deliveries) < count:
            assert await self.receive() is None
        got, self.deliveries = self.deliveries[:count], self.deliveries[count:]
        return got


async def hello(client, signed):
    if not signed:
        return await client.request("welcome", type="hello", app=APP, secret=SECRET)
    timestamp, nonce = str(int(time.time() * 1000)), os.urandom(12).hex()
    text = f"{APP}\n{timestamp}\n{nonce}".encode()
    return await client.request("welcome", type="hello", app=APP, timestamp_ms=timestamp,
                                nonce=nonce, signature=hmac.new(SECRET.encode(), text,
                                                                hashlib.sha256).hexdigest())


def connect():
    return websockets.connect(URL, subprotocols=["godwit.v1.json"], max_size=8 << 20)


async def main():
    async with connect() as ws:
        assert ws.subprotocol == "godwit.v1.json", ws.subprotocol
        client = Client(ws)
        await hello(client, signed=True)
        await client.request("confirm", 200, type="publish", topic="orders",
                             messages=[{"key": f"k{i}", "body": f"body {i}"} for i in range(200)])
        await client.request("attached", type="attach", group="work", credit_messages="300",
                             credit_bytes="1000000")
        assert [d["body"] for d in await client.take(200)] == [f"body {i}" for i in range(200)]
        await client.request("settled", type="settle", topic="orders", action="ack",
                             ranges=[{"first": "1", "last": "150"}])
    # The connection is gone: what was not acked comes to the next one.
    async with connect() as ws:
        client = Client(ws)
        await hello(client, signed=False)
        await client.request("attached", type="attach", group="work", credit_messages="300",
                             credit_bytes="1000000")
        got = await client.take(50)
        assert sorted(int(d["seq"]) for d in got) == list(range(151, 201)), got
        pong = await ws.ping()
        await asyncio.wait_for(pong, 10)
        done = await client.request("settled", type="settle", topic="orders", action="ack",
                                    seqs=[d["seq"] for d in got])
        assert all(r["outcome"] == "accepted" for r in done["ranges"]), done
    print("all good")


asyncio.run(main())
