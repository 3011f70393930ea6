#!/usr/bin/env python3
"""quote.py [--check] README.md RESULTS.json: writes into README what the comparison
says of itself, between two marks. With --check nothing is written, and it fails when
anything else stands there."""
import json
import os
import sys

BEGIN = "<!-- written by tools/compare/compare -->"
END = "<!-- up to here -->"


def quote_of(results):
    """The lines that RESULTS.json has for README; none without a comparison."""
    if not os.path.exists(results):
        return []
    with open(results) as file:
        return json.load(file)["quote"]


def with_quote(text, quote):
    """`text` with these lines between its marks, and blank lines around them."""
    before, mark, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END + "\n")
    if not mark or not end:
        raise ValueError(f"{BEGIN} and {END} are not both there")
    inside = "\n".join(["", *quote, "", ""]) if quote else ""
    return before + mark + inside + end + after


def texts(readme, results):
    """What is there, and what should be."""
    with open(readme) as file:
        text = file.read()
    return text, with_quote(text, quote_of(results))


def write(readme, results):
    wanted = texts(readme, results)[1]
    with open(readme, "w") as file:
        file.write(wanted)


def check(readme, results):
    there, wanted = texts(readme, results)
    if there != wanted:
        sys.exit(f"{readme} does not say what {results} says: "
                 f"tools/compare/quote.py {readme} {results} writes it")


def main():
    checks = sys.argv[1:2] == ["--check"]
    paths = sys.argv[1 + checks:]
    if len(paths) != 2:
        sys.exit(__doc__)
    try:
        (check if checks else write)(*paths)
    except ValueError as error:
        sys.exit(f"{paths[0]}: {error}")


if __name__ == "__main__":
    main()
