#!/usr/bin/env python3
"""quote.py [--check] README RESULTS.json: what README says of a comparison, which
is what the comparison said of itself. With --check nothing is written."""
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


def main():
    if sys.argv[1] != "--check":
        write(*sys.argv[1:])
        return
    there, wanted = texts(*sys.argv[2:])
    if there != wanted:
        sys.exit("README does not say what tools/compare/RESULTS.json says: "
                 "tools/compare/quote.py README.md tools/compare/RESULTS.json writes it")


if __name__ == "__main__":
    main()
