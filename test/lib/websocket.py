"""A WebSocket client small enough to send what a good one never would."""
import base64
import os
import socket
import ssl
import struct
import time

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0


class Closed(Exception):
    """The peer closed. code and text are of its close frame, None without one."""

    def __init__(self, code=None, text=""):
        super().__init__(f"closed by the broker: {code} {text}")
        self.code = code
        self.text = text


class Refused(Exception):
    """The upgrade was answered with something other than 101."""

    def __init__(self, code, body):
        super().__init__(f"upgrade refused: {code} {body[:300]!r}")
        self.code = code
        self.body = body


def frame(opcode, payload=b"", fin=True, mask=True, rsv=0, length=None):
    """The bytes of one frame. `length` lies about the payload's."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + xor(payload, key)


def xor(payload, key):
    size = len(payload)
    wide = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(wide, "big")).to_bytes(size, "big")


class WebSocket:
    def __init__(self, host, port, path="/v1/stream", protocol="godwit.v1.json", headers=(),
                 context=None, timeout=20, receive_buffer=None):
        self.timeout = timeout
        self.buffer = b""
        self.partial = b""
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname=host)
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade",
                 "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]
        if protocol:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        lines += [f"{name}: {value}" for name, value in headers]
        try:
            self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            self.read_upgrade()
        except BaseException:
            self.sock.close()
            raise

    def read_upgrade(self):
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value
                        in (line.partition(":") for line in lines[1:])}
        code = int(lines[0].split()[1])
        if code != 101:
            size = int(self.headers.get("content-length", "0"))
            while len(self.buffer) < size:
                self.fill()
            raise Refused(code, self.buffer[:size])

    def fill(self):
        try:
            got = self.sock.recv(262144)
        except ssl.SSLWantReadError:
            return
        except (ConnectionResetError, BrokenPipeError):
            raise Closed()
        if not got:
            raise Closed()
        self.buffer += got

    def send(self, opcode, payload=b"", **options):
        self.send_raw(frame(opcode, payload, **options))

    def send_raw(self, raw):
        try:
            self.sock.sendall(raw)
        except (ConnectionResetError, BrokenPipeError):
            raise Closed()

    def receive_frame(self, timeout=None):
        """(opcode, payload, fin) of the next frame. TimeoutError: none came."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            got = self.take_frame()
            if got:
                return got
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no frame came")
            self.sock.settimeout(left)
            try:
                self.fill()
            except socket.timeout:
                raise TimeoutError("no frame came")
            finally:
                self.sock.settimeout(self.timeout)

    def take_frame(self):
        raw = self.buffer
        if len(raw) < 2:
            return None
        size, at = raw[1] & 127, 2
        if size == 126:
            size, at = int.from_bytes(raw[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(raw[2:10], "big"), 10
        if len(raw) < at or len(raw) < at + size:
            return None
        if raw[1] & 128:
            raise AssertionError("the broker sent a masked frame")
        self.buffer = raw[at + size:]
        return raw[0] & 15, raw[at:at + size], bool(raw[0] & 128)

    def receive(self, timeout=None):
        """The next whole message; answers pings on the way. Raises Closed."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            opcode, payload, fin = self.receive_frame(max(0.0, deadline - time.monotonic()))
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
                raise Closed(code, payload[2:].decode(errors="replace"))
            if opcode == PING:
                self.send(PONG, payload)
            elif opcode != PONG:
                self.partial += payload
                if fin:
                    whole, self.partial = self.partial, b""
                    return whole

    def wait_closed(self, timeout=None):
        """Read until the peer closes; the Closed with its code and text."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        try:
            while True:
                self.receive(max(0.0, deadline - time.monotonic()))
        except Closed as closed:
            return closed

    def close(self):
        try:
            self.send(CLOSE, struct.pack(">H", 1000))
        except (OSError, Closed):
            pass
        self.sock.close()

    def abort(self):
        """Vanish without a word, with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
