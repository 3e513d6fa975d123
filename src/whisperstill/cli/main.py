"""`whisperstill VERB ...`: runs the verb's stage and returns its exit code.

| exit code | meaning |
| --- | --- |
| 0 | done (skipped inputs are listed) |
| 1 | with `--strict`: inputs were skipped; `compare`: something got worse, or failed |
| 2 | an error the user can fix, explained in one line on standard error |
| 130 | interrupted |
"""

import logging
import os
import sys
from collections.abc import Sequence

from whisperstill._version import __version__
from whisperstill.cli.verbs import VERBS, help_text
from whisperstill.errors import SettingsError, WhisperstillError

EXIT_INTERRUPTED = 130
EXIT_USER_ERROR = 2
EXIT_INCOMPLETE = 1


def entry_point() -> None:
    """Entry point of the installed command: reads `sys.argv` and exits.

    Commands that run a model restart the process once, with other allocator settings (see `cli.allocator`).
    """
    arguments = sys.argv[1:]
    for stream_name in ("stdout", "stderr"):
        if getattr(sys, stream_name) is None:  # the parent process closed it
            setattr(sys, stream_name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    verb = VERBS.get(arguments[0]) if arguments else None
    if verb is not None and verb.needs_allocator and not {"-h", "--help"} & set(arguments):
        from whisperstill.cli.allocator import restart_with_allocator

        restart_with_allocator()
    exit_code = main(arguments)
    sys.stdout.flush()
    sys.exit(exit_code)


def main(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        return dispatch(arguments)
    except WhisperstillError as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"whisperstill: error: {message}\n")
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        resume_flag = " with --skip_existing" if arguments[:1] == ["transcribe"] else ""
        sys.stderr.write(f"whisperstill: interrupted; run the same command{resume_flag} again to resume\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (the reader closed the pipe: exit quietly)
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0


def dispatch(arguments: Sequence[str]) -> int:
    """Runs the verb, or prints help or version."""
    verb_name = arguments[0] if arguments else ""
    if verb_name in ("-h", "--help", "help"):
        sys.stdout.write(help_text() + "\n")
        return 0
    if verb_name in ("-V", "--version"):
        sys.stdout.write(f"whisperstill {__version__}\n")
        return 0
    if verb_name not in VERBS:
        received = repr(verb_name) if arguments else "no command"
        raise SettingsError(f"expected one of {', '.join(VERBS)}, got {received}; see whisperstill --help")
    from whisperstill.cli.options import parse_arguments
    from whisperstill.pipeline.runner import list_skipped
    from whisperstill.records.serialization import to_jsonable
    from whisperstill.stages import load_verb

    settings, strict = parse_arguments(VERBS[verb_name], arguments[1:])
    from whisperstill.cli.console import TerminalConsole

    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    report = load_verb(verb_name).run(settings, TerminalConsole())
    exit_code: int = getattr(report, "exit_code", 0)
    return EXIT_INCOMPLETE if strict and list_skipped(to_jsonable(report)) else exit_code
