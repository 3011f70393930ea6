"""The brokers: how each is started on loopback with a folder of its own, and with
which settings. All that is set is printed with the figures."""
import os
import pwd
import random
import re
import shutil
import socket
import subprocess

import processes

# A user's PATH has no sbin, where Debian puts brokers.
PLACES = os.environ.get("PATH", "")
if "/usr/bin" in PLACES.split(":"):
    PLACES += ":/usr/sbin"


class Failed(Exception):
    """Said to the user with the peer's name."""


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


class Peer:
    """One kind of broker. start() and end() may be called again and again."""
    name = title = package = program = ""
    driver = None       # of peer_load; none: Godwit brings its own load
    confirm = ""        # what it means, in a table
    settings = []       # lines, as they are given to it
    version_words = ["--version"]
    measures_restart = True
    term_seconds = 0    # for an orderly end; none: its folder is removed anyhow

    def __init__(self):
        self.process = None
        self.port = None
        self.folder = None

    def find(self):
        return shutil.which(self.program, path=PLACES)

    def version(self):
        try:
            done = subprocess.run([self.find(), *self.version_words], capture_output=True,
                                  text=True, timeout=20, env=self.environment())
        except (OSError, subprocess.TimeoutExpired):
            return "?"
        found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
        return found.group(0) if found else "?"

    def environment(self):
        return dict(os.environ)

    def prepare(self, folder):
        """A new folder, without a process on it."""
        self.folder = folder
        self.port = free_port()
        os.makedirs(folder)
        self.configure()

    def configure(self):
        pass

    def command(self):
        raise NotImplementedError

    def start(self):
        self.process = processes.start(self.command(), self.log(), cwd=self.folder,
                                       env=self.environment())

    def log(self):
        return os.path.join(self.folder, "log")

    def has_ended(self):
        return self.process is None or self.process.poll() is not None

    def last_words(self):
        lines = [line.strip() for line in processes.read(self.log()).splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"

    def kill(self):
        if self.process is not None:
            processes.end(self.process)
            self.process = None

    def end(self):
        self.kill()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, name, lines):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        return path


class Godwit(Peer):
    name, title = "godwit", "Godwit"
    confirm = "on disk: fdatasync has returned"
    settings = ["its defaults"]

    def __init__(self, build):
        super().__init__()
        self.program = os.path.join(build, "broker/godwitd")
        self.client = os.path.join(build, "tools/godwit/godwit")

    def command(self):
        return [self.program, "--data-dir", os.path.join(self.folder, "data"),
                "--listen", f"127.0.0.1:{self.port}"]

    def connection(self):
        return ["--url", f"ws://127.0.0.1:{self.port}", "--credentials",
                os.path.join(self.folder, "data/admin.credentials")]


class Redis(Peer):
    name, title, driver = "redis", "Redis streams, always", "redis"
    package = program = "redis-server"
    confirm = "on disk: appendfsync always"
    sync = "always"

    def __init__(self):
        super().__init__()
        self.settings = ["appendonly yes", f"appendfsync {self.sync}", 'save ""',
                         "auto-aof-rewrite-percentage 0"]

    def configure(self):
        self.write("redis.conf", ["bind 127.0.0.1", f"port {self.port}", f"dir {self.folder}",
                                  "daemonize no", *self.settings])

    def command(self):
        return [self.find(), os.path.join(self.folder, "redis.conf")]


class RedisEverysec(Redis):
    name, title = "redis-everysec", "Redis streams, everysec"
    confirm = "in the page cache: synced once a second"
    sync = "everysec"


class Nats(Peer):
    name, title, driver = "nats", "NATS JetStream", "nats"
    package = program = "nats-server"
    confirm = "in the page cache: written to its file"
    settings = ["jetstream: storage file, 1 replica; its defaults otherwise",
                "consumers: push, explicit acks, max_ack_pending 10000"]

    def configure(self):
        self.write("nats.conf", [f"listen: 127.0.0.1:{self.port}", "jetstream {",
                                 f'  store_dir: "{self.folder}/jetstream"',
                                 "  max_file_store: 1TB", "}"])

    def command(self):
        return [self.find(), "-c", os.path.join(self.folder, "nats.conf")]


class Mosquitto(Peer):
    name, title, driver = "mosquitto", "mosquitto, QoS 1", "mqtt"
    package = program = "mosquitto"
    confirm = "in its memory"
    settings = ["persistence false", "max_inflight_messages 0", "max_queued_messages 0",
                "set_tcp_nodelay true"]
    version_words = ["-h"]
    measures_restart = False

    def configure(self):
        self.write("mosquitto.conf", [f"listener {self.port} 127.0.0.1", "allow_anonymous true",
                                      f"user {pwd.getpwuid(os.getuid()).pw_name}",
                                      *self.settings])

    def command(self):
        return [self.find(), "-c", os.path.join(self.folder, "mosquitto.conf")]


class RabbitMq(Peer):
    """Its scripts as Debian has them, with every path and port its own, and a
    name server of Erlang's (epmd) that is ours as well: none is left running."""
    name, title, driver = "rabbitmq", "RabbitMQ quorum queue", "amqp"
    package = program = "rabbitmq-server"
    confirm = "on disk: synced by the majority, which is this one"
    settings = ["x-queue-type quorum, persistent messages, prefetch 10000",
                "its defaults otherwise, no plugins"]
    script = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # the one on PATH changes the user

    def __init__(self):
        super().__init__()
        self.names = None
        self.names_port = self.own_port = None

    def find(self):
        found = super().find()
        return self.script if found == "/usr/sbin/rabbitmq-server" and os.access(
            self.script, os.X_OK) else found

    def version(self):
        done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", self.package],
                              capture_output=True, text=True)
        return done.stdout.split("-")[0] or "?"

    def configure(self):
        self.names_port, self.own_port = free_port(), free_port()
        self.write("rabbitmq.conf", [f"listeners.tcp.1 = 127.0.0.1:{self.port}"])
        self.write("enabled_plugins", ["[]."])

    def environment(self):
        inside = {"HOME": "", "RABBITMQ_MNESIA_BASE": "mnesia", "RABBITMQ_LOG_BASE": "logs",
                  "RABBITMQ_CONFIG_FILE": "rabbitmq.conf", "RABBITMQ_PID_FILE": "pid",
                  "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
                  "RABBITMQ_GENERATED_CONFIG_DIR": "generated",
                  "RABBITMQ_ADVANCED_CONFIG_FILE": "advanced.config"}
        more = {name: os.path.join(self.folder, path) for name, path in inside.items()}
        return {**os.environ, **more, "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_NODENAME": f"compare-{self.port}@localhost",
                "RABBITMQ_DIST_PORT": str(self.own_port), "RABBITMQ_LOGS": "-",
                "ERL_EPMD_PORT": str(self.names_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                    "-kernel inet_dist_use_interface {127,0,0,1}"}

    def command(self):
        return [self.find()]

    def start(self):
        epmd = shutil.which("epmd", path=PLACES)
        if epmd:
            self.names = processes.start([epmd, "-address", "127.0.0.1", "-port",
                                          str(self.names_port)], self.log(), cwd=self.folder)
        super().start()

    def kill(self):
        super().kill()
        if self.names is not None:
            processes.end(self.names)
            self.names = None


def all_peers(build):
    return [Godwit(build), RabbitMq(), Redis(), Nats(), RedisEverysec(), Mosquitto()]
