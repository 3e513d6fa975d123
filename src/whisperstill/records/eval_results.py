"""Results of an evaluation: the record from which all tables, figures and reports are made.

Rates are in per cent, times in seconds unless the name says otherwise. `results.json` holds this record; readers
ignore keys that they do not know.
"""

from dataclasses import dataclass, field

from whisperstill.records.json_value import JsonObject

FORMAT_VERSION = 2
"""Format of results.json; increased when older readers cannot read newer files."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An evaluated model."""

    name: str
    source: str
    """Checkpoint: directory, weights package or hub id."""
    engine: str = "whisperstill"
    role: str = ""
    """`teacher`, `student`, or empty."""
    sha256: str = ""
    parameters: int = 0
    parameters_encoder: int = 0
    parameters_decoder: int = 0
    parameters_embedding: int = 0
    encoder_layers: int = 0
    decoder_layers: int = 0
    dtype: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """An evaluated dataset."""

    name: str
    manifest: str
    sha256: str
    utterances: int
    hours: float
    words: int
    language: str
    """Language of all utterances; empty if there are several or none is known."""
    normalizer: str
    unit: str
    in_distribution: bool
    long_form: bool
    non_speech: bool = False


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Error rate minus the teacher's on the same utterances, percentage points, with its 95 % interval (paired
    bootstrap)."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided: share of resamples on the other side of 0, at least 1 in resamples + 1. It is never below the smallest
    p-value of a sign test, 2^(1 - n) for n utterances that differ: few utterances prove nothing."""


@dataclass(frozen=True, slots=True)
class HallucinationMetrics:
    """Counts and rates of hallucinated text (paper, section 5.3 and table 8; see `evaluate.hallucination`)."""

    five_grams: int
    """5-grams in the normalized hypotheses."""
    repeated_five_grams: int
    """5-grams minus distinct 5-grams, over the dataset."""
    repeated_in_reference: int
    """The same for the references: repetitions of the speakers."""
    repeated_beyond_reference: int
    """Repetitions of each 5-gram beyond its repetitions in the references."""
    insertion_rate: float
    """Inserted words per reference word, per cent."""
    length_ratio_p95: float
    """95th percentile of hypothesis words per reference word."""
    length_ratio_p99: float
    repetition_loops: int
    """Utterances with a repetition loop: a phrase over and over, more often than in the reference."""
    longest_deletion: int
    """Words in the longest run of deletions."""
    words_on_non_speech: int = 0
    non_speech_clips_with_words: int = 0
    non_speech_clips: int = 0


@dataclass(frozen=True, slots=True)
class SubsetResult:
    """Error rate on a part of a dataset: one speaker, or one range of durations."""

    name: str
    utterances: int
    words: int
    wer: float
    wer_low: float
    wer_high: float


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """Metrics of one model on one dataset."""

    measurement: str
    """`short_form`, `long_form`, `chunk_length`, `noise` or `non_speech`."""
    model: str
    dataset: str
    decoding: str
    """`short`, or the long-form strategy: `chunked`, `sequential`, `vad`, `silence`."""
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    wer_orthographic: float
    """WER without normalization: case and punctuation count."""
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int
    hours: float
    seconds: float
    """Wall-clock time of transcription, encoding included."""
    hallucination: HallucinationMetrics
    condition: str = ""
    """Audio condition: `white@10` is white noise at 10 dB SNR; empty for unchanged audio."""
    chunk_length: float = 0.0
    """Chunk length, seconds; 0 for the default, or without chunks."""
    difference_to_teacher: PairedDifference | None = None
    agreement_with_teacher: float | None = None
    """Share of utterances whose normalized text equals the teacher's, per cent."""
    by_speaker: tuple[SubsetResult, ...] = ()
    by_duration: tuple[SubsetResult, ...] = ()
    utterance_errors: tuple[int, ...] = ()
    """Errors by utterance in corpus order, long ones by block (`evaluate.intervals`): `compare` pairs them."""
    utterance_words: tuple[int, ...] = ()
    """Reference words, likewise."""

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of audio."""
        return self.seconds / (3600 * self.hours) if self.hours else 0.0


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """Speed and memory of a model at one batch size: medians of interleaved runs after a warm-up."""

    model: str
    batch_size: int
    encoder_ms_per_window: float
    decoder_ms_per_token: float
    """Time of a decoder step of the batch, divided by the batch size."""
    latency_ms: float
    """Time from the mel frames of a batch of 30-second windows to `num_tokens` tokens each."""
    real_time_factor: float
    """Seconds of computing per second of audio, for full windows."""
    num_tokens: int
    weights_mib: float
    peak_memory_mib: float = 0.0
    """Peak memory of the process (CPU) or of the device's allocator (GPU); 0 if not measured."""


@dataclass(frozen=True, slots=True)
class SpeculativeResult:
    """Speculative decoding with a draft model against the teacher alone, interleaved."""

    model: str
    draft: str
    batch_size: int
    baseline_seconds: float
    """Encoding and decoding of the teacher alone."""
    speculative_seconds: float
    encoder_seconds: float
    """Encoding, a part of both times."""
    utterances: int
    identical: int
    """Utterances with identical tokens; must be all."""
    acceptance_rate: float
    """Share of draft tokens that the teacher accepts, per cent."""
    tokens_per_step: float
    """Tokens per forward pass of the teacher."""

    @property
    def speedup(self) -> float:
        """Baseline time divided by speculative time."""
        return self.baseline_seconds / self.speculative_seconds


@dataclass(frozen=True, slots=True)
class AlignmentOp:
    """A pair of words; `kind` is `=` (equal), `s` (substituted), `d` (deleted) or `i` (inserted)."""

    kind: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class WordAlignment:
    """Alignment of a model's hypothesis with the reference, after normalization."""

    model: str
    text: str
    """Hypothesis before normalization."""
    errors: int
    ops: tuple[AlignmentOp, ...]


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """An utterance with a severe error."""

    dataset: str
    id: str
    reason: str
    """`repetition loop`, `words on non-speech`, `insertions`, `deletions`, `errors`."""
    condition: str
    audio: str
    start: float
    duration: float
    reference: str
    alignments: tuple[WordAlignment, ...]
    """One per model, the teacher's first."""


@dataclass(frozen=True, slots=True)
class DraftToken:
    """A token of speculative decoding.

    `kind` is `accepted` (proposed by the draft), `corrected` (the teacher's, in place of `proposed`) or `bonus` (the
    teacher's, without a proposal).
    """

    text: str
    kind: str
    proposed: str = ""


@dataclass(frozen=True, slots=True)
class DraftTrace:
    """Speculative decoding of one utterance, token by token."""

    dataset: str
    id: str
    teacher_passes: int
    tokens: tuple[DraftToken, ...]


@dataclass(frozen=True, slots=True)
class AblationRow:
    """Students trained with one value of the varied setting, one per seed."""

    value: str
    wer: dict[str, dict[str, float]]
    """WER by dataset and seed."""
    mean: float
    """Mean WER over the datasets of `Ablation.mean_over`, then over seeds."""
    low: float
    high: float
    """95 % interval of the mean over seeds and utterances."""
    stats: dict[str, float] = field(default_factory=dict)
    """Further figures: `hours` of training audio, `percent_dropped`, `parameters`, `steps`, `relative_speed` ..."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One setting varied, all others as in the recipe."""

    name: str
    """`max_wer`, `subset_hours`, `decoder_layers`, `layers`, `objective`, `temperature` or `chunk_length`."""
    setting: str
    """Key in the recipe: `filter.max_wer`."""
    rows: tuple[AblationRow, ...]
    mean_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Loss and validation WER at one step of a training."""

    step: int
    loss: float | None = None
    validation_wer: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """Training of a student: its curve and the data it was trained on."""

    model: str
    points: tuple[CurvePoint, ...]
    filter_summary: dict[str, int] = field(default_factory=dict)
    """Filter rule (or `kept`) -> utterances."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed measurement, or a skipped utterance."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class EvalResults:
    """All results of an evaluation."""

    name: str
    provenance: JsonObject
    """Versions, machine, device, dtype, threads, command, hash of the suite, start and end."""
    models: tuple[ModelInfo, ...] = ()
    datasets: tuple[DatasetInfo, ...] = ()
    results: tuple[DatasetResult, ...] = ()
    speeds: tuple[SpeedResult, ...] = ()
    speculative: tuple[SpeculativeResult, ...] = ()
    draft_traces: tuple[DraftTrace, ...] = ()
    error_examples: tuple[ErrorExample, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    training_curves: tuple[TrainingCurve, ...] = ()
    failures: tuple[Failure, ...] = ()
    format: int = FORMAT_VERSION

    @property
    def teacher(self) -> ModelInfo | None:
        """The model that others are compared with."""
        return next((model for model in self.models if model.role == "teacher"), None)
