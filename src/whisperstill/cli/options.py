"""Command line -> settings; the only module that imports tyro.

A settings dataclass defines the flags, their defaults and their help texts. This module adds what only the command
line has: positional arguments, aliases, `--strict`, and `--flag True` as openai/whisper accepts it. Flags may be
written with hyphens or underscores.

tyro prints a parse error as a box and exits. Its error hooks (`tyro._errors`) are private and may change in any
release, so the box is turned into one line here (`summarize_parse_error`).
"""

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_type_hints

import tyro

from whisperstill.cli.verbs import Verb
from whisperstill.errors import SettingsError
from whisperstill.records.serialization import DataclassInstance
from whisperstill.stages import load_verb

DEFAULT_HINTS = {None: "", (): "", False: "", True: "(on by default; this flag turns it off)"}
"""Text after an option's help, by its default; other defaults are shown. The help of an option whose default is None
describes that default."""
STRICT_HELP = "Exit with 1 if an input was skipped; by default skipped inputs are listed and the exit code is 0."


def parse_arguments(verb: Verb, arguments: Sequence[str]) -> tuple[DataclassInstance, bool]:
    """Settings of a verb from its options, and whether `--strict` is set.

    Raises `SettingsError` with one line if an option is unknown, missing or malformed; `--help` prints and raises
    `SystemExit(0)`.
    """
    settings_type = load_verb(verb.name).settings_type
    captured_stderr = io.StringIO()
    wants_help = bool({"-h", "--help"} & set(arguments))
    try:
        with contextlib.redirect_stderr(captured_stderr), contextlib.nullcontext() if wants_help else unwrapped_lines():
            parsed: Any = tyro.cli(
                annotate_fields(settings_type, verb),
                args=strip_bool_values(settings_type, arguments) if verb.bool_values else list(arguments),
                prog=f"whisperstill {verb.name}",
                description=f"{verb.summary[:1].upper()}{verb.summary[1:]}.\n\nwhisperstill {verb.name} {verb.usage}",
                use_underscores=verb.bool_values,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
            values = {field.name: getattr(parsed, field.name) for field in dataclasses.fields(settings_type)}
            return settings_type(**values), parsed.strict
    except SystemExit as stop:
        if not stop.code:
            raise
        raise SettingsError(
            f"{summarize_parse_error(captured_stderr.getvalue())}; see whisperstill {verb.name} --help"
        ) from None


def strip_bool_values(settings_class: type, arguments: Sequence[str]) -> list[str]:
    """Turns flags with a value into plain flags:

    `--word_timestamps True` -> `--word_timestamps`, `--hallucination_filter False` -> `--no-hallucination_filter`.
    """
    hints = get_type_hints(settings_class)
    bool_defaults = {
        field.name: field.default for field in dataclasses.fields(settings_class) if hints[field.name] is bool
    }
    result: list[str] = []
    for argument in arguments:
        flag = result[-1] if result else ""
        default = bool_defaults.get(flag.removeprefix("--").replace("-", "_")) if flag.startswith("--") else None
        if argument not in ("True", "False") or default is None:
            result.append(argument)
        elif (argument == "True") == default:
            result.pop()
        elif argument == "False":
            result[-1] = f"--no-{flag.removeprefix('--')}"
    return result


def annotate_fields(settings_type: type, verb: Verb) -> type:
    """The settings dataclass with tyro's annotations, and with `strict`."""
    hints, settings_fields = get_type_hints(settings_type, include_extras=True), dataclasses.fields(settings_type)
    annotations: dict[str, Any] = {
        field.name: Annotated[hints[field.name], *_tyro_options(field, verb)] for field in settings_fields
    }
    namespace: dict[str, Any] = {
        field.name: dataclasses.field(default=field.default, kw_only=field.kw_only) for field in settings_fields
    }
    if "strict" not in hints:
        annotations["strict"] = Annotated[bool, tyro.conf.arg(help=STRICT_HELP, help_behavior_hint="")]
        namespace["strict"] = False
    namespace |= {"__module__": settings_type.__module__, "__annotations__": annotations}
    return dataclasses.dataclass(frozen=True)(type(settings_type.__name__, (settings_type,), namespace))


def _tyro_options(field: dataclasses.Field[Any], verb: Verb) -> Iterator[Any]:
    """Alias, default shown in the help, and whether the option is positional."""
    yield tyro.conf.arg(
        aliases=[f"--{alias}" for name, alias in verb.aliases if name == field.name] or None,
        help_behavior_hint=DEFAULT_HINTS.get(field.default) if isinstance(field.default, bool | tuple | None) else None,
    )
    if field.name == verb.positional:
        yield tyro.conf.Positional


@contextlib.contextmanager
def unwrapped_lines() -> Iterator[None]:
    """Makes lines wide enough that an error message is not wrapped within a path."""
    previous_columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if previous_columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = previous_columns


def summarize_parse_error(message: str) -> str:
    """One line of tyro's boxed message, without frame, title, help texts and the advice to read the help."""
    stripped_lines = [re.sub(r"[│╭╮╰╯─]+|-{3,}", " ", line).strip() for line in message.splitlines()]
    lines = [line for line in stripped_lines if line]
    body_lines = [
        line for line in lines[1:] if "full helptext" not in line and not line.startswith("whisperstill ")
    ] or lines
    if any(line.startswith("Missing from") for line in body_lines):
        missing_options = [line.split()[0] for line in body_lines if line.startswith("--") or line.split()[0].isupper()]
        return "missing " + ", ".join(missing_options)
    joined_body = re.sub(r"\s+", " ", " ".join(body_lines)).split(" Argument helptext:")[0]
    joined_body = re.sub(r"( Perhaps you meant: \S+).*", r"\1", joined_body)
    return joined_body.strip(" .:") or "the options cannot be parsed"
