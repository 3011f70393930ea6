#!/usr/bin/env python3
"""`godwit bench`: what it measures adds up, and whatever goes wrong it says so in one
line and leaves nothing behind."""
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import die_with_parent, end_process
from harness import Skip, case, check, check_equal, check_in, main, wait_until


FAILED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
POINTS = ("p50", "p90", "p99", "p99_9", "p99_99", "max")
ENDLESS = ("--count", "100M")


def figures_of(broker, *words, **options):
    """Its JSON; nothing but that on stdout, and nothing on stderr."""
    done = broker.godwit("bench", *words, "--json", **options)
    check_equal(done.stderr, b"", f"bench {words}: stderr")
    return json.loads(done.stdout)


def check_percentiles(figures, *names):
    """In order, and those above the median only with a value beyond them."""
    for name in names:
        count = figures[name]["count"]
        values = [figures[name][point] for point in POINTS if figures[name][point] is not None]
        check(values[0] > 0 and values == sorted(values), f"{name}: {figures[name]}")
        for point, each in (("p90", 10), ("p99", 100), ("p99_9", 1000), ("p99_99", 10000)):
            check_equal(figures[name][point] is not None, count >= each, f"{name}: {figures[name]}")


def check_costs(figures):
    check(figures["load_cpu_us"] > 0 and figures["broker_cpu_us"] > 0, f"{figures}")


def nothing_left(broker):
    http = broker.http()
    check_equal(http.get("/v1/topics").json["topics"], [], "topics left behind")
    check_equal(http.get("/v1/groups").json["groups"], [], "groups left behind")


def one_line(done, code, words):
    """It failed as it should, and said so in one line of its own."""
    said = done.stderr.decode() if isinstance(done.stderr, bytes) else done.stderr
    check_equal(done.returncode, code, f"bench {words}: {said!r}; exit code")
    check_equal(done.stdout, b"", f"bench {words}: stdout")
    ours = [line for line in said.splitlines()
            if not line.startswith(("usage: ", "(--help "))]
    check(len(ours) == 1 and ours[0].startswith("godwit: "), f"bench {words}: {said!r}")
    return ours[0]


def certificate(env):
    cert, key = env.path("broker.pem"), env.path("broker.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key


def needs_gnuplot():
    if shutil.which("gnuplot") is None:
        raise Skip("gnuplot is not installed (tools/install-packages bench)")


# --- what it measures ---


@case(short=True, threads=True, timeout=120)
def what_goes_in_comes_out_by_either_way(env):
    broker = env.broker()
    for words in (("--producers", "3", "--consumers", "2"), ("--pull", "--consumers", "2"),
                  ("--protocol", "json"), ("--protocol", "json", "--pull", "--producers", "2")):
        figures = figures_of(broker, "endtoend", "--count", "3000", *words)
        for name in ("confirmed", "delivered", "accepted"):
            check_equal(figures[name], 3000, f"{words}: {name}")
        check_equal((figures["failed"], figures["not_accepted"]), (0, 0), f"{words}")
        check_equal(figures["protocol"], "json" if "json" in words else "proto", f"{words}")
        check_equal(figures["pull"], "--pull" in words, f"{words}")
        check_percentiles(figures, "delivery_us", "confirm_us")
        check_costs(figures)
    nothing_left(broker)


@case(short=True, timeout=120)
def publish_latency_and_fanout_speak_both(env):
    broker = env.broker()
    for protocol in ("proto", "json"):
        more = ("--protocol", protocol)
        figures = figures_of(broker, "publish", "--count", "3000", "--producers", "3", *more)
        check_equal((figures["confirmed"], figures["failed"]), (3000, 0), f"{figures}")
        check_percentiles(figures, "confirm_us")
        check_costs(figures)
        figures = figures_of(broker, "fanout", "--count", "300", "--groups", "7", *more)
        check_equal((figures["delivered"], figures["accepted"]), (2100, 2100), f"{figures}")
        check_percentiles(figures, "delivery_us")
        for way in ((), ("--pull",)):
            figures = figures_of(broker, "latency", "--rate", "500", "--count", "200", *more, *way)
            check_equal(figures["measured"], 200, f"{figures}")
            check_percentiles(figures, "delivery_us", "confirm_us", "echo_us", "late_us")
            check_costs(figures)
    nothing_left(broker)


@case(short=True, threads=True, timeout=120)
def mixed_acks_all_in_both_groups_and_some_fail_first(env):
    broker = env.broker()
    for protocol in ("proto", "json"):
        figures = figures_of(broker, "mixed", "--count", "6000", "--producers", "3",
                             "--topics", "2", "--protocol", protocol, seconds=60)
        for name in ("confirmed", "pushed", "pulled"):
            check_equal(figures[name], 6000, name)
        check(figures["nacked"] > 0, f"{figures}")
        check_equal(figures["repeated"], figures["nacked"], "each that was nacked came once more")
        check_percentiles(figures, "push_us", "pull_us", "confirm_us")
    nothing_left(broker)


@case(timeout=120)
def over_tls(env):
    cert, key = certificate(env)
    broker = env.broker(config={"tls": {"certificate": cert, "key": key}})
    settings = dict(broker.godwit_env(), GODWIT_URL=f"wss://{broker.address}")
    for words in (("publish", "--count", "2000"), ("endtoend", "--count", "2000"),
                  ("endtoend", "--count", "2000", "--pull"),
                  ("endtoend", "--count", "2000", "--protocol", "json")):
        figures = figures_of(broker, *words, "--ca", cert, env=settings)
        check_equal((figures["tls"], figures["confirmed"]), (True, 2000), f"{words}")
    done = broker.godwit("bench", "publish", env=settings, check_code=None)
    check_in("certificate", one_line(done, UNREACHABLE, "an unknown certificate"), "it")


@case(timeout=120)
def a_result_is_a_share_of_the_limit(env):
    broker = env.broker()
    disk = figures_of(broker, "disk", "--dir", env.path())
    for name in ("group_bytes_per_second", "batch_bytes_per_second", "read_bytes_per_second",
                 "loopback_bytes_per_second"):
        check(disk[name] > 0, f"{name}: {disk}")
    check_equal(disk["append_bytes_per_second"],
                max(disk["group_bytes_per_second"], disk["batch_bytes_per_second"]), "the better")
    check_percentiles(disk, "sync_us")
    for size in (128, 1024, 16384):
        ratio = disk["append_bytes_per_second"] / size / disk[f"messages_per_second_{size}"]
        check(0.99 < ratio < 1.01, f"{size}: {disk}")
    here = os.listdir(env.path())
    for words in (("publish", "--count", "20k"), ("endtoend", "--count", "20k"),
                  ("fanout", "--count", "2k"), ("mixed", "--count", "5k")):
        figures = figures_of(broker, *words, "--dir", env.path())
        share = 100 * (figures.get("bytes_per_second") or figures["messages_per_second"] * 1024) / \
            figures["disk_bytes_per_second"]
        check(abs(figures["disk_percent"] / share - 1) < 0.01, f"{words}: {figures}")
    figures = figures_of(broker, "latency", "--rate", "500", "--count", "200", "--dir", env.path())
    check(figures["p50_to_limit"] > 0, f"{figures}")
    check_percentiles(figures, "echo_us", "synced_echo_us")
    check_equal(os.listdir(env.path()), here, "files left behind")
    nothing_left(broker)


@case(timeout=120)
def a_plot_is_drawn(env):
    needs_gnuplot()
    broker = env.broker()
    os.mkdir(env.path("plots"))
    for words, curves in ((("publish", "--count", "2000"), ["send to confirm"]),
                          (("endtoend", "--count", "2000"), ["send to push", "send to confirm"]),
                          (("latency", "--rate", "500", "--count", "200"),
                           ["send to push", "send to confirm", "loopback echo"]),
                          (("fanout", "--count", "200"), ["send to push"]),
                          (("mixed", "--count", "2000"), ["send to push", "send to pull"])):
        path = env.path("plots", f"{words[0]}.svg")
        with open(path, "w") as file:
            file.write("an older one")
        figures_of(broker, *words, "--plot", path)
        with open(path) as file:
            drawn = file.read()
        check(drawn.startswith("<?xml") and drawn.rstrip().endswith("</svg>"), f"{drawn[:300]}")
        for text in (f"godwit bench {words[0]}", "percentile", "99 %", *curves):
            check_in(text, drawn, f"{words[0]}.svg")
    check_equal(len(os.listdir(env.path("plots"))), 5, "files in the folder")


# --- what makes no sense ---


@case(short=True, timeout=120)
def nonsense_is_refused_in_one_line(env):
    broker = env.broker()
    os.mkdir(env.path("folder.svg"))
    for words, part in ((("dance",), "dance"), (("publish", "now"), "now"),
                        (("publish", "--window", "0"), "--window 0"),
                        (("publish", "--window", "65537"), "65536"),
                        (("publish", "--size", "1048577"), "1048576"),
                        (("publish", "--size", "15"), "16"),
                        (("publish", "--count", "0"), "--count 0"),
                        (("publish", "--count", "many"), "many"),
                        (("publish", "--producers", "0"), "--producers 0"),
                        (("publish", "--producers", "1001"), "1000"),
                        (("publish", "--rate", "5"), "--rate"),
                        (("latency", "--rate", "0"), "--rate 0"),
                        (("latency", "--window", "5"), "--window"),
                        (("endtoend", "--consumers", "0"), "--consumers 0"),
                        (("endtoend", "--consumers", "251"), "250"),
                        (("fanout", "--groups", "0"), "--groups 0"),
                        (("mixed", "--topics", "0"), "--topics 0"),
                        (("mixed", "--topics", "33"), "32"),
                        (("publish", "--protocol", "xml"), "xml"),
                        (("publish", "--plot", "x.png"), ".svg")):
        said = one_line(broker.godwit("bench", *words, check_code=None), USAGE, words)
        check_in(part, said, f"bench {words}")
    for words, part in ((("publish", "--plot", "/nowhere/x.svg"), "/nowhere/x.svg"),
                        (("publish", "--plot", env.path("folder.svg")), "folder"),
                        (("publish", "--dir", "/nowhere"), "--dir /nowhere: "),
                        (("latency", "--dir", "/nowhere"), "--dir /nowhere: "),
                        (("disk", "--dir", "/nowhere"), "--dir /nowhere: "),
                        (("disk", "--dir", broker.credentials_path), "admin.credentials")):
        said = one_line(broker.godwit("bench", *words, check_code=None), FAILED, words)
        check_in(part, said, f"bench {words}")
    nothing_left(broker)
    check_equal(os.listdir(env.path("folder.svg")), [], "files left behind")


@case(timeout=120)
def what_is_just_allowed_works(env):
    broker = env.broker()
    for words in (("publish", "--size", "1048576", "--count", "3"),
                  ("publish", "--size", "1M", "--count", "3", "--protocol", "json"),
                  ("publish", "--size", "16", "--window", "65536", "--count", "70k"),
                  ("publish", "--size", "16", "--window", "1", "--count", "1"),
                  ("endtoend", "--size", "1M", "--count", "3", "--protocol", "json"),
                  ("endtoend", "--pull", "--consumers", "250", "--count", "500"),
                  ("mixed", "--topics", "32", "--count", "600", "--producers", "300")):
        figures_of(broker, *words)
    nothing_left(broker)


@case()
def without_gnuplot_it_is_said_before_the_measurement(env):
    broker = env.broker()
    bare = dict(broker.godwit_env(), PATH=env.path())
    done = broker.godwit("bench", "publish", *ENDLESS, "--plot", env.path("x.svg"), env=bare,
                         check_code=None, seconds=20)
    check_in("gnuplot-nox", one_line(done, FAILED, "--plot"), "it")
    check(not [f for f in os.listdir(env.path()) if "svg" in f], "files left behind")
    nothing_left(broker)


# --- what ends it ---


RUNS = (("publish",), ("publish", "--protocol", "json"), ("endtoend",), ("endtoend", "--pull"),
        ("endtoend", "--protocol", "json"), ("fanout",), ("mixed",),
        ("latency", "--rate", "1000"), ("latency", "--rate", "1000", "--pull"))


def begun(broker, *words):
    """A bench without end, with messages on their way."""
    process = broker.godwit_start("bench", *words, *ENDLESS, "--json")
    http = broker.http()

    def flows():
        check(process.poll() is None, f"bench {words}: {process.poll()}")
        return any(int(http.get(f"/v1/topics/{topic['name']}").json["last_seq"]) > 0
                   for topic in http.get("/v1/topics").json["topics"])
    wait_until(flows, 20, f"messages of bench {words}")
    return process


def ended(process, seconds=20):
    """As subprocess.run() gives it."""
    out, err = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@case()
def no_broker_is_one_line(env):
    broker = env.broker()
    for words in RUNS + (("idle",),):
        done = broker.godwit("bench", *words, "--url", "ws://127.0.0.1:1", check_code=None)
        check_in("127.0.0.1:1", one_line(done, UNREACHABLE, words), f"{words}")


@case(timeout=180)
def a_broker_that_dies_is_one_line(env):
    broker = env.broker()
    for words in RUNS:
        process = begun(broker, *words)
        broker.kill()
        done = ended(process)
        said, left = done.stderr.decode().splitlines()
        check_equal((done.returncode, done.stdout), (UNREACHABLE, b""), f"{words}: {said}")
        check_in("connection", said, f"{words}")
        check(left.startswith("godwit: bench-") and "-* stays on the broker" in left, left)
        shutil.rmtree(broker.data_dir)
        broker.start()


@case(short=True, timeout=180)
def ctrl_c_cleans_up_and_prints_what_there_is(env):
    broker = env.broker()
    for words in RUNS:
        process = begun(broker, *words)
        process.send_signal(signal.SIGINT)
        done = ended(process)
        check_equal((done.returncode, done.stderr), (INTERRUPTED, b""), f"bench {words}")
        check_equal(json.loads(done.stdout)["interrupted"], True, f"bench {words}")
        nothing_left(broker)


@case()
def a_second_ctrl_c_says_what_stays(env):
    broker = env.broker()
    process = begun(broker, "publish")
    broker.process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # what comes at once is one signal: see interrupt.c
    process.send_signal(signal.SIGINT)
    done = ended(process)
    broker.process.send_signal(signal.SIGCONT)
    check_equal(done.returncode, INTERRUPTED, "exit code")
    name = broker.http().get("/v1/topics").json["topics"][0]["name"].rsplit("-", 1)[0]
    check_in(f"godwit: {name}-* stays on the broker", done.stderr.decode(), "leftovers")


@case()
def idle_says_what_is_missing_and_what_there_is(env):
    broker = env.broker()
    done = broker.godwit("bench", "idle", "--pid", str(2**31 - 1), check_code=None)
    check_in("no process 2147483647", one_line(done, FAILED, "--pid"), "--pid")
    process = broker.godwit_start("bench", "idle", "--groups", "20", "--connections", "2",
                                  "--seconds", "60", "--json")
    wait_until(lambda: len(broker.http().get("/v1/groups").json["groups"]) == 20, 20, "groups")
    process.send_signal(signal.SIGINT)
    done = ended(process)
    check_equal((done.returncode, done.stderr), (INTERRUPTED, b""), "idle")
    check_equal(json.loads(done.stdout)["interrupted"], True, "idle")
    nothing_left(broker)
    process = broker.godwit_start("bench", "idle", "--groups", "20", "--seconds", "60")
    wait_until(lambda: len(broker.http().get("/v1/groups").json["groups"]) == 20, 20, "groups")
    broker.kill()
    process.send_signal(signal.SIGINT)
    lines = ended(process).stderr.decode().splitlines()
    check_equal(sum("stays on the broker" in line for line in lines), 1, f"{lines}")
    check(len(lines) <= 2, f"{lines}")


@case()
def a_broker_that_ends_in_restart_shows_its_log(env):
    done = subprocess.run([env.godwit, "bench", "restart", "--godwitd", "/bin/true",
                           "--folder", env.path()], capture_output=True, timeout=30)
    check_in("logged nothing", one_line(done, FAILED, "restart"), "restart")
    done = subprocess.run([env.godwit, "bench", "restart", "--godwitd", "/bin/ls",
                           "--folder", env.path()], capture_output=True, timeout=30)
    check_in("its log ends so:", done.stderr.decode(), "restart")
    check_in("/bin/ls", done.stderr.decode(), "the log's last lines")
    check_equal([f for f in os.listdir(env.path()) if "restart" in f], [], "folders left behind")


@case(timeout=120)
def ctrl_c_while_the_disk_is_measured_leaves_no_file(env):
    broker = env.broker()
    os.mkdir(env.path("disk"))
    for words in (("disk",), ("publish", *ENDLESS)):
        process = broker.godwit_start("bench", *words, "--dir", env.path("disk"), "--json")
        wait_until(lambda p=process: writes(p.pid, env.path("disk")), 20, "its file")
        check_equal(os.listdir(env.path("disk")), [], "names in the folder")
        process.send_signal(signal.SIGINT)
        check_equal(ended(process).returncode, INTERRUPTED, f"bench {words}")
    nothing_left(broker)


def writes(pid, folder):
    """Has it a file open that was in this folder?"""
    names = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            pass
    return any(name.startswith(folder + "/") for name in names)


def small_disk(env, mib):
    path = env.path("small")
    os.mkdir(path)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", path],
                          capture_output=True)
    if done.returncode != 0:
        raise Skip("mount is not permitted: " + done.stderr.decode().strip())
    env.at_end(lambda: subprocess.run(["umount", path], check=True))
    return path


@case()
def a_full_disk_is_said(env):
    broker = env.broker()
    disk = small_disk(env, 64)
    for words in (("disk",), ("publish", "--count", "100")):
        done = broker.godwit("bench", *words, "--dir", disk, check_code=None)
        said = one_line(done, FAILED, words)
        check("full" in said and "128 MiB" in said and disk in said, f"{words}: {said}")
        check_equal(os.listdir(disk), [], "files left behind")
    nothing_left(broker)


@case()
def refused_messages_are_counted_and_fail_it(env):
    if shutil.disk_usage(env.tmp).free >> 40:
        raise Skip("there is more free than a broker may be told to keep free")
    broker = env.broker(config={"store": {"free_mib_min": 1 << 20}})
    done = broker.godwit("bench", "publish", "--count", "500", "--json", check_code=FAILED)
    check_equal(json.loads(done.stdout)["failed"], 500, "refused")
    check_in("not all was confirmed: ", done.stderr.decode(), "why")
    check_equal(len(done.stderr.splitlines()), 1, "lines")
    nothing_left(broker)


@case()
def a_terminal_sees_progress_and_a_file_does_not(env):
    broker = env.broker()
    words = [env.godwit, "bench", "latency", "--rate", "1000", "--count", "1000", "--json"]
    main_end, terminal = pty.openpty()
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=terminal, env=broker.godwit_env(),
                               preexec_fn=die_with_parent)
    env.at_end(lambda: end_process(process))
    out, _ = process.communicate(timeout=30)
    os.set_blocking(main_end, False)
    seen = os.read(main_end, 65536).decode()
    os.close(main_end)
    os.close(terminal)
    check_in(" of 2,000 delivered, ", seen, "progress")
    check_in("/s", seen, "progress")
    check(seen.endswith("\r\033[K"), f"the line is taken away: {seen[-80:]!r}")
    check_equal(json.loads(out)["measured"], 1000, "stdout")
    check_equal(broker.godwit(*words[1:]).stderr, b"", "without a terminal")


main()
