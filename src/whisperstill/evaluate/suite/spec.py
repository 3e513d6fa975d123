"""Records of an evaluation suite, and checks that they are consistent.

`suite_file` reads them from TOML; `suite_of_manifests` builds them from `evaluate --model --manifest`.
"""

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
    """Language of utterances that do not state theirs (ISO 639-1)."""
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
class ShortForm:
    """Error rates on utterances: up to 30 s in one window, longer ones as recordings."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class NonSpeech:
    """Hallucinated words in audio without speech."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class LongForm:
    """Error rates on datasets that are mostly recordings over 30 s."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    strategies: tuple[Literal["chunked", "sequential", "vad", "silence"], ...] = ("chunked", "sequential")
    """Long-form strategies to compare."""
    batch_size: int = 8
    """Windows decoded together."""


@dataclass(frozen=True)
class ChunkLength:
    """Error rates of the `chunked` strategy by chunk length (paper, table 17)."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    lengths: tuple[float, ...] = (30.0, 25.0, 20.0, 15.0, 10.0)
    """Chunk lengths, seconds."""


@dataclass(frozen=True)
class Noise:
    """Error rates on corrupted audio, utterances up to 30 s only (paper, figure 3)."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
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


Measurement: TypeAlias = (
    ShortForm | NonSpeech | LongForm | ChunkLength | Noise | SpeedTable | Speculative | ErrorExamples | Include
)

MEASUREMENT_TABLES: dict[str, type[Measurement]] = {
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
class SuiteOptions:
    """Options that a suite takes from the command line."""

    device: str = "auto"
    dtype: str = "auto"
    """Compute type of models whose own is `auto`."""
    batch_size: int = 16
    """Windows decoded together, where a measurement does not state its own."""
    trim_padding: bool = False
    """Encode only the part of a window that holds audio."""
    layout: str = "auto"
    """Corpus layout, a key of `corpus.LAYOUTS`."""
    language: str | None = None
    """Language of utterances that do not state theirs, where the dataset sets none."""
    limit: int | None = None
    """Number of utterances of each dataset, evenly spaced."""
    normalizer: str = "auto"
    """Text normalizer; `auto` selects by the dataset's language."""
    bootstrap_resamples: int = 1000
    seed: int = 0
    """Seed of the bootstrap."""


def suite_of_manifests(models: Sequence[str], manifests: Sequence[str], output: Path, first: int | None) -> Suite:
    """Suite that scores every model on every corpus and times all models at batch 1.

    Models are named by their source, datasets by the corpus; `first` limits each dataset to its first utterances.
    """
    datasets = {name: DatasetSpec(manifest, first=first) for name, manifest in name_datasets(manifests).items()}
    measurements: dict[str, Measurement] = {
        "short_form": ShortForm(datasets=tuple(datasets)),
        "speed": SpeedTable(batch_sizes=(1,), rounds=7, memory=False),
    }
    return Suite("Evaluation", output, {model: ModelSpec(model) for model in models}, datasets, measurements)


def name_datasets(manifests: Sequence[str]) -> dict[str, str]:
    """Dataset name -> manifest: the corpus name, or the manifest itself where two corpora share a name."""
    from whisperstill.corpus.reading import corpus_name

    names = {manifest: corpus_name(manifest) for manifest in dict.fromkeys(manifests)}
    counts = list(names.values())
    return {name if counts.count(name) == 1 else manifest: manifest for manifest, name in names.items()}


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
            unknown = [name for name in getattr(table, field_name, ()) if name not in known]
            if unknown:
                problems.append(f"[{key}] {field_name}: expected names of [{field_name}], got {', '.join(unknown)}")
        for field_name in ("batch_sizes", "lengths"):
            values = getattr(table, field_name, None)
            if values is not None and (not values or min(values) < 1):
                problems.append(f"[{key}] {field_name}: expected numbers of at least 1, got {list(values)}")
    if "speculative" in measurements and not (teachers and "student" in roles):
        problems.append("[speculative] needs a model with the role teacher and one with the role student")
    for name, dataset in datasets.items():
        problems += [f"[datasets.{name}] {problem}" for problem in _find_dataset_problems(dataset)]
    return problems


def _find_dataset_problems(dataset: DatasetSpec) -> list[str]:
    problems = []
    seconds = dataset.chunk_seconds
    if seconds is not None and not (dataset.non_speech and 1 <= seconds <= WINDOW_SECONDS):
        problems.append(f"chunk_seconds: expected 1 to 30 s and non_speech = true, got {seconds:g}")
    for field_name, value in (("first", dataset.first), ("limit", dataset.limit)):
        if value is not None and value < 1:
            problems.append(f"{field_name}: expected at least 1, got {value}")
    return problems
