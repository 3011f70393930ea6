#!/usr/bin/env python3
"""The client's example programs, as a reader of its header would run them."""
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import die_with_parent
from harness import TOP, case, check, check_equal, main


def example(env, name):
    found = [p for p in glob.glob(os.path.join(env.build, "client", "**", name), recursive=True)
             if os.access(p, os.X_OK) and os.path.isfile(p)]
    check(found, f"{name} was not built")
    return found[0]


main()
