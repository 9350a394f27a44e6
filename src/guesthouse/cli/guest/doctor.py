"""guest doctor: the findings about this host, one below the other."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict

from guesthouse.host import checks

_COLOURS = {checks.OK: "32", checks.WARN: "33", checks.FAIL: "1;31"}
_SHOWN = {checks.OK: "ok", checks.WARN: "warn", checks.FAIL: "FAIL"}


def declare(parser: argparse.ArgumentParser) -> None:
    """The options of "guest doctor"."""
    parser.description = "Look at all that guests need on this host, and change nothing."
    parser.epilog = "The exit code is 1 where something fails that guests need, else 0."
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Print the findings; 1 where one says that guests cannot run, else 0."""
    host = checks.Host.here()
    if options.json:
        found = list(checks.findings(host))
        usable = all(finding.mark != checks.FAIL for finding in found)
        print(json.dumps({"usable": usable, "findings": [asdict(finding) for finding in found]}, indent=2))
        return 0 if usable else 1
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    count = dict.fromkeys(_SHOWN, 0)
    for finding in checks.findings(host):
        count[finding.mark] += 1
        mark = f"{_SHOWN[finding.mark]:4}"
        if colours:
            mark = f"\033[{_COLOURS[finding.mark]}m{mark}\033[0m"
        print(f"{mark}  {finding.topic + ':':15} {finding.text}")
        if finding.remedy:
            print(f"{'':22}-> {finding.remedy}")
    print()
    print(_summary(count))
    return 1 if count[checks.FAIL] else 0


def _summary(count: dict[str, int]) -> str:
    if count[checks.FAIL]:
        number = count[checks.FAIL]
        return f"{number} thing{'s' * (number > 1)} that guests need {'fail' if number > 1 else 'fails'} here."
    if count[checks.WARN]:
        number = count[checks.WARN]
        return f"Guests can run here, with {number} restriction{'s' * (number > 1)}."
    return "Guests can run here."
