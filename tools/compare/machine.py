"""What else the machine did meanwhile, and the state of its disk."""
import os
import platform
import resource
import time

import processes

PROBES = 20
PROBE_LEN = 4096


def cpu_of_all():
    """Seconds of all cores since the machine's start: (in programs, stolen)."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, _irq, _soft, steal = (
            int(field) for field in file.readline().split()[1:9])
    return (user + nice + system) * processes.TICK, steal * processes.TICK


def cpu_of_own(found):
    """This program's, and that of all it started."""
    used = 0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used + sum(sum(found[pid][2:]) for pid in processes.below(os.getpid(), found))


class Watch:
    """From its making to seen(): who else used the processors."""

    def __init__(self):
        self.began = time.monotonic()
        self.found = processes.table()
        self.all, self.stolen = cpu_of_all()
        self.own = cpu_of_own(self.found)

    def seen(self):
        now = processes.table()
        everything, stolen = cpu_of_all()
        whole = (time.monotonic() - self.began) * os.cpu_count()
        ours = {os.getpid(), *processes.below(os.getpid(), now),
                *processes.below(os.getpid(), self.found)}
        kernel, others = 0, {}
        for pid, (parent, name, used, _) in now.items():
            spent = used - self.found.get(pid, (0, "", 0, 0))[2]
            if pid == 2 or parent == 2:
                kernel += spent
            elif pid not in ours and spent > 0.01 * whole:
                others[name] = others.get(name, 0) + spent / whole
        rest = everything - self.all - (cpu_of_own(now) - self.own) - kernel
        return {"others": max(0, rest) / whole, "kernel": kernel / whole,
                "stolen": (stolen - self.stolen) / whole,
                "who": sorted(others, key=others.get, reverse=True)[:3]}


def probe_disk(folder):
    """How long fdatasync takes after a write of 4 KiB into a file that is there:
    microseconds, median and longest."""
    path = os.path.join(folder, "probe")
    took = []
    with open(path, "wb", buffering=0) as file:
        file.write(bytes(PROBES * PROBE_LEN))
        os.fsync(file.fileno())
        for number in range(PROBES):
            os.pwrite(file.fileno(), bytes([number]) * PROBE_LEN, number * PROBE_LEN)
            began = time.monotonic()
            os.fdatasync(file.fileno())
            took.append((time.monotonic() - began) * 1e6)
    os.unlink(path)
    took.sort()
    return {"median_us": took[PROBES // 2], "max_us": took[-1]}


def free_bytes(folder):
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def filesystem(folder):
    """Its type, from the longest mount point above the folder."""
    best, kind = "", "unknown"
    folder = os.path.realpath(folder)
    with open("/proc/mounts") as file:
        for line in file:
            _device, point, type_, *_ = line.split()
            inside = (folder + "/").startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, type_
    return kind


def describe(folder):
    processor = "unknown processor"
    for line in processes.read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    system = dict(line.split("=", 1) for line in
                  processes.read("/etc/os-release").splitlines() if "=" in line)
    memory = int(processes.read("/proc/meminfo").split()[1]) / 1024 / 1024
    return {"cores": os.cpu_count(), "processor": processor,
            "memory_gib": round(memory, 1), "kernel": platform.release(),
            "system": system.get("PRETTY_NAME", "?").strip('"'),
            "filesystem": filesystem(folder)}
