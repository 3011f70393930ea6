"""The figures of a sitting as Markdown, JSON and a plot. Nothing here is typed by
hand: a document quotes these files."""
import json
import os
import shutil
import statistics
import subprocess

from scenarios import ROWS, SCENARIOS

BUSY = 0.10  # others used so much of the machine: the figure is doubtful
PLOT_SECONDS = 60


class Sitting:
    def __init__(self, options, peers, machine):
        self.options = options
        self.peers = peers
        self.machine = machine
        self.runs = []       # one a measurement
        self.missing = {}    # peer -> why it was not measured
        self.began = self.took = None

    def add(self, round_number, peer, scenario, what, values, circumstances):
        self.runs.append({"round": round_number, "peer": peer.name, "scenario": scenario,
                          "what": what, **circumstances,
                          **({"failed": values} if isinstance(values, str) else
                             {"values": values})})

    def failures(self):
        return [run for run in self.runs if "failed" in run]

    def values(self, peer, row):
        return [run["values"][row] for run in self.runs
                if run["peer"] == peer.name and row in run.get("values", {})]

    def median(self, peer, row):
        values = self.values(peer, row)
        return statistics.median(values) if values else None

    def rows(self):
        return [row for name in self.options.scenarios for row in SCENARIOS[name][1]]

    def text_of(self, row):
        return ROWS[row][0].format(queued=human(self.options.queued))

    def busy_runs(self):
        return [run for run in self.runs if run.get("others", 0) > BUSY]


def human(value):
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1000:
        return f"{value / 1e3:.3g} k"
    return f"{value:.3g}"


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def shown(row, value):
    unit = ROWS[row][1]
    if unit == "msg/s":
        return human(value)
    if value >= 1000:
        return f"{value:,.0f} {unit}".replace("us", "µs")
    return f"{value:.3g} {unit}".replace("us", "µs")


def with_unit(row, value):
    unit = ROWS[row][1]
    return shown(row, value) + (" msg/s" if unit == "msg/s" else "")


def times_better(row, godwit, other):
    """How many times better Godwit is; below 1 the other is."""
    if not godwit or not other:
        return ""
    ratio = godwit / other if ROWS[row][2] else other / godwit
    return f" ({ratio:.2g}×)" if ratio < 100 else f" ({ratio:.0f}×)"


def cell(sitting, peer, row):
    value = sitting.median(peer, row)
    if value is None:
        failed = peer.name in sitting.missing or any(
            run["peer"] == peer.name and (row in SCENARIOS[run["scenario"]][1])
            for run in sitting.failures())
        return "failed" if failed else "–"
    text = shown(row, value)
    godwit = sitting.median(sitting.peers[0], row)
    if peer is sitting.peers[0]:
        return f"**{text}**"
    return text + times_better(row, godwit, value)


def table(sitting, value_of):
    lines = ["| | " + " | ".join(peer.title for peer in sitting.peers) + " |",
             "|---" * (len(sitting.peers) + 1) + "|",
             "| a confirm means | " + " | ".join(peer.confirm for peer in sitting.peers) + " |"]
    for row in sitting.rows():
        lines.append(f"| {sitting.text_of(row)} | "
                     + " | ".join(value_of(sitting, peer, row) for peer in sitting.peers) + " |")
    return lines


def spread(sitting, peer, row):
    values = sitting.values(peer, row)
    return f"{shown(row, min(values))} to {shown(row, max(values))}" if values else "–"


def markdown(sitting):
    o, m = sitting.options, sitting.machine
    lines = ["# Godwit beside other brokers", "",
             f"Written by `tools/compare/compare {o.command}` on {sitting.began}; it took "
             f"{duration(sitting.took)}. [README.md](README.md) says what is measured and "
             "how fair it is." if o.in_tree else
             f"Written by `tools/compare/compare {o.command}` on {sitting.began}; it took "
             f"{duration(sitting.took)}.", "",
             f"Machine: {m['cores']} cores, {m['processor']}, {m['memory_gib']} GiB, "
             f"{m['system']}, Linux {m['kernel']}, {m['filesystem']}; broker and load share it. "
             f"Medians of {o.rounds} round{'s' if o.rounds > 1 else ''}; each throughput was measured "
             f"for about {o.seconds:g} s after a warm-up; the order was shuffled with seed "
             f"{o.seed}.", "",
             "In brackets: how many times better Godwit is; below 1 the other one is.", ""]
    lines += table(sitting, cell)
    lines += ["", "Window 1,000, one connection a producer. Latency open loop, from the intended "
              "send time, 1 KiB, single acks.", ""]
    if o.rounds > 1:
        lines += ["## Lowest to highest", "", *table(sitting, spread), ""]
    lines += [*circumstances(sitting), "", "## Settings", ""]
    for peer in sitting.peers:
        lines.append(f"- **{peer.title}** {sitting.machine['versions'].get(peer.name, '')}: "
                     + "; ".join(f"`{line}`" for line in peer.settings))
    return "\n".join(lines) + "\n"


def circumstances(sitting):
    disks = [run["disk"]["median_us"] for run in sitting.runs if "disk" in run]
    others = [run["others"] for run in sitting.runs if "others" in run]
    stolen = [run["stolen"] for run in sitting.runs if "stolen" in run]
    lines = ["## Circumstances", ""]
    if disks:
        lines.append(f"- fdatasync of 4 KiB before each measurement: median "
                     f"{statistics.median(disks):.0f} µs ({min(disks):.0f} to {max(disks):.0f}).")
        lines.append(f"- Other programs used {statistics.median(others):.1%} of the processors "
                     f"(at most {max(others):.1%}); the hypervisor took at most "
                     f"{max(stolen):.1%}.")
    busy = sitting.busy_runs()
    if busy:
        who = sorted({name for run in busy for name in run["who"]})
        lines.append(f"- **{len(busy)} of {len(sitting.runs)} measurements are doubtful**: others "
                     f"used more than {BUSY:.0%} meanwhile ({', '.join(who) or 'short-lived'}).")
    for name, why in sitting.missing.items():
        lines.append(f"- {name} was not measured: {why}")
    for run in sitting.failures():
        lines.append(f"- failed: {run['peer']}, {run['what']}, round {run['round']}: "
                     f"{run['failed']}")
    return lines


def as_json(sitting):
    o = sitting.options
    return {"command": "tools/compare/compare " + o.command, "began": sitting.began,
            "seconds": sitting.took, "rounds": o.rounds, "seed": o.seed,
            "seconds_each": o.seconds, "queued": o.queued, "machine": sitting.machine,
            "peers": {peer.name: {"title": peer.title, "confirm": peer.confirm,
                                  "settings": peer.settings} for peer in sitting.peers},
            "missing": sitting.missing,
            "medians": {peer.name: {row: sitting.median(peer, row) for row in sitting.rows()}
                        for peer in sitting.peers},
            "units": {row: ROWS[row][1] for row in sitting.rows()}, "runs": sitting.runs}


# --- the plot ---

PANELS = [("messages a second (higher is better)",
           ["publish_128", "publish_1k", "publish_16k", "publish_4x1k", "endtoend_128",
            "endtoend_1k", "fanout_10", "fanout_100"]),
          ("µs (lower is better)", ["latency_p50", "latency_p99"])]


def plot_script(sitting, path):
    panels = [(title, [row for row in rows if row in sitting.rows()]) for title, rows in PANELS]
    panels = [(title, rows) for title, rows in panels
              if any(sitting.values(peer, row) for peer in sitting.peers for row in rows)]
    if not panels:
        return None
    lines = [f"set terminal svg size 1100,{420 * len(panels)} font 'sans,11' background 'white'",
             f"set output '{path}'", f"set multiplot layout {len(panels)},1",
             "set bmargin 5", "set style data histogram", "set style histogram clustered gap 1",
             "set style fill solid 0.9", "set logscale y", "set format y '%.0s%c'",
             "set grid y", "set key outside right top", "set xtics noenhanced"]
    for title, rows in panels:
        lines += [f"set title '{title}'", "$figures << EOD"]
        for row in rows:
            cells = [sitting.median(peer, row) for peer in sitting.peers]
            label = sitting.text_of(row).replace(", ", "\\n").replace("send to push at ", "")
            lines.append(f'"{label}" ' + " ".join("?" if c is None else f"{c:.6g}" for c in cells))
        lines.append("EOD")
        lines.append("set datafile missing '?'")
        lines.append("plot " + ", ".join(
            f"$figures using {column + 2}:xtic(1) title '{peer.title}' noenhanced"
            for column, peer in enumerate(sitting.peers)))
    return "\n".join(lines) + "\n"


def plot(sitting, path):
    """An error text, or None."""
    program = shutil.which("gnuplot")
    if program is None:
        return "no plot: gnuplot is not installed"
    script = plot_script(sitting, path)
    if script is None:
        return "no plot: no rates"
    done = subprocess.run([program], input=script, text=True, capture_output=True,
                          timeout=PLOT_SECONDS)
    return None if done.returncode == 0 else f"no plot: gnuplot: {done.stderr.strip()[:200]}"


def write(sitting, folder):
    """All three; lines about what was written and what was not."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, "RESULTS." + kind) for kind in ("md", "json", "svg")]
    problem = plot(sitting, paths[2])
    with open(paths[0], "w") as file:
        file.write(markdown(sitting) + ("" if problem else "\n![rates](RESULTS.svg)\n"))
    with open(paths[1], "w") as file:
        json.dump(as_json(sitting), file, indent=1)
        file.write("\n")
    return ["written: " + path for path in paths if os.path.exists(path)] + (
        [problem] if problem else [])
