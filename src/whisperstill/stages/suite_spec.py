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

    [datasets.read]
    manifest = "${SPEECH:-../speech}/test/manifest.jsonl"
    in_distribution = true
    [datasets.talks]
    manifest = "../talks/manifest.jsonl"
    full_recordings = true            # recordings, not the segments that the manifest takes them apart into
    [datasets.street]
    manifest = "../noise"
    non_speech = true                 # nobody speaks: every word is made up

    [short_form]                      # a table per measurement; without `models` and `datasets` all that it can be of
    [long_form]
    strategies = ["chunked", "sequential"]
    [noise]
    datasets = ["read"]
    conditions = ["white@40:-10:-10", "telephone"]

Models called `teacher` and `student` have that role unasked; where a measurement names models, a role stands for all
that have it. What is measured is what has a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from whisperstill.audio.conditions import CONDITION_KINDS
from whisperstill.errors import SettingsError
from whisperstill.pipeline.toml_settings import TableError, build_settings, looks_like_path, read_toml, resolve_path
from whisperstill.units import WINDOW_SECONDS

Table = TypeVar("Table")


@dataclass(frozen=True)
class ModelSpec:
    """A contender."""

    model: str
    """Checkpoint: a directory, an installed weights package (`tiny.en`), a hub id."""
    engine: Literal["whisperstill", "transformers", "faster-whisper", "whisper.cpp"] = "whisperstill"
    """What it runs in; those that are not ours are extras."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """What it computes in; `auto`: in our engine as the command line says, in others their habit."""
    role: Literal["teacher", "student", ""] = ""
    """Others are held against the teacher; students are held to be its drafts."""


@dataclass(frozen=True)
class DatasetSpec:
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
    chunk_seconds: float | None = None
    """Cut each into pieces of so many seconds: for sets in which nobody speaks. None: into as few equal ones as fit
    into windows."""
    full_recordings: bool = False
    """Recordings whole, where the manifest has them as segments: for `long_form`."""
    limit: int | None = None
    """Only so many utterances, spread over the set."""


@dataclass(frozen=True)
class ShortForm:
    """Sets of utterances; one up to 30 s is one window, the few others are recordings to every engine."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class NonSpeech:
    """Sets in which nobody speaks."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class LongForm:
    """Sets most of whose utterances are recordings over 30 s."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    strategies: tuple[Literal["chunked", "sequential", "vad", "silence"], ...] = ("chunked", "sequential")
    """How they are taken apart."""
    batch_size: int = 8
    """Windows decoded at a time."""


@dataclass(frozen=True)
class ChunkLength:
    """`chunked` with chunks of several lengths (paper, table 17)."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    lengths: tuple[float, ...] = (30.0, 25.0, 20.0, 15.0, 10.0)
    """Seconds."""


@dataclass(frozen=True)
class Noise:
    """Sets of utterances up to 30 s whose sound is changed (paper, figure 3)."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
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

    datasets: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    limit: int = 32
    """Utterances of each set, spread over it."""
    num_traces: int = 2
    """Utterances kept token by token."""


@dataclass(frozen=True)
class ErrorExamples:
    """Utterances to listen to."""

    num_examples: int = 5
    """Of each set, by the student (else by the last model)."""


@dataclass(frozen=True)
class Include:
    """What was measured elsewhere."""

    ablations: tuple[str, ...] = ()
    """`ablations.json` of `whisperstill ablate`; one that is not there yet is a failure in the findings."""
    filter_summary: str | None = None
    """What `whisperstill filter` left: the ledger of what was kept and dropped."""


MEASUREMENT_TABLES: dict[str, type[Any]] = {
    "short_form": ShortForm,
    "non_speech": NonSpeech,
    "long_form": LongForm,
    "chunk_length": ChunkLength,
    "noise": Noise,
    "speed": SpeedTable,
    "speculative": Speculative,
    "error_examples": ErrorExamples,
    "include": Include,
}


@dataclass(frozen=True)
class Suite:
    """What a suite file asks for; a measurement that is None is not wanted."""

    name: str
    output: Path
    models: dict[str, ModelSpec]
    datasets: dict[str, DatasetSpec]
    short_form: ShortForm | None = None
    non_speech: NonSpeech | None = None
    long_form: LongForm | None = None
    chunk_length: ChunkLength | None = None
    noise: Noise | None = None
    speed: SpeedTable | None = None
    speculative: Speculative | None = None
    error_examples: ErrorExamples | None = None
    include: Include | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    """As it stands in the file."""

    @property
    def teacher(self) -> str | None:
        """The model that others are held against."""
        return next((name for name, spec in self.models.items() if spec.role == "teacher"), None)

    @property
    def students(self) -> tuple[str, ...]:
        """The models that may draft for it."""
        return tuple(name for name, spec in self.models.items() if spec.role == "student")


def read_suite(path: Path, models: tuple[str, ...] = ()) -> Suite:
    """Reads and checks a suite. `models`, seen from the working directory, take the place of its models: a teacher, and
    students.

    Raises `NotFoundError` without such a file, `SettingsError`, which names all problems at once.
    """
    content = read_toml(path)
    problems: list[str] = []
    known_keys = ("name", "output", "models", "datasets", *MEASUREMENT_TABLES)
    problems += [f"knows no key {key!r} (it knows {', '.join(known_keys)})" for key in content if key not in known_keys]
    problems += [f"{key}: expected a string" for key in ("name", "output") if not isinstance(content.get(key, ""), str)]
    problems += [
        f"{key}: expected a table [{key}]" for key in known_keys[2:] if not isinstance(content.get(key, {}), Mapping)
    ]
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    tables = {**content, "models": _assign_roles(models)} if models else dict(content)
    model_specs = _build_named_tables(ModelSpec, tables.get("models", {}), "models", "model", path, problems)
    dataset_specs = _build_named_tables(DatasetSpec, tables.get("datasets", {}), "datasets", "manifest", path, problems)
    measurements: dict[str, Any] = {}
    for key, table_type in MEASUREMENT_TABLES.items():
        if key in tables:
            try:
                measurements[key] = build_settings(table_type, tables[key], key, path.parent)
            except TableError as error:
                problems += error.problems
    if isinstance(noise := measurements.get("noise"), Noise):
        measurements["noise"] = replace(
            noise, conditions=tuple(_resolve_condition(condition, path.parent) for condition in noise.conditions)
        )
    for name in ("teacher", "student"):
        if name in model_specs and not model_specs[name].role:
            model_specs[name] = replace(model_specs[name], role=name)
    problems += _find_problems(model_specs, dataset_specs, measurements)
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    name = str(content.get("name", path.stem))
    return Suite(
        name,
        Path(str(content.get("output", f"runs/{name}"))),
        model_specs,
        dataset_specs,
        **measurements,
        content=tables,
    )


def _assign_roles(models: tuple[str, ...]) -> dict[str, Any]:
    """The first is the teacher; one other is the student, more of them are numbered."""
    names = ["student"] if len(models) == 2 else [f"student-{number}" for number in range(1, len(models))]
    roles = [("teacher", "teacher"), *((name, "student") for name in names)]
    resolved = [str(Path(model).absolute()) if Path(model).expanduser().exists() else model for model in models]
    return {name: {"model": model, "role": role} for model, (name, role) in zip(resolved, roles, strict=True)}


def _resolve_condition(condition: str, folder: Path) -> str:
    """A condition whose recorded noise lies beside the suite."""
    kind, separator, level = condition.rpartition("@")
    return (
        f"{resolve_path(kind, folder)}@{level}"
        if separator and kind not in CONDITION_KINDS and looks_like_path(kind, folder)
        else condition
    )


def _build_named_tables(
    table_type: type[Table],
    tables: Mapping[str, Any],
    section: str,
    shorthand_key: str,
    path: Path,
    problems: list[str],
) -> dict[str, Table]:
    """Tables by name; a string stands for a table with `shorthand_key` alone."""
    built = {}
    for name, table in tables.items():
        content = {shorthand_key: table} if isinstance(table, str) else table
        if not isinstance(content, Mapping):
            problems.append(f"{section}.{name}: expected a table or a string, got {table!r}")
        else:
            try:
                built[name] = build_settings(table_type, content, f"{section}.{name}", path.parent)
            except TableError as error:
                problems += error.problems
    return built


def _find_problems(
    models: Mapping[str, ModelSpec], datasets: Mapping[str, DatasetSpec], measurements: Mapping[str, Any]
) -> list[str]:
    problems = []
    if not models:
        problems.append("names no model: expected [models] with at least one, such as teacher = 'base'")
    if not measurements:
        problems.append(f"asks for nothing: expected a table such as {', '.join(MEASUREMENT_TABLES)}")
    teachers = [name for name, model in models.items() if model.role == "teacher"]
    if len(teachers) > 1:
        problems.append(
            f"has {len(teachers)} teachers ({', '.join(teachers)}): one is what the others are held against"
        )
    roles = {model.role for model in models.values()}  # `student` is all students
    for key, table in measurements.items():
        for field_name, declared in (("models", models), ("datasets", datasets)):
            known = {*declared, *(roles if field_name == "models" else ())}
            unknown = [name for name in getattr(table, field_name, ()) if name not in known]
            if unknown:
                problems.append(f"[{key}] {field_name}: expected names of [{field_name}], got {', '.join(unknown)}")
    if "speculative" in measurements and (
        not teachers or not any(model.role == "student" for model in models.values())
    ):
        problems.append("[speculative] needs a model with the role teacher and one with the role student")
    for key, name in (("speed", "batch_sizes"), ("speculative", "batch_sizes"), ("chunk_length", "lengths")):
        values = getattr(measurements.get(key), name, None)
        if values is not None and (not values or min(values) < 1):
            problems.append(f"[{key}] {name} must name numbers of at least 1, got {list(values)}")
    for name, dataset in datasets.items():
        if dataset.chunk_seconds is not None and (
            not dataset.non_speech or not 1 <= dataset.chunk_seconds <= WINDOW_SECONDS
        ):
            problems.append(
                f"[datasets.{name}] chunk_seconds must be 1 to 30 s, of a dataset that is non_speech; got "
                f"{dataset.chunk_seconds:g}"
            )
        if dataset.limit is not None and dataset.limit < 1:
            problems.append(f"[datasets.{name}] limit must be at least 1, got {dataset.limit}")
    return problems
