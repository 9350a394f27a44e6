"""What virt-install, virt-clone and virt-xml have in common around their work: errors, and how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from guesthouse.cli.virt_install.options import Options, UsageError
from guesthouse.cli.virt_install.report import Report
from guesthouse.errors import GuesthouseError


def program(
    parse: Callable[[], Options],
    is_quiet: Callable[[Options], bool],
    work: Callable[[Options, Report], int],
    aborted: str,
    *,
    traced: tuple[type[Exception], ...] = (GuesthouseError, OSError),
) -> int:
    """Parse and work; returns the exit code: 2 for a line that cannot be parsed, 1 for what failed. ``aborted`` is said
    at Ctrl-C. With --debug errors of the kinds ``traced`` show where they came from."""
    try:
        options = parse()
    except UsageError as error:
        tell(Report(), error)
        return 2
    report = Report()
    try:
        report = Report(is_quiet(options), "debug" in options)
        return work(options, report)
    except UsageError as error:
        tell(report, error)
        return 1
    except KeyboardInterrupt:
        print(aborted, file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (GuesthouseError, OSError) as error:
        if report.debug and isinstance(error, traced):
            raise
        report.error(_words(error))
        return 1


def tell(report: Report, error: UsageError) -> None:
    """Say what is wrong with a command line, and what to do."""
    report.error(error.message)
    if error.hint:
        print(error.hint, file=sys.stderr)


def _words(error: GuesthouseError | OSError) -> str:
    if isinstance(error, GuesthouseError):
        return error.message
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
