"""Starts, kills and stops a real godwitd on a free loopback port."""
import ctypes
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from http.client import HTTPException

from harness import Failed, check, wait_until

TSAN_FILE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "tsan.supp")
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port():
    """Below the range of outgoing connections, so that it is free after a kill."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Broker:
    """One data folder and one port; the process may come and go.

    `config` is the text of a configuration file, or a dict (JSON is YAML too)."""

    def __init__(self, env, config=None, data_dir=None, port=None, host="127.0.0.1"):
        self.env = env
        number = len(env.brokers)
        self.data_dir = data_dir or env.path(f"data-{number}")
        self.config_path = None
        if config is not None:
            self.config_path = env.path(f"godwit-{number}.yaml")
            with open(self.config_path, "w") as file:
                file.write(config if isinstance(config, str) else json.dumps(config))
        self.host = host
        self.port = free_port() if port is None else port
        self.log_path = env.path(f"godwitd-{number}.log")
        self.process = None
        self.more_env = {}       # of the process
        self.expect_exit = None  # the exit code, when it ends by itself
        self.log_begin = 0       # where the running process's log begins
        self.found = []          # what its books said that cannot be

    # --- life ---

    def command(self):
        words = [self.env.godwitd, "--data-dir", self.data_dir,
                 "--listen", f"{self.host}:{self.port}"]
        if self.config_path:
            words += ["--config", self.config_path]
        return words

    def spawn(self):
        check(self.process is None, "the broker runs already")
        env = dict(os.environ)
        env.setdefault("ASAN_OPTIONS", "detect_stack_use_after_return=0:abort_on_error=0")
        env["TSAN_OPTIONS"] = (f"halt_on_error=0:exitcode=66:suppressions={TSAN_FILE}:"
                               + env.get("TSAN_OPTIONS", ""))
        env.update(self.more_env)
        with open(self.log_path, "ab") as log:
            self.log_begin = log.tell()
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=env, preexec_fn=die_with_parent)
        return self

    def start(self, seconds=30):
        """Start and wait until it listens."""
        self.spawn()
        def ready():
            if self.process.poll() is not None:
                raise Failed(f"godwitd ended with {self.process.returncode}:\n{self.log()[-2000:]}")
            return re.search(r"\blistening\b.* address=\S+:(\d+)", self.log())
        self.port = int(wait_until(ready, seconds, "listening").group(1))
        return self

    def kill(self):
        """kill -9: what a power switch is to a process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self, seconds=20):
        """SIGTERM, after a look at its books; the exit code."""
        self.found += self.unbalanced()
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def wait_exit(self, seconds=20):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"godwitd did not end within {seconds} s")
        self.process = None
        return code

    def restart(self):
        if self.process is not None:
            code = self.stop()
            check(code == 0, f"godwitd ended with {code} on SIGTERM")
        return self.start()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def finish(self):
        """The end of a case: stop it, and say what was wrong."""
        faults = []
        if self.process is not None and self.process.poll() is not None:
            faults.append(f"godwitd had ended by itself with {self.process.returncode}")
        elif self.process is not None:
            try:
                code = self.stop()
                if code != 0:
                    faults.append(f"godwitd ended with {code} on SIGTERM")
            except Failed as error:
                faults.append(str(error))
        faults += self.found
        if os.path.exists(self.log_path):
            with open(self.log_path, errors="replace") as file:
                whole = file.read()
            for pattern in (r".*Sanitizer: .*", r".*runtime error: .*", r".*CHECK.* failed.*"):
                found = re.search(pattern, whole)
                if found:
                    at = found.start()
                    faults.append("in the broker's log:\n" + whole[at:at + 3000])
                    break
        return faults

    def unbalanced(self):
        """What its books say that cannot be."""
        from http_api import Http
        try:
            return book_faults(Http(self, timeout=5))
        except (OSError, HTTPException):
            return []  # TLS, at its limits, or about to stop

    # --- what it says ---

    def log(self):
        """Of the process that runs or ran last."""
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, errors="replace") as file:
            file.seek(self.log_begin)
            return file.read()

    def wait_log(self, pattern, seconds=20):
        return wait_until(lambda: re.search(pattern, self.log()), seconds, f"log line {pattern}")

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def credentials_path(self):
        return os.path.join(self.data_dir, "admin.credentials")

    def credentials(self):
        """url, app and secret as the first start wrote them."""
        with open(self.credentials_path) as file:
            pairs = [line.strip().split("=", 1) for line in file if "=" in line]
        return dict(pairs)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    # --- shortcuts ---

    def http(self, **options):
        from http_api import Http
        return Http(self, **options)

    def session(self, **options):
        from session import Session
        return Session(self, **options)

    def godwit_env(self):
        """The environment of the command line."""
        who = self.credentials()
        return dict(os.environ, GODWIT_URL=f"ws://{self.address}", GODWIT_APP=who["app"],
                    GODWIT_SECRET=who["secret"])

    def godwit(self, *words, stdin=None, seconds=60, check_code=0, env=None):
        """Run the command line; its result with stdout and stderr as bytes."""
        done = subprocess.run([self.env.godwit, *words], input=stdin, capture_output=True,
                              timeout=seconds * (4 if self.env.sanitized else 1),
                              env=env or self.godwit_env(), preexec_fn=die_with_parent)
        if check_code is not None and done.returncode != check_code:
            raise Failed(f"godwit {' '.join(words)}: exit code {done.returncode}, "
                         f"want {check_code}\n{done.stderr.decode(errors='replace')[-1500:]}")
        return done

    def godwit_start(self, *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=None):
        process = subprocess.Popen([self.env.godwit, *words], stdin=stdin, stdout=stdout,
                                   stderr=subprocess.PIPE, env=env or self.godwit_env(),
                                   preexec_fn=die_with_parent)
        self.env.at_end(lambda: end_process(process))
        return process


def end_process(process):
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


LANE_PARTS = ("acked", "dead", "expired", "deleted", "filtered", "gap", "ready", "delayed",
              "in_flight")
GROUPS_LOOKED_AT = 200


def book_faults(http):
    """Of every lane: published is the sum of what became of it; and the broker itself
    found no difference."""
    found = []
    listed = http.get("/v1/groups")
    if listed.code != 200:
        return []  # it does not let us ask
    for group in listed.json["groups"][:GROUPS_LOOKED_AT]:
        shown = http.get("/v1/groups/" + group["name"])
        if shown.code != 200:
            continue  # deleted meanwhile
        for lane in shown.json.get("lanes", []):
            known = sum(int(lane.get(part, 0)) for part in LANE_PARTS)
            if int(lane["published"]) != known or not lane.get("balanced", True):
                found.append(f"books of {group['name']}: {lane}")
    metrics = http.get("/metrics").body.decode()
    differences = re.search(r"^godwit_books_differences_total (\d+)$", metrics, re.M)
    if differences is None or int(differences.group(1)) != 0:
        found.append(f"godwit_books_differences_total: {differences and differences.group(1)}")
    return found


def stopwatch():
    began = time.monotonic()
    return lambda: time.monotonic() - began
