#!/usr/bin/env python3
"""fake_redis.py MODE CONFIG: as much of Redis as tools/compare asks for, good or
with a fault that its load must notice."""
import os
import selectors
import socket
import subprocess
import sys

MODE = sys.argv[1]
ENTRY = 5  # the faults come with this one


def mark(name):
    with open(os.path.join(os.environ["FAKE_MARK"], name), "w"):
        pass


def port():
    with open(sys.argv[2]) as file:
        return int(next(line.split()[1] for line in file if line.startswith("port ")))


def bulk(data):
    return b"$%d\r\n%s\r\n" % (len(data), data)


class Client:
    def __init__(self, sock):
        self.sock = sock
        self.inside = b""
        self.outside = bytearray()
        self.reading = False
        self.given = 0


class Stream:
    def __init__(self):
        self.count = 0
        self.entries = []

    def add(self, client, body):
        self.count += 1
        if MODE == "stops" and self.count > 3:
            mark("stops-is-there")
            return
        if MODE == "dies" and self.count > 3:
            os._exit(1)
        if MODE == "errs" and self.count == ENTRY:
            client.outside += b"-ERR no\r\n"
            return
        if MODE == "garbage" and self.count == ENTRY:
            client.outside += b"HTTP/1.1 400 Bad Request\r\n\r\n"
            return
        self.entries.append(body)
        client.outside += bulk(b"%d-0" % self.count) * (2 if MODE == "doubles" else 1)

    def give(self, client):
        """What a waiting reader has not had."""
        messages = list(enumerate(self.entries))[client.given:]
        if not client.reading or not messages:
            return
        client.given = len(self.entries)
        client.reading = False
        if MODE == "loses":
            messages = [one for one in messages if one[0] != 3]
        if MODE == "repeats":
            messages = [part for one in messages for part in [one] * (1 + (one[0] == 3))]
        client.outside += b"*1\r\n*2\r\n" + bulk(b"s") + b"*%d\r\n" % len(messages)
        for number, body in messages:
            client.outside += (b"*2\r\n" + bulk(b"%d-0" % number) + b"*2\r\n" + bulk(b"b")
                               + bulk(body))


def take(client):
    """One command, or None: it is not whole."""
    data = client.inside
    end = data.find(b"\r\n")
    if end < 0:
        return None
    if data[:1] != b"*":
        client.inside = data[end + 2:]
        return data[:end].split()
    parts, at = [], end + 2
    for _ in range(int(data[1:end])):
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at + 1:end])
        parts.append(data[end + 2:end + 2 + size])
        at = end + 2 + size + 2
    if at > len(data):
        return None
    client.inside = data[at:]
    return parts


def answer(stream, client, command):
    word = command[0].upper()
    if word == b"XADD":
        stream.add(client, command[4])
    elif word == b"XREADGROUP":
        client.reading = True
    elif word in (b"XACK", b"UNLINK"):
        client.outside += b":1\r\n"
        if word == b"UNLINK":
            stream.entries, stream.count = [], 0
    elif MODE not in ("silent", "family"):
        client.outside += b"+OK\r\n"


def receive(stream, client):
    """False: it has gone."""
    try:
        data = client.sock.recv(1 << 20)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if not data:
        return False
    client.inside += data
    while (command := take(client)) is not None:
        answer(stream, client, command)
    return True


def serve():
    listener = socket.create_server(("127.0.0.1", port()))
    select = selectors.DefaultSelector()
    select.register(listener, selectors.EVENT_READ)
    stream, clients = Stream(), {}
    if MODE == "family":
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        mark("family-is-there")
    while True:
        for key, _ in select.select():
            if key.fileobj is listener:
                sock, _ = listener.accept()
                sock.setblocking(False)
                clients[sock] = Client(sock)
                select.register(sock, selectors.EVENT_READ)
            elif not receive(stream, clients[key.fileobj]):
                select.unregister(key.fileobj)
                clients.pop(key.fileobj)
                key.fileobj.close()
        for client in clients.values():
            stream.give(client)
            flush(select, client)


def flush(select, client):
    try:
        while client.outside:
            del client.outside[:client.sock.send(client.outside)]
    except BlockingIOError:
        pass
    except OSError:
        client.outside.clear()
    select.modify(client.sock, selectors.EVENT_READ
                  | (selectors.EVENT_WRITE if client.outside else 0))


if "--version" in sys.argv:
    print("Redis server v=7.0.0")
elif MODE == "refuses":
    sys.exit("no, not today")
else:
    serve()
