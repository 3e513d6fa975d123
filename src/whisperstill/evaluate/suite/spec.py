"""Records of an evaluation suite, and checks that they are consistent.

`suite_file` reads them from TOML; `suite_of_manifests` builds them from `evaluate --model --manifest`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from whisperstill.records.json_value import JsonValue
from whisperstill.units import WINDOW_SECONDS


@dataclass(frozen=True)
class ModelSpec:
    """A model to evaluate."""

    model: str
    """Checkpoint: directory, installed weights package (`tiny.en`), or hub id."""
    engine: Literal["whisperstill", "transformers", "faster-whisper", "whisper.cpp"] = "whisperstill"
    """Inference engine; all but `whisperstill` are extras."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """Compute type; `auto`: --dtype for whisperstill, the engine's default for others."""
    role: Literal["teacher", "student", ""] = ""
    """Other models are compared with the teacher; students serve as its draft models."""


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset to evaluate on."""

    manifest: str
    """Corpus: JSONL manifest, or folder in a known layout."""
    in_distribution: bool = False
    """Same distribution as the student's training data; the reference for effective robustness."""
    non_speech: bool = False
    """Audio without speech: transcripts are ignored, every word is a hallucination."""
    language: str | None = None
    """Language of utterances without one in the manifest (ISO 639-1)."""
    ids: tuple[str, ...] = ()
    """Shell patterns of utterance ids to use (`street_*`); default: all."""
    chunk_seconds: float | None = None
    """Clip length for non-speech audio, seconds; default: as few equal clips of at most 30 s as possible."""
    full_recordings: bool = False
    """Full recordings, where the manifest lists segments: for `long_form`."""
    first: int | None = None
    """Number of utterances, taken from the start of the dataset."""
    limit: int | None = None
    """Number of utterances, evenly spaced over the dataset."""


@dataclass(frozen=True)
class ErrorRates:
    """Error rates of `short_form`, hallucinated words of `non_speech`; default: all models, all suitable datasets."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class LongForm(ErrorRates):
    """Error rates on datasets that are mostly recordings over 30 s."""

    strategies: tuple[Literal["chunked", "sequential", "vad", "silence"], ...] = ("chunked", "sequential")
    """Long-form strategies to compare."""
    batch_size: int = 8
    """Windows decoded together."""


@dataclass(frozen=True)
class ChunkLength(ErrorRates):
    """Error rates of the `chunked` strategy by chunk length (paper, table 17)."""

    lengths: tuple[float, ...] = (30.0, 25.0, 20.0, 15.0, 10.0)
    """Chunk lengths, seconds."""


@dataclass(frozen=True)
class Noise(ErrorRates):
    """Error rates on corrupted audio, utterances up to 30 s only (paper, figure 3)."""

    conditions: tuple[str, ...] = ("white@40:-10:-5", "pink@40:-10:-5")
    """Conditions of `audio.conditions`: `white@10` is white noise at 10 dB SNR, `white@40:-10:-5` is a series."""
    limit: int | None = None
    """Number of utterances of each dataset, evenly spaced."""
    seed: int = 0
    """Seed of the noise."""


@dataclass(frozen=True)
class SpeedTable:
    """Encoder time, decoder time, latency and memory of whisperstill models, interleaved."""

    models: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    rounds: int = 5
    """Timed repetitions per batch size."""
    memory: bool = True
    """Peak memory as well; on a CPU this loads each model once more, in a process of its own."""


@dataclass(frozen=True)
class Speculative:
    """The teacher with each student as draft model against the teacher alone (paper, table 9)."""

    datasets: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    limit: int = 32
    """Number of utterances of each dataset, evenly spaced."""
    num_traces: int = 2
    """Number of utterances whose draft tokens are recorded."""


@dataclass(frozen=True)
class ErrorExamples:
    """Utterances with the worst errors."""

    num_examples: int = 5
    """Number of examples per dataset, for the first student (else the last model)."""


@dataclass(frozen=True)
class Include:
    """Results of other commands."""

    ablations: tuple[str, ...] = ()
    """`ablations.json` files of `whisperstill ablate`; a missing file is listed as a failure."""
    filter_summary: str | None = None
    """Output folder of `whisperstill filter`, for its counts."""


Measurement: TypeAlias = ErrorRates | SpeedTable | Speculative | ErrorExamples | Include

MEASUREMENT_TABLES: dict[str, type[Measurement]] = {
    "short_form": ErrorRates,
    "non_speech": ErrorRates,
    "long_form": LongForm,
    "chunk_length": ChunkLength,
    "noise": Noise,
    "speed": SpeedTable,
    "speculative": Speculative,
    "error_examples": ErrorExamples,
    "include": Include,
}
"""Table name in a suite file -> its record, in the order in which measurements run."""


@dataclass(frozen=True)
class Suite:
    """Models, datasets and measurements of an evaluation."""

    name: str
    output: Path
    models: Mapping[str, ModelSpec]
    datasets: Mapping[str, DatasetSpec]
    measurements: Mapping[str, Measurement]
    """Measurements by their key in `MEASUREMENT_TABLES`."""
    content: Mapping[str, JsonValue] = field(default_factory=dict)
    """The file's content, for the hash in the provenance."""

    @property
    def teacher(self) -> str | None:
        """Name of the model that others are compared with."""
        return next((name for name, spec in self.models.items() if spec.role == "teacher"), None)

    @property
    def students(self) -> tuple[str, ...]:
        """Names of the models that serve as draft models of the teacher."""
        return tuple(name for name, spec in self.models.items() if spec.role == "student")


@dataclass(frozen=True)
class EvaluateSettings:
    """Evaluate models against references."""

    model: tuple[str, ...] = ()
    """Checkpoints to compare: directories, installed weights packages (`tiny.en`), or hub ids. With a suite they
    replace its models: the teacher, then students."""
    manifest: tuple[str, ...] = ()
    """Datasets with references: JSONL manifests, or folders in a known layout."""
    output: Path | None = None
    """Folder of results.json, report.md, report.html and hypotheses-*.jsonl (default with a suite: the suite's)."""
    suite: Path | None = None
    """TOML file that names models, datasets and measurements (see suites/); replaces `manifest`."""
    language: str | None = None
    """Language of utterances without one in the manifest (ISO 639-1); default: detected by the model."""
    batch_size: int = 16
    """Windows decoded together."""
    layout: str = "auto"
    """Layout of the datasets; `auto` recognizes it by the files."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the computation; `auto`: bfloat16 on hardware with fast bfloat16, else float32."""
    trim_padding: bool = False
    """Encode only the part of a window that holds audio: faster for short clips, nearly the same text."""
    normalizer: Literal["auto", "english", "basic", "none"] = "auto"
    """Text normalizer before scoring; `auto` selects `english` for English, `basic` otherwise, as openai/whisper."""
    bootstrap_resamples: int = 1000
    """Resamples of the bootstrap for 95 % intervals."""
    seed: int = 0
    """Seed of the bootstrap."""
    limit: int | None = None
    """Number of utterances of each dataset: the first ones, with a suite evenly spaced ones."""
    measure_speed: bool = True
    """Encoder and decoder times at batch size 1, models interleaved. A suite has a [speed] table instead."""
    strict: bool = False
    """Exit with status 1 if an utterance was skipped; by default it is listed, and the status is 0."""


def suite_of_manifests(settings: EvaluateSettings) -> Suite:
    """Suite that scores every model on the first `limit` utterances of every corpus, and times all models at batch 1.

    Models are named by their source, datasets by the corpus.
    """
    assert settings.output is not None
    manifests = name_datasets(settings.manifest)
    datasets = {name: DatasetSpec(manifest, first=settings.limit) for name, manifest in manifests.items()}
    measurements: dict[str, Measurement] = {"short_form": ErrorRates(datasets=tuple(datasets))}
    if settings.measure_speed:
        measurements["speed"] = SpeedTable(batch_sizes=(1,), rounds=7, memory=False)
    models = {model: ModelSpec(model) for model in settings.model}
    return Suite("Evaluation", settings.output, models, datasets, measurements)


def name_datasets(manifests: Sequence[str]) -> dict[str, str]:
    """Dataset name -> manifest: the corpus name, or the manifest itself where two corpora share a name."""
    from whisperstill.corpus.reading import corpus_name

    names = {manifest: corpus_name(manifest) for manifest in manifests}
    counts = Counter(names.values())
    return {name if counts[name] == 1 else manifest: manifest for manifest, name in names.items()}


def find_suite_problems(
    models: Mapping[str, ModelSpec], datasets: Mapping[str, DatasetSpec], measurements: Mapping[str, Measurement]
) -> list[str]:
    """Inconsistencies of a suite, one message each."""
    problems = []
    if not models:
        problems.append("names no model: expected [models] with at least one, such as teacher = 'base'")
    if not measurements:
        problems.append(f"names no measurement: expected a table such as {', '.join(MEASUREMENT_TABLES)}")
    teachers = [name for name, model in models.items() if model.role == "teacher"]
    if len(teachers) > 1:
        problems.append(f"has {len(teachers)} teachers ({', '.join(teachers)}): expected at most one")
    roles = {model.role for model in models.values()}  # `student` stands for all students
    for key, table in measurements.items():
        for field_name, known in (("models", {*models, *roles}), ("datasets", {*datasets})):
            if unknown := [name for name in getattr(table, field_name, ()) if name not in known]:
                problems.append(f"[{key}] {field_name}: expected names of [{field_name}], got {', '.join(unknown)}")
        for field_name in ("batch_sizes", "lengths"):
            values = getattr(table, field_name, None)
            if values is not None and (not values or min(values) < 1):
                problems.append(f"[{key}] {field_name}: expected numbers of at least 1, got {list(values)}")
    if "speculative" in measurements and not (teachers and "student" in roles):
        problems.append("[speculative] needs a model with the role teacher and one with the role student")
    for name, dataset in datasets.items():
        table_name, seconds = f"[datasets.{name}]", dataset.chunk_seconds
        if seconds is not None and not (dataset.non_speech and 1 <= seconds <= WINDOW_SECONDS):
            problems.append(f"{table_name} chunk_seconds: expected 1 to 30 s and non_speech = true, got {seconds:g}")
        for field_name, value in (("first", dataset.first), ("limit", dataset.limit)):
            if value is not None and value < 1:
                problems.append(f"{table_name} {field_name}: expected at least 1, got {value}")
    return problems
