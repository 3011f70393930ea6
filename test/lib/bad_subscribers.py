"""Subscribers that are slow, stuck or restless, each in a thread of its own."""
import threading

from harness import check, check_equal
from operate import lane
from session import RefusedReply
from websocket import Closed

# Of a broker that they are let loose on: bounds that they come up against.
LIMITS = {"in_flight_mib": 8, "in_flight_direct_mib": 8, "output_kib": 1024}


class Bad:
    """One of them, until it is told to end."""

    def __init__(self, broker, group, **options):
        self.broker, self.group, self.options = broker, group, options
        self.stop = threading.Event()
        self.faults = []
        self.turns = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def session(self, credit=1000):
        session = self.broker.session(**self.options)
        session.attach(self.group, credit_messages=credit, credit_bytes=64 << 20)
        return session

    def run(self):
        while not self.stop.is_set():
            try:
                self.turn()
                self.turns += 1
            except (Closed, OSError, TimeoutError):
                self.turns += 1  # cut off; it comes again
            except (RefusedReply, AssertionError) as error:
                self.faults.append(repr(error))
                return

    def is_bad(self, http):
        """It has come and has messages, or had them and went."""
        return self.turns > 0 or lane(http, self.group, "bad")["in_flight"] > 0

    def end(self):
        self.stop.set()
        self.thread.join(30)
        check(not self.thread.is_alive(), f"{type(self).__name__} does not end")
        check_equal(self.faults, [], type(self).__name__)


class ReadsNothing(Bad):
    def turn(self):
        session = self.session(credit=65536)
        self.stop.wait(60)
        session.abort()


class AcksNothing(Bad):
    """It does not look at what it reads: what the broker loses is asked, and not the
    time that this process takes from the others."""

    def turn(self):
        session = self.session()
        session.ws.sock.settimeout(0.05)
        while not self.stop.is_set():
            try:
                if not session.ws.sock.recv(1 << 20):
                    break
            except TimeoutError:
                continue
        session.abort()


class TakesAMinute(Bad):
    """For each of the ten that it takes; it asks for the time."""

    def turn(self):
        session = self.session(credit=10)
        while not self.stop.is_set():
            try:
                got = session.next(0.2)
                session.settle(got.topic, "extend", seqs=[got.seq], delay_ms="60000")
            except TimeoutError:
                continue
        session.abort()


class ComesAndGoes(Bad):
    """Every second, and reads what there is."""

    rest_s = 0.9

    def turn(self):
        session = self.session()
        try:
            session.next(0.1)
        except TimeoutError:
            pass
        session.abort()
        self.stop.wait(self.rest_s)


KINDS = [ReadsNothing, AcksNothing, TakesAMinute, ComesAndGoes]


def fill(broker):
    """The topic `bad`, with much to do for whoever takes it from the beginning."""
    broker.http().make_topic("bad")
    broker.http().make_group("keeps", "bad")
    session = broker.session()
    for _ in range(20):
        session.publish("bad", ["x" * 1000] * 500, timeout=60)
    session.close()
