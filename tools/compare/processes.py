"""Processes that this program starts, and what they use. All of them are ended
at the end, also those that a broker put into a session of its own: what loses
its parent becomes ours."""
import ctypes
import os
import resource
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TICK = 1 / os.sysconf("SC_CLK_TCK")
libc = ctypes.CDLL(None)


def adopt_orphans():
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def in_child():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


RUNNING = []  # those started here that may still run


def start(words, log=None, **more):
    """In a session of its own: Ctrl-C is ours to pass on."""
    out = open(log, "ab") if log else subprocess.DEVNULL
    try:
        process = subprocess.Popen(words, stdin=more.pop("stdin", subprocess.DEVNULL),
                                   stdout=more.pop("stdout", out), stderr=more.pop("stderr", out),
                                   start_new_session=True, preexec_fn=in_child, **more)
    finally:
        if log:
            out.close()
    RUNNING[:] = [one for one in RUNNING if one.poll() is None] + [process]
    return process


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def table():
    """pid -> (parent, name, seconds, seconds of ended children) of all processes."""
    found = {}
    for name in os.listdir("/proc"):
        text = read(f"/proc/{name}/stat") if name.isdigit() else ""
        if text:
            fields = text[text.rindex(")") + 2:].split()
            found[int(name)] = (int(fields[1]), text[text.index("(") + 1:text.rindex(")")],
                                (int(fields[11]) + int(fields[12])) * TICK,
                                (int(fields[13]) + int(fields[14])) * TICK)
    return found


def below(pid, processes):
    """The pids of all that descends from `pid`, itself left out."""
    children = {}
    for one, (parent, *_) in processes.items():
        children.setdefault(parent, []).append(one)
    found, waiting = [], list(children.get(pid, []))
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children.get(one, [])
    return found


def cpu_seconds(pid):
    """Of a process and all below it, the ended ones too."""
    processes = table()
    return sum(sum(processes[one][2:]) for one in [pid, *below(pid, processes)]
               if one in processes)


def memory_bytes(pid):
    """Of a process and all below it: anonymous and shared memory. Mapped files are
    the page cache's, which it gives back when somebody needs it."""
    total = 0
    for one in [pid, *below(pid, table())]:
        for line in read(f"/proc/{one}/status").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


def kill_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def end(process, term_seconds=0):
    """End a process and all below it; SIGTERM first where it has time for that."""
    if term_seconds and process.poll() is None:
        process.terminate()
        try:
            process.wait(term_seconds)
        except subprocess.TimeoutExpired:
            pass
    pids = below(process.pid, table()) if process.poll() is None else []
    kill_all([process.pid, *pids] if process.poll() is None else pids)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    process.wait()
    end_orphans()


def end_orphans():
    """What has become ours because its parent ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        ours = orphans()
        if not ours:
            return
        kill_all(ours)
        for pid in ours:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


def orphans():
    known = {one.pid for one in RUNNING if one.poll() is None}
    return [pid for pid, (parent, *_) in table().items()
            if parent == os.getpid() and pid not in known]


def end_everything():
    for process in RUNNING:
        end(process)
    RUNNING.clear()
    end_orphans()
