// The JSON subprotocol by Node's `ws` package. MODE=whole goes through every
// request; MODE=reconnect publishes while the broker is killed and comes back.
"use strict";
const crypto = require("crypto");
const WebSocket = require("ws");
const { URL: url, APP: app, SECRET: secret, MODE: mode } = process.env;

function assert(condition, text) {
  if (!condition) {
    console.error(`failed: ${text}`);
    process.exit(1);
  }
}

class Client {
  constructor(producer) {
    this.producer = producer;
    this.waiting = new Map(); // id -> function that takes the reply
    this.lost = new Set(); // whom to tell that the connection is gone
    this.deliveries = [];
    this.arrived = () => {};
    this.nextId = 1;
  }

  open() {
    return new Promise((resolve, reject) => {
      this.ws = new WebSocket(url, "godwit.v1.json");
      this.ws.on("error", reject);
      this.ws.on("close", () => {
        reject(new Error("closed"));
        this.lost.forEach((tell) => tell(new Error("closed")));
      });
      this.ws.on("message", (data) => this.take(JSON.parse(data)));
      this.ws.on("open", () => this.hello().then(resolve, reject));
    });
  }

  take(message) {
    if (message.type === "deliver") {
      for (const d of message.deliveries) this.deliveries.push({ topic: message.topic, ...d });
      this.arrived();
    } else {
      const done = this.waiting.get(Number(message.id));
      assert(done, `a reply nobody waits for: ${JSON.stringify(message)}`);
      done(message);
    }
  }

  request(message, ids = 1) {
    return new Promise((resolve, reject) => {
      const id = this.nextId;
      let left = ids;
      const replies = [];
      this.nextId += ids;
      this.lost.add(reject);
      for (let i = 0; i < ids; i++) {
        this.waiting.set(id + i, (reply) => {
          replies.push(reply);
          left -= Number(reply.count || 1);
          if (left > 0) return;
          this.lost.delete(reject);
          resolve(ids === 1 ? reply : replies);
        });
      }
      this.ws.send(JSON.stringify({ id: String(id), ...message }));
    });
  }

  async hello() {
    const timestamp = String(Date.now());
    const nonce = crypto.randomBytes(12).toString("hex");
    const signature = crypto.createHmac("sha256", secret)
      .update(`${app}\n${timestamp}\n${nonce}`).digest("hex");
    const hello = { type: "hello", app, timestamp_ms: timestamp, nonce, signature };
    if (this.producer) hello.producer = this.producer;
    const reply = await this.request(hello);
    assert(reply.type === "welcome", JSON.stringify(reply));
    return reply;
  }

  async publish(topic, messages, producerSeq) {
    const request = { type: "publish", topic, messages };
    if (producerSeq) request.producer_seq = String(producerSeq);
    const replies = [].concat(await this.request(request, messages.length));
    for (const reply of replies) assert(reply.type === "confirm", JSON.stringify(reply));
    return replies;
  }

  async settle(topic, action, seqs, more = {}) {
    const reply = await this.request({ type: "settle", topic, action, seqs, ...more });
    assert(reply.type === "settled", JSON.stringify(reply));
    return reply.ranges;
  }

  async receive(count) {
    while (this.deliveries.length < count) {
      await new Promise((resolve) => { this.arrived = resolve; });
    }
    return this.deliveries.splice(0, count);
  }
}

const accepted = (ranges) => ranges.every((r) => r.outcome === "accepted");

async function whole() {
  const client = new Client();
  await client.open();
  const messages = Array.from({ length: 200 }, (_, i) => ({
    key: `k${i}`, headers: { n: String(i) }, body: `body ${i} é` }));
  await client.publish("orders", messages);
  const attached = await client.request({ type: "attach", group: "work", credit_messages: "500",
    credit_bytes: "1000000" });
  assert(attached.type === "attached", JSON.stringify(attached));
  const got = await client.receive(200);
  got.forEach((d, i) => assert(d.seq === String(i + 1) && d.key === `k${i}`
    && d.body === `body ${i} é` && d.headers.n === String(i), `delivery ${JSON.stringify(d)}`));
  assert(accepted(await client.settle("orders", "extend", ["200"], { delay_ms: "9000" })), "extend");
  assert(accepted(await client.settle("orders", "release", ["200"])), "release");
  assert((await client.receive(1))[0].seq === "200", "released message");
  assert(accepted(await client.settle("orders", "nack", ["199"], { delay_ms: "100", reason: "no" })),
    "nack");
  const again = (await client.receive(1))[0];
  assert(again.seq === "199" && Number(again.attempt) === 2, `after nack ${JSON.stringify(again)}`);
  assert(accepted(await client.settle("orders", "ack", ["1", "2", "200"])), "ack of seqs");
  assert(accepted(await client.settle("orders", "ack", undefined,
    { ranges: [{ first: "3", last: "199" }] })), "ack of a range");
  const refused = await client.request({ type: "publish", topic: "nope", messages: [{ body: "" }] });
  assert(refused.type === "refused" && refused.text, JSON.stringify(refused));
  assert((await client.request({ type: "ping" })).type === "pong", "ping");
  assert((await client.request({ type: "detach" })).type === "detached", "detach");
  client.ws.close();
}

async function reconnect() {
  let at = 0;
  let kills = 0;
  const total = 3000;
  while (at < total) {
    const client = new Client("4711");
    try {
      await client.open();
      while (at < total) {
        const bodies = Array.from({ length: 50 }, (_, i) => ({ body: `m${at + i}` }));
        const sent = client.publish("orders", bodies, at + 1);
        if (at >= (kills + 1) * 700 && kills < 3) {
          kills++;
          console.log("kill me");
        }
        await sent;
        at += 50;
      }
      await client.request({ type: "attach", group: "work", credit_messages: "5000",
        credit_bytes: "10000000" });
      const got = await client.receive(total);
      got.sort((a, b) => a.seq - b.seq);
      got.forEach((d, i) => assert(d.body === `m${i}`, `message ${i} is ${d.body}`));
      assert(kills === 3, `${kills} kills`);
      client.ws.close();
    } catch (error) {
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  }
}

const timer = setTimeout(() => assert(false, "no end"), 50000);
(mode === "reconnect" ? reconnect() : whole()).then(() => {
  clearTimeout(timer);
  console.log("all good");
});
