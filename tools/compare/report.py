"""The figures of a comparison as Markdown, JSON and a plot. Nothing here is typed by
hand: a document quotes these files."""
import json
import os
import shutil
import statistics
import subprocess

from scenarios import ROWS, SCENARIOS

BUSY = 0.10  # others used so much of the machine: the figure is doubtful
DOUBTS_MAX = 12  # named one by one
PLOT_SECONDS = 60


class Results:
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


def cell(results, peer, row):
    value = results.median(peer, row)
    if value is None:
        failed = peer.name in results.missing or any(
            run["peer"] == peer.name and (row in SCENARIOS[run["scenario"]][1])
            for run in results.failures())
        return "failed" if failed else "–"
    text = shown(row, value)
    godwit = results.median(results.peers[0], row)
    if peer is results.peers[0]:
        return f"**{text}**"
    return text + times_better(row, godwit, value)


def table(results, value_of):
    lines = ["| | " + " | ".join(peer.title for peer in results.peers) + " |",
             "|---" * (len(results.peers) + 1) + "|"]
    for row in results.rows():
        lines.append(f"| {results.text_of(row)} | "
                     + " | ".join(value_of(results, peer, row) for peer in results.peers) + " |")
    return lines


def medians(results):
    lines = table(results, cell)
    confirms = " | ".join(peer.confirm for peer in results.peers)
    return [*lines[:2], f"| a confirm means | {confirms} |", *lines[2:], "", *legend(results)]


def legend(results):
    o = results.options
    return [f"Medians of {o.rounds} round{'s' if o.rounds > 1 else ''}; without a unit: messages (of "
            "groups: deliveries) a second. In brackets how many times better Godwit is; below 1 the "
            "other one is. Window 1,000, one connection a producer. Latency is open loop, from the "
            "intended send time, 1 KiB. Each message is acked by itself; Godwit's client sends acks "
            "that are in order as one range, the others' protocols an ack for each."]


def machine_line(results):
    m = results.machine
    return (f"{m['cores']} cores, {m['processor']}, {m['memory_gib']} GiB, {m['system']}, "
            f"Linux {m['kernel']}, {m['filesystem']}; broker and load share it")


def quote(results):
    """What README says of it."""
    return [f"Measured by `{command(results)}` on {results.began}; {machine_line(results)}. Lowest "
            "and highest, settings and circumstances: [RESULTS.md](tools/compare/RESULTS.md).",
            "", *medians(results)]


def spread(results, peer, row):
    values = results.values(peer, row)
    return f"{shown(row, min(values))} to {shown(row, max(values))}" if values else "–"


def command(results):
    return f"tools/compare/compare {results.options.command}".strip()


def markdown(results):
    o = results.options
    how = " [README.md](README.md) says what is measured and how fair it is." if o.in_tree else ""
    lines = ["# Godwit beside other brokers", "",
             f"Written by `{command(results)}` on {results.began}; it took "
             f"{duration(results.took)}.{how}", "",
             f"Machine: {machine_line(results)}. Each throughput was measured for about "
             f"{o.seconds:g} s after a warm-up; the order was shuffled with seed {o.seed}.", "",
             *medians(results), ""]
    if o.rounds > 1:
        lines += ["## Lowest to highest", "", *table(results, spread), ""]
    lines += [*circumstances(results), "", "## Settings", ""]
    for peer in results.peers:
        lines.append(f"- **{peer.title}** {version(results, peer)}: "
                     + "; ".join(f"`{line}`" for line in peer.settings))
    return "\n".join(lines) + "\n"


def version(results, peer):
    number = results.machine["versions"].get(peer.name, "")
    of_tree = results.machine.get("commit") if peer is results.peers[0] else None
    return f"{number}, commit {of_tree}" if of_tree else number


def doubts(results):
    """Of what was measured while others were busy."""
    busy = results.busy_runs()
    if not busy:
        return []
    who = sorted({name for run in busy for name in run["who"]})
    lines = [f"- **{len(busy)} of {len(results.runs)} measurements are doubtful**: others used more "
             f"than {BUSY:.0%} meanwhile ({', '.join(who) or 'short-lived'})."]
    if len(busy) <= DOUBTS_MAX:
        lines += [f"- doubtful: {run['peer']}, {run['what']}, round {run['round']}: others used "
                  f"{run['others']:.0%}" for run in busy]
    return lines


def circumstances(results):
    disks = [run["disk"]["median_us"] for run in results.runs if "disk" in run]
    others = [run["others"] for run in results.runs if "others" in run]
    stolen = [run["stolen"] for run in results.runs if "stolen" in run]
    lines = ["## Circumstances", ""]
    if disks:
        lines.append(f"- fdatasync of 4 KiB before each measurement: median "
                     f"{statistics.median(disks):.0f} µs ({min(disks):.0f} to {max(disks):.0f}).")
    if others:
        lines.append(f"- Other programs used {statistics.median(others):.1%} of the processors "
                     f"(at most {max(others):.1%}); the hypervisor took at most "
                     f"{max(stolen):.1%}.")
    lines += doubts(results)
    for name, why in results.missing.items():
        lines.append(f"- {name} was not measured: {why}")
    for run in results.failures():
        lines.append(f"- failed: {run['peer']}, {run['what']}, round {run['round']}: "
                     f"{run['failed']}")
    return lines


def as_json(results):
    o = results.options
    return {"command": command(results), "began": results.began,
            "seconds": results.took, "rounds": o.rounds, "seed": o.seed,
            "seconds_each": o.seconds, "queued": o.queued, "machine": results.machine,
            "peers": {peer.name: {"title": peer.title, "confirm": peer.confirm,
                                  "settings": peer.settings} for peer in results.peers},
            "missing": results.missing,
            "medians": {peer.name: {row: results.median(peer, row) for row in results.rows()}
                        for peer in results.peers},
            "units": {row: ROWS[row][1] for row in results.rows()}, "quote": quote(results),
            "runs": results.runs}


# --- the plot ---

PANELS = [("messages or deliveries a second (more is better; logarithmic)",
           ["publish_128", "publish_1k", "publish_16k", "publish_4x1k", "endtoend_128",
            "endtoend_1k", "fanout_10", "fanout_100"]),
          ("µs from the intended send time to delivery, 1 KiB at 5,000 messages a second "
           "(less is better; logarithmic)", ["latency_p50", "latency_p99"])]


def plot_title(peer):
    return peer.title + (" (synced)" if peer.confirm.startswith("on disk") else "")


def plot_script(results, path):
    panels = [(title, [row for row in rows if row in results.rows()]) for title, rows in PANELS]
    panels = [(title, rows) for title, rows in panels
              if any(results.values(peer, row) for peer in results.peers for row in rows)]
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
            cells = [results.median(peer, row) for peer in results.peers]
            label = results.text_of(row).replace("send to push at 5,000/s, ", "").replace(
                ", ", "\\n")
            lines.append(f'"{label}" ' + " ".join("?" if c is None else f"{c:.6g}" for c in cells))
        lines.append("EOD")
        lines.append("set datafile missing '?'")
        lines.append("plot " + ", ".join(
            f"$figures using {column + 2}:xtic(1) title '{plot_title(peer)}' noenhanced"
            for column, peer in enumerate(results.peers)))
    return "\n".join(lines) + "\n"


def plot(results, path):
    """An error text, or None."""
    program = shutil.which("gnuplot")
    if program is None:
        return "no plot: gnuplot is not installed"
    script = plot_script(results, path)
    if script is None:
        return "no plot: no rates"
    try:
        done = subprocess.run([program], input=script, text=True, capture_output=True,
                              timeout=PLOT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no plot: gnuplot did not end within {PLOT_SECONDS} s"
    return None if done.returncode == 0 else f"no plot: gnuplot: {done.stderr.strip()[:200]}"


def write(results, folder):
    """All three; lines about what was written and what was not."""
    os.makedirs(folder, exist_ok=True)
    text, figures, drawn = (os.path.join(folder, "RESULTS." + kind) for kind in ("md", "json", "svg"))
    with open(figures, "w") as file:
        json.dump(as_json(results), file, indent=1)
        file.write("\n")
    problem = plot(results, drawn)
    if problem and os.path.exists(drawn):
        os.unlink(drawn)  # of another run
    with open(text, "w") as file:
        file.write(markdown(results) + ("" if problem else "\n![rates](RESULTS.svg)\n"))
    written = [figures, text] + ([] if problem else [drawn])
    return ["written: " + path for path in written] + ([problem] if problem else [])
