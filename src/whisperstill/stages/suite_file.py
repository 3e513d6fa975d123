"""A suite: one strict TOML file that says what evidence is wanted.

    name = "quick"
    output = "runs/quick"             # relative to the working directory

    [models]                          # a name each, and a checkpoint; the table's form says more
    teacher = "base"
    [models.student]
    model = "../runs/demo/student"    # paths are relative to the suite's own folder
    role = "student"
    [models.theirs]
    model = "base"
    engine = "faster-whisper"

    [sets.read]
    manifest = "${SPEECH:-../speech}/test/manifest.jsonl"
    in_distribution = true
    [sets.talks]
    manifest = "../talks/manifest.jsonl"
    whole = true                      # recordings, not the segments that the manifest takes them apart into
    [sets.street]
    manifest = "../noise"
    non_speech = true                 # nobody speaks: every word is made up

    [short_form]                      # a table per measurement; without `models` and `sets` all that it can be of
    [long_form]
    strategies = ["chunked", "sequential"]
    [noise]
    sets = ["read"]
    conditions = ["white@40:-10:-10", "telephone"]

Models called `teacher` and `student` have that role unasked; where a measurement names models, a role stands for all
that have it. What is measured is what has a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from whisperstill.audio.conditions import NAMES
from whisperstill.errors import SettingsError
from whisperstill.stages.recipe import read_content
from whisperstill.stages.typed import fill, names_path, placed
from whisperstill.units import WINDOW_SECONDS

Table = TypeVar("Table")


@dataclass(frozen=True)
class ModelAsked:
    """A contender."""

    model: str
    """Checkpoint: a directory, an installed weights package (`tiny.en`), a hub id."""
    engine: Literal["whisperstill", "transformers", "faster-whisper", "whisper.cpp"] = "whisperstill"
    """What it runs in; those that are not ours are extras."""
    dtype: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """What it computes in; `auto`: in our engine as the command line says, in others their habit."""
    role: Literal["teacher", "student", ""] = ""
    """Others are held against the teacher; students are held to be its drafts."""


@dataclass(frozen=True)
class SetAsked:
    """A corpus."""

    manifest: str
    """JSONL manifest, or a folder in any layout that is known."""
    in_distribution: bool = False
    """Of the kind that the student was trained on: effective robustness is measured against it."""
    non_speech: bool = False
    """Nobody speaks in it; transcripts are not looked for."""
    language: str | None = None
    """Of utterances that do not state theirs."""
    ids: tuple[str, ...] = ()
    """Only utterances whose id is like one of these (`street_*`)."""
    pieces: float | None = None
    """Cut each into pieces of so many seconds: for sets in which nobody speaks. None: into as few equal ones as fit
    into windows."""
    whole: bool = False
    """Recordings whole, where the manifest has them as segments: for `long_form`."""
    limit: int | None = None
    """Only so many utterances, spread over the set."""


@dataclass(frozen=True)
class ShortForm:
    """Sets of utterances; one up to 30 s is one window, the few others are recordings to every engine."""

    models: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class NonSpeech:
    """Sets in which nobody speaks."""

    models: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class LongForm:
    """Sets most of whose utterances are recordings over 30 s."""

    models: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    strategies: tuple[Literal["chunked", "sequential", "vad", "quiet"], ...] = ("chunked", "sequential")
    """How they are taken apart."""
    batch_size: int = 8
    """Windows decoded at a time."""


@dataclass(frozen=True)
class ChunkLength:
    """`chunked` with chunks of several lengths (paper, table 17)."""

    models: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    lengths: tuple[float, ...] = (30.0, 25.0, 20.0, 15.0, 10.0)
    """Seconds."""


@dataclass(frozen=True)
class Noise:
    """Sets of utterances up to 30 s whose sound is changed (paper, figure 3)."""

    models: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ("white@40:-10:-5", "pink@40:-10:-5")
    """See `audio.conditions`: `white@10` is white noise at an SNR of 10 dB, `white@40:-10:-5` is twelve of them."""
    limit: int | None = None
    """Only so many utterances of each set, spread over it; those over 30 s are left out."""
    seed: int = 0
    """Of the noise."""


@dataclass(frozen=True)
class SpeedTable:
    """Encoder, decoder, latency and memory of models in our engine, in turns."""

    models: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    rounds: int = 5


@dataclass(frozen=True)
class Speculative:
    """The teacher with each student as its draft against the teacher alone (paper, table 9)."""

    sets: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    limit: int = 32
    """Utterances of each set, spread over it."""
    shown: int = 2
    """Utterances kept token by token."""


@dataclass(frozen=True)
class WorstOf:
    """Utterances to listen to."""

    most: int = 5
    """Of each set, by the student (else by the last model)."""


@dataclass(frozen=True)
class Include:
    """What was measured elsewhere."""

    ablations: tuple[str, ...] = ()
    """`ablations.json` of `whisperstill ablate`; one that is not there yet is a failure in the findings."""
    filtered: str | None = None
    """What `whisperstill filter` left: the ledger of what was kept and dropped."""


MEASUREMENTS: dict[str, type[Any]] = {
    "short_form": ShortForm,
    "non_speech": NonSpeech,
    "long_form": LongForm,
    "chunk_length": ChunkLength,
    "noise": Noise,
    "speed": SpeedTable,
    "speculative": Speculative,
    "worst": WorstOf,
    "include": Include,
}


@dataclass(frozen=True)
class Suite:
    """What a suite file asks for; a measurement that is None is not wanted."""

    name: str
    output: Path
    models: dict[str, ModelAsked]
    sets: dict[str, SetAsked]
    short_form: ShortForm | None = None
    non_speech: NonSpeech | None = None
    long_form: LongForm | None = None
    chunk_length: ChunkLength | None = None
    noise: Noise | None = None
    speed: SpeedTable | None = None
    speculative: Speculative | None = None
    worst: WorstOf | None = None
    include: Include | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    """As it stands in the file."""

    @property
    def teacher(self) -> str | None:
        """The model that others are held against."""
        return next((name for name, one in self.models.items() if one.role == "teacher"), None)

    @property
    def students(self) -> tuple[str, ...]:
        """The models that may draft for it."""
        return tuple(name for name, one in self.models.items() if one.role == "student")


def read_suite(path: Path, models: tuple[str, ...] = ()) -> Suite:
    """Reads and checks a suite. `models`, seen from the working directory, take the place of its models: a teacher, and
    students.

    Raises `NotFoundError` without such a file, `SettingsError`, which names all problems at once.
    """
    content = read_content(path)
    problems: list[str] = []
    known = ("name", "output", "models", "sets", *MEASUREMENTS)
    problems += [f"knows no key {key!r} (it knows {', '.join(known)})" for key in content if key not in known]
    problems += [f"{key}: expected a string" for key in ("name", "output") if not isinstance(content.get(key, ""), str)]
    problems += [
        f"{key}: expected a table [{key}]" for key in known[2:] if not isinstance(content.get(key, {}), Mapping)
    ]
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    tables = {**content, "models": _as_roles(models)} if models else dict(content)
    asked = _named(ModelAsked, tables.get("models", {}), "models", "model", path, problems)
    sets = _named(SetAsked, tables.get("sets", {}), "sets", "manifest", path, problems)
    wanted = {
        key: fill(kind, tables[key], f"[{key}]", path.parent, problems)
        for key, kind in MEASUREMENTS.items()
        if key in tables
    }
    if isinstance(noise := wanted.get("noise"), Noise):
        wanted["noise"] = replace(noise, conditions=tuple(_beside(one, path.parent) for one in noise.conditions))
    for name in ("teacher", "student"):
        if name in asked and not asked[name].role:
            asked[name] = replace(asked[name], role=name)
    problems += _amiss(asked, sets, wanted)
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    name = str(content.get("name", path.stem))
    return Suite(name, Path(str(content.get("output", f"runs/{name}"))), asked, sets, **wanted, content=tables)


def _as_roles(models: tuple[str, ...]) -> dict[str, Any]:
    """The first is the teacher; one other is the student, more of them are numbered."""
    names = ["student"] if len(models) == 2 else [f"student-{number}" for number in range(1, len(models))]
    roles = [("teacher", "teacher"), *((name, "student") for name in names)]
    there = [str(Path(model).absolute()) if Path(model).expanduser().exists() else model for model in models]
    return {name: {"model": model, "role": role} for model, (name, role) in zip(there, roles, strict=True)}


def _beside(condition: str, folder: Path) -> str:
    """A condition whose recorded noise lies beside the suite."""
    kind, at, level = condition.rpartition("@")
    return f"{placed(kind, folder)}@{level}" if at and kind not in NAMES and names_path(kind, folder) else condition


def _named(
    kind: type[Table], tables: Mapping[str, Any], where: str, short: str, path: Path, problems: list[str]
) -> dict[str, Table]:
    """Tables by name; a string stands for a table with `short` alone."""
    found = {}
    for name, table in tables.items():
        content = {short: table} if isinstance(table, str) else table
        if not isinstance(content, Mapping):
            problems.append(f"{where}.{name}: expected a table or a string, got {table!r}")
        elif (one := fill(kind, content, f"[{where}.{name}]", path.parent, problems)) is not None:
            found[name] = one
    return found


def _amiss(models: Mapping[str, ModelAsked], sets: Mapping[str, SetAsked], wanted: Mapping[str, Any]) -> list[str]:
    problems = []
    if not models:
        problems.append("names no model: expected [models] with at least one, such as teacher = 'base'")
    if not wanted:
        problems.append(f"asks for nothing: expected a table such as {', '.join(MEASUREMENTS)}")
    teachers = [name for name, one in models.items() if one.role == "teacher"]
    if len(teachers) > 1:
        problems.append(
            f"has {len(teachers)} teachers ({', '.join(teachers)}): one is what the others are held against"
        )
    roles = {one.role for one in models.values()}  # `student` is all students
    for key, table in wanted.items():
        for field_name, there in (("models", models), ("sets", sets)):
            known = {*there, *(roles if field_name == "models" else ())}
            unknown = [name for name in getattr(table, field_name, ()) if name not in known]
            if unknown:
                problems.append(f"[{key}] {field_name}: expected names of [{field_name}], got {', '.join(unknown)}")
    if "speculative" in wanted and (not teachers or not any(one.role == "student" for one in models.values())):
        problems.append("[speculative] needs a model with the role teacher and one with the role student")
    for key, name in (("speed", "batch_sizes"), ("speculative", "batch_sizes"), ("chunk_length", "lengths")):
        values = getattr(wanted.get(key), name, None)
        if values is not None and (not values or min(values) < 1):
            problems.append(f"[{key}] {name} must name numbers of at least 1, got {list(values)}")
    for name, one in sets.items():
        if one.pieces is not None and (not one.non_speech or not 1 <= one.pieces <= WINDOW_SECONDS):
            problems.append(f"[sets.{name}] pieces must be 1 to 30 s, of a set that is non_speech; got {one.pieces:g}")
        if one.limit is not None and one.limit < 1:
            problems.append(f"[sets.{name}] limit must be at least 1, got {one.limit}")
    return problems
