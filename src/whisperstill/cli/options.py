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


def parse_arguments(verb: Verb, arguments: Sequence[str]) -> Invocation[Any]:
    """Reads the options of a verb.

    Raises `SettingsError` with one line when an option is unknown, missing or malformed; `--help` prints and raises
    `SystemExit(0)`.
    """
    settings_class, _ = verb.load()
    has_strict = any(field.name == "strict" for field in dataclasses.fields(settings_class))
    invocation_class: Any = BareInvocation if has_strict else Invocation
    invocation_type: Any = invocation_class[make_positional(settings_class, verb.positional)]
    captured_stderr = io.StringIO()
    wants_help = bool({"-h", "--help"} & set(arguments))
    try:
        with contextlib.redirect_stderr(captured_stderr), unwrapped_lines(not wants_help):
            parsed: Any = tyro.cli(
                invocation_type,
                args=strip_bool_values(settings_class, arguments) if verb.underscore_flags else list(arguments),
                prog=f"whisperstill {verb.name}",
                description=f"{verb.summary[:1].upper()}{verb.summary[1:]}.\n\n{settings_class.__doc__}",
                use_underscores=verb.underscore_flags,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
            return Invocation(parsed.settings, parsed.settings.strict) if has_strict else parsed
    except SystemExit as stop:
        if not stop.code:
            raise
        raise SettingsError(
            f"{summarize_parse_error(captured_stderr.getvalue())}; see whisperstill {verb.name} --help"
        ) from None


def strip_bool_values(settings_class: type, arguments: Sequence[str]) -> list[str]:
    """Writes flags as they are given here.

    `--word_timestamps True` -> `--word_timestamps`, `--hallucination_filter False` -> `--no-hallucination_filter`.
    """
    hints = get_type_hints(settings_class)
    bool_defaults = {
        field.name: field.default for field in dataclasses.fields(settings_class) if hints[field.name] is bool
    }
    remaining, result = iter(arguments), list[str]()
    for argument in remaining:
        name = argument.removeprefix("--").replace("-", "_")
        result.append(argument)
        if not argument.startswith("--") or name not in bool_defaults:
            continue
        value = next(remaining, None)
        if value not in ("True", "False"):
            result += [] if value is None else strip_bool_values(settings_class, [value, *remaining])
        elif (value == "True") == bool_defaults[name]:
            result.pop()
        elif value == "False":
            result[-1] = f"--no-{argument.removeprefix('--')}"
    return result


def make_positional(settings_class: type, field_name: str) -> type:
    """The same dataclass with one field given without a flag."""
    if not field_name:
        return settings_class
    hint = get_type_hints(settings_class, include_extras=True)[field_name]
    positional_field = next(
        candidate for candidate in dataclasses.fields(settings_class) if candidate.name == field_name
    )
    namespace: dict[str, Any] = {
        "__doc__": settings_class.__doc__,
        "__module__": settings_class.__module__,
        "__annotations__": {field_name: Annotated[hint, tyro.conf.Positional]},
    }
    if positional_field.default is not dataclasses.MISSING:
        namespace[field_name] = positional_field.default
    return dataclasses.dataclass(frozen=True)(type(settings_class.__name__, (settings_class,), namespace))


@contextlib.contextmanager
def unwrapped_lines(enabled: bool) -> Iterator[None]:
    """Keeps an error message from being wrapped in the middle of a path."""
    previous_columns = os.environ.get("COLUMNS")
    if enabled:
        os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if enabled and previous_columns is None:
            os.environ.pop("COLUMNS", None)
        elif enabled and previous_columns is not None:
            os.environ["COLUMNS"] = previous_columns


def summarize_parse_error(message: str) -> str:
    """A boxed message as one line: without the frame, the title, help texts and the advice to read the help."""
    stripped_lines = [re.sub(r"[│╭╮╰╯─]+|-{3,}", " ", line).strip() for line in message.splitlines()]
    lines = [line for line in stripped_lines if line]
    body_lines = [
        line for line in lines[1:] if "full helptext" not in line and not line.startswith("whisperstill ")
    ] or lines
    if any(line.startswith("Missing from") for line in body_lines):
        missing_options = [line.split()[0] for line in body_lines if line.startswith("--") or line.split()[0].isupper()]
        return "missing " + ", ".join(missing_options)
    joined_body = re.sub(r"\s+", " ", " ".join(body_lines)).split(" Argument helptext:")[0]
    return joined_body.strip(" .:") or "the options cannot be read"
