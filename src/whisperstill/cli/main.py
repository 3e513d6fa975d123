"""`whisperstill VERB ...`: from arguments to a stage, and from what happened to an exit code.

| exit code | meaning |
| --- | --- |
| 0 | done (files that had to be skipped were listed) |
| 1 | with `--strict`: something was skipped; `compare`: something got worse, or failed |
| 2 | something the user can fix: one line on standard error says what and how |
| 130 | interrupted |
"""

import logging
import os
import sys
from collections.abc import Sequence

from whisperstill._version import __version__
from whisperstill.cli.verbs import VERBS, Verb, help_text
from whisperstill.errors import SettingsError, WhisperstillError

EXIT_INTERRUPTED = 130
EXIT_USER_ERROR = 2
EXIT_INCOMPLETE = 1


def entry_point() -> None:
    """Entry point of the installed command: reads `sys.argv`, may restart itself once, exits."""
    arguments = sys.argv[1:]
    for stream_name in ("stdout", "stderr"):
        if getattr(sys, stream_name) is None:  # closed by whoever called
            setattr(sys, stream_name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    verb = VERBS.get(arguments[0]) if arguments else None
    if verb is not None and verb.needs_allocator and not {"-h", "--help"} & set(arguments):
        from whisperstill.cli.allocator import restart_with_allocator

        restart_with_allocator()
    exit_code = main(arguments)
    sys.stdout.flush()
    sys.exit(exit_code)


def main(arguments: Sequence[str]) -> int:
    """Runs one call and gives its exit code."""
    try:
        return dispatch(arguments)
    except WhisperstillError as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"whisperstill: error: {message}\n")
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        resume_flag = " with --skip_existing" if arguments[:1] == ["transcribe"] else ""
        sys.stderr.write(f"whisperstill: interrupted; the same command{resume_flag} goes on where it stopped\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (nobody reads any more: keep the exit quiet)
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0


def dispatch(arguments: Sequence[str]) -> int:
    """The verb's stage, or the overview."""
    if not arguments:
        raise SettingsError(f"expected one of {', '.join(VERBS)}, got nothing; see whisperstill --help")
    verb_name = arguments[0]
    if verb_name in ("-h", "--help", "help"):
        sys.stdout.write(help_text() + "\n")
        return 0
    if verb_name in ("-V", "--version"):
        sys.stdout.write(f"whisperstill {__version__}\n")
        return 0
    if verb_name not in VERBS:
        raise SettingsError(f"expected one of {', '.join(VERBS)}, got {verb_name!r}; see whisperstill --help")
    return run_verb(VERBS[verb_name], arguments[1:])


def run_verb(verb: Verb, arguments: Sequence[str]) -> int:
    """Reads the verb's options and runs its stage."""
    from whisperstill.cli.options import parse_arguments

    invocation = parse_arguments(verb, arguments)
    from whisperstill.cli.console import TerminalConsole

    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    report = verb.load()[1](invocation.settings, TerminalConsole())
    exit_code: int = getattr(report, "exit_code", 0)
    return EXIT_INCOMPLETE if invocation.strict and was_incomplete(report) else exit_code


def was_incomplete(report: object) -> bool:
    """Whether a stage had to leave something out: its report has a non-empty `problems`, `skipped` or `failed`."""
    return any(bool(getattr(report, name, None)) for name in ("problems", "skipped", "failed"))
