#!/usr/bin/env python3
"""The books of every lane, which the end of every system test asks for."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import LANE_PARTS, book_faults
from harness import case, check, check_equal, main
from http_api import Answer


class Said:
    """A broker that says what it is told to."""

    def __init__(self, lane, differences="0"):
        self.answers = {
            "/v1/groups": json.dumps({"groups": [{"name": "audit"}]}),
            "/v1/groups/audit": json.dumps({"name": "audit", "lanes": [lane]}),
            "/metrics": f"godwit_books_differences_total {differences}\n" if differences else "",
        }

    def get(self, path):
        return Answer(200, {}, self.answers[path].encode())


def lane(published, **parts):
    return {"topic": "orders", "published": str(published),
            **{name: str(count) for name, count in parts.items()}}


@case(short=True)
def books_that_balance_are_no_fault(_env):
    parts = {name: i + 1 for i, name in enumerate(LANE_PARTS)}
    check_equal(book_faults(Said(lane(sum(parts.values()), **parts))), [], "faults")


@case(short=True)
def one_message_more_or_less_anywhere_is_found(_env):
    parts = {name: i + 1 for i, name in enumerate(LANE_PARTS)}
    total = sum(parts.values())
    for name in LANE_PARTS:
        for change in (-1, 1):
            wrong = {**parts, name: parts[name] + change}
            check(book_faults(Said(lane(total, **wrong))), f"{name} {change:+d}: not found")


@case(short=True)
def a_difference_that_the_broker_found_is_found(_env):
    check(book_faults(Said(lane(0), differences="1")), "one difference: not found")
    check(book_faults(Said(lane(0), differences=None)), "no such figure: not found")
    check(book_faults(Said({**lane(0), "balanced": False})), "not balanced: not found")


main()
