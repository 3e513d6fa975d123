"""Command line -> settings. The only module that knows tyro.

A settings dataclass is the single source of flags, defaults and help texts; this module adds what belongs to the
command line alone: which field is positional, `--strict`, and `--flag True` where openai/whisper writes it so.
"""

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import tyro

from whisperstill.cli.verbs import Verb
from whisperstill.errors import SettingsError

Settings = TypeVar("Settings")


@dataclasses.dataclass(frozen=True)
class Invocation(Generic[Settings]):
    """What one call asks for."""

    settings: Annotated[Settings, tyro.conf.arg(name="")]
    strict: bool = False
    """Exit with 1 when a file had to be skipped (otherwise it is listed and the exit code is 0)."""


@dataclasses.dataclass(frozen=True)
class BareInvocation(Generic[Settings]):
    """A call of a verb whose settings have `strict` themselves."""

    settings: Annotated[Settings, tyro.conf.arg(name="")]


def parse(verb: Verb, arguments: Sequence[str]) -> Invocation[Any]:
    """Reads the options of a verb.

    Raises `SettingsError` with one line when an option is unknown, missing or malformed; `--help` prints and raises
    `SystemExit(0)`.
    """
    settings, _ = verb.load()
    has_strict = any(field.name == "strict" for field in dataclasses.fields(settings))
    wrapped: Any = BareInvocation if has_strict else Invocation
    wanted: Any = wrapped[with_positional(settings, verb.positional)]
    captured = io.StringIO()
    asks_help = bool({"-h", "--help"} & set(arguments))
    try:
        with contextlib.redirect_stderr(captured), wide_lines(not asks_help):
            asked: Any = tyro.cli(
                wanted,
                args=without_truths(settings, arguments) if verb.underscores else list(arguments),
                prog=f"whisperstill {verb.name}",
                description=f"{verb.summary[:1].upper()}{verb.summary[1:]}.\n\n{settings.__doc__}",
                use_underscores=verb.underscores,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
            return Invocation(asked.settings, asked.settings.strict) if has_strict else asked
    except SystemExit as stop:
        if not stop.code:
            raise
        raise SettingsError(f"{one_line(captured.getvalue())}; see whisperstill {verb.name} --help") from None


def without_truths(settings: type, arguments: Sequence[str]) -> list[str]:
    """`--word_timestamps True` -> `--word_timestamps`, `--guards False` -> `--no-guards`, as flags are given here."""
    hints = get_type_hints(settings)
    switches = {field.name: field.default for field in dataclasses.fields(settings) if hints[field.name] is bool}
    given, result = iter(arguments), list[str]()
    for argument in given:
        name = argument.removeprefix("--").replace("-", "_")
        result.append(argument)
        if not argument.startswith("--") or name not in switches:
            continue
        value = next(given, None)
        if value not in ("True", "False"):
            result += [] if value is None else without_truths(settings, [value, *given])
        elif (value == "True") == switches[name]:
            result.pop()
        elif value == "False":
            result[-1] = f"--no-{argument.removeprefix('--')}"
    return result


def with_positional(settings: type, field: str) -> type:
    """The same dataclass with one field given without a flag."""
    if not field:
        return settings
    hint = get_type_hints(settings, include_extras=True)[field]
    default = next(each for each in dataclasses.fields(settings) if each.name == field)
    namespace: dict[str, Any] = {
        "__doc__": settings.__doc__,
        "__module__": settings.__module__,
        "__annotations__": {field: Annotated[hint, tyro.conf.Positional]},
    }
    if default.default is not dataclasses.MISSING:
        namespace[field] = default.default
    return dataclasses.dataclass(frozen=True)(type(settings.__name__, (settings,), namespace))


@contextlib.contextmanager
def wide_lines(wanted: bool) -> Iterator[None]:
    """Keeps an error message from being wrapped in the middle of a path."""
    before = os.environ.get("COLUMNS")
    if wanted:
        os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if wanted and before is None:
            os.environ.pop("COLUMNS", None)
        elif wanted and before is not None:
            os.environ["COLUMNS"] = before


def one_line(message: str) -> str:
    """A boxed message as one line: without the frame, the title, help texts and the advice to read the help."""
    bare = [re.sub(r"[│╭╮╰╯─]+|-{3,}", " ", line).strip() for line in message.splitlines()]
    lines = [line for line in bare if line]
    body = [line for line in lines[1:] if "full helptext" not in line and not line.startswith("whisperstill ")] or lines
    if any(line.startswith("Missing from") for line in body):
        absent = [line.split()[0] for line in body if line.startswith("--") or line.split()[0].isupper()]
        return "missing " + ", ".join(absent)
    joined = re.sub(r"\s+", " ", " ".join(body)).split(" Argument helptext:")[0]
    return joined.strip(" .:") or "the options cannot be read"
