"""virt-host-validate: whether guests can run here, a line a check, as libvirt's program of that name prints it."""

from __future__ import annotations

import sys

_USAGE = """
syntax: virt-host-validate [OPTIONS] [HVTYPE]

 Hypervisor types:

   - qemu

 Options:
   -h, --help     show this text
   -v, --version  show the version
   -q, --quiet    print nothing: the exit code tells

More, with the commands that mend it, is told by: guest doctor
"""
_COLOURS = {"PASS": "32", "WARN": "33", "FAIL": "31"}
_NAME = "virt-host-validate"


def main(argv: list[str] | None = None) -> int:
    """Run the checks; 1 where one fails, or where the command line means nothing, else 0."""
    quiet, words = False, []
    for word in sys.argv[1:] if argv is None else argv:
        if word in ("-h", "--help"):
            print(_USAGE)
            return 0
        if word in ("-v", "--version"):
            from guesthouse import __version__

            print(f"version: {_NAME} {__version__}")
            return 0
        if word in ("-q", "--quiet"):
            quiet = True
        elif word.startswith("-") and word != "--":
            what = "unrecognized option" if word.startswith("--") else "invalid option --"
            print(f"{_NAME}: {what} '{word if word.startswith('--') else word[1]}'\n{_USAGE}", file=sys.stderr)
            return 1
        elif word != "--":
            words.append(word)
    if words and words[0] != "qemu":
        print(f"{_NAME}: unsupported hypervisor name {words[0]}", file=sys.stderr)
        return 1
    if len(words) > 1:
        print(f"{_NAME}: too many command line arguments\n{_USAGE}", file=sys.stderr)
        return 1
    return _validate(quiet)


def _validate(quiet: bool) -> int:
    from guesthouse.host import checks, validation

    colours = sys.stdout.isatty()
    failed = False
    for check in validation.for_qemu(checks.Host.here()):
        failed = failed or check.mark == validation.FAIL
        if quiet:
            continue
        mark = f"\033[{_COLOURS[check.mark]}m{check.mark}\033[0m" if colours else check.mark
        tail = f" ({check.hint})" if check.mark != validation.PASS and check.hint else ""
        print(f"{'QEMU':>6}: Checking {check.what:<60}: {mark}{tail}", flush=True)
    return 1 if failed else 0
