"""Turns the verbose output of ctest into result lines of test/run.

    count_ctest.py PART LOG

A Criterion suite counts its tests one by one, another program counts as one.
"""
import re
import sys


def main():
    part, log = sys.argv[1], sys.argv[2]
    counts = {}  # number of the ctest test -> (tested, failing) of Criterion
    ended = []   # (number, name, verdict)
    with open(log, errors="replace") as lines:
        for line in lines:
            found = re.match(r"^(\d+): .*Synthesis: Tested: (\d+) \| Passing: (\d+)"
                             r" \| Failing: (\d+) \| Crashing: (\d+)", strip(line))
            if found:
                number, tested, passing = map(int, found.groups()[:3])
                counts[number] = (tested, tested - passing)
            found = re.match(r"^\s*\d+/\d+ Test\s+#(\d+): (\S+) \.*\s*(.*?)\s+[\d.]+ sec", line)
            if found:
                ended.append((int(found.group(1)), found.group(2), found.group(3)))
    if not ended:
        print(f"fail\t1\t{part}\tno test ran, see build/test-logs/{part}.log")
    for number, name, verdict in ended:
        tested, failing = counts.get(number, (1, 0))
        if "Passed" in verdict and failing == 0:
            print(f"pass\t{tested}\t{part}/{name}\t")
            continue
        failing = max(failing, 1)
        if tested > failing:
            print(f"pass\t{tested - failing}\t{part}/{name}\t")
        why = verdict.strip("* ")
        print(f"fail\t{failing}\t{part}/{name}\t{why}, see build/test-logs/{part}.log")


def strip(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


main()
