"""What an evaluation suite found: everything that tables, figures and pages are made from.

    EvalResults
      models, datasets  who was measured, on what
      results           one model on one dataset under one way of decoding and one condition of the sound: error rates
      speeds            time and memory, batch by batch
      speculative       the teacher with and without a draft
      error_examples    utterances worth listening to, aligned word by word
      ablations         students trained with one setting varied
      failures          what could not be measured, and why

Rates are in per cent, times in seconds unless the name says otherwise. `results.json` is this record and nothing
else; what a reader does not know it leaves alone.
"""

from dataclasses import dataclass, field
from typing import Any

FORMAT_VERSION = 2
"""Of results.json: raised when a reader of today could not read what is written tomorrow."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A contender."""

    name: str
    source: str
    """Directory, package or hub id."""
    engine: str = "whisperstill"
    """`whisperstill`, `transformers`, `faster-whisper`, `whisper.cpp`."""
    role: str = ""
    """`teacher`, `student`, or nothing."""
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
    """A corpus."""

    name: str
    manifest: str
    sha256: str
    utterances: int
    hours: float
    words: int
    language: str
    """Empty where there are several or none is known."""
    normalizer: str
    unit: str
    in_distribution: bool
    long_form: bool
    non_speech: bool = False


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Error rate minus the teacher's on the same utterances, per cent points (paired bootstrap, 95 %)."""

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class HallucinationMetrics:
    """How much was said that nobody said (paper, section 5.3 and table 8, and beyond)."""

    five_grams: int
    """5-grams in the normalised hypotheses."""
    repeated_five_grams: int
    """5-grams less distinct 5-grams, over the set."""
    repeated_in_reference: int
    """The same in the references: what speakers repeated."""
    repeated_beyond_reference: int
    """Repeats of each 5-gram beyond those it has in the references."""
    insertion_rate: float
    length_ratio_p95: float
    """95th percentile of words heard over words said."""
    length_ratio_p99: float
    repetition_loops: int
    """Utterances with a loop: one group of words over and over, oftener than was said."""
    longest_deletion: int
    """Words of the longest run that was left out."""
    words_on_non_speech: int = 0
    """Words heard where nobody speaks."""
    non_speech_clips_with_words: int = 0
    """Clips without speech in which words were heard."""
    non_speech_clips: int = 0
    """Clips without speech."""


@dataclass(frozen=True, slots=True)
class SubsetResult:
    """A part of a set: one speaker, or one range of durations."""

    name: str
    utterances: int
    words: int
    wer: float
    wer_low: float
    wer_high: float


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """One model on one set."""

    measurement: str
    """Which part of the suite asked: `short_form`, `long_form`, `chunk_length`, `noise`, `non_speech`."""
    model: str
    dataset: str
    decoding: str
    """`short`, or the strategy of long recordings: `chunked`, `sequential`, `vad`, `silence`."""
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    wer_orthographic: float
    """As written: case and punctuation counted."""
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int
    hours: float
    seconds: float
    """Time it took, encoding included."""
    hallucination: HallucinationMetrics
    condition: str = ""
    """What was done to the sound: `white@10` is white noise at 10 dB; nothing for nothing."""
    chunk_length: float = 0.0
    """Seconds; 0 where there are no chunks."""
    difference_to_teacher: PairedDifference | None = None
    agreement_with_teacher: float | None = None
    """Share of utterances whose normalised text is the teacher's, per cent."""
    by_speaker: tuple[SubsetResult, ...] = ()
    by_duration: tuple[SubsetResult, ...] = ()
    utterance_errors: tuple[int, ...] = ()
    """Utterance by utterance, as the set has them, a long one stretch by stretch: what `compare` pairs."""
    utterance_words: tuple[int, ...] = ()

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of sound."""
        return self.seconds / (3600 * self.hours) if self.hours else 0.0


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """Medians of interleaved runs after a warm-up."""

    model: str
    batch_size: int
    encoder_ms_per_window: float
    decoder_ms_per_token: float
    """A step of the whole batch, per sequence."""
    latency_ms: float
    """From a batch of whole windows to their texts of `num_tokens` tokens."""
    real_time_factor: float
    """Seconds of work for a second of sound, windows taken as full."""
    num_tokens: int
    weights_mib: float
    peak_memory_mib: float
    """Most memory of the process (CPU) or of the device's allocator (GPU) while it ran."""


@dataclass(frozen=True, slots=True)
class SpeculativeResult:
    """The teacher with a draft against the teacher alone, interleaved."""

    model: str
    draft: str
    batch_size: int
    baseline_seconds: float
    """Encoding, which is the same for both, and decoding."""
    speculative_seconds: float
    encoder_seconds: float
    """What of either is the encoder's."""
    utterances: int
    identical: int
    """Utterances whose tokens are the same: all of them, or something is wrong."""
    acceptance_rate: float
    """Share of proposed tokens that the teacher would have said, per cent."""
    tokens_per_step: float
    """Tokens gained by one pass of the teacher."""

    @property
    def speedup(self) -> float:
        """Time alone over time with the draft."""
        return self.baseline_seconds / self.speculative_seconds


@dataclass(frozen=True, slots=True)
class AlignmentOp:
    """One step of a word alignment: `=` equal, `s` substituted, `d` deleted, `i` inserted."""

    kind: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class WordAlignment:
    """What a model heard against what was said, word by word, after normalisation."""

    model: str
    text: str
    """As it was written by the model."""
    errors: int
    ops: tuple[AlignmentOp, ...]


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """An utterance worth listening to."""

    dataset: str
    id: str
    reason: str
    """`repetition loop`, `words on non-speech`, `insertions`, `deletions`, `errors`."""
    condition: str
    audio: str
    """File; the page holds a copy of the stretch."""
    start: float
    duration: float
    reference: str
    alignments: tuple[WordAlignment, ...]
    """The teacher's first."""


@dataclass(frozen=True, slots=True)
class DraftToken:
    """A token of a speculative decoding: `accepted` (proposed and right), `corrected` (the teacher's own, where the
    proposal was wrong: `proposed` says what that was), `bonus` (the teacher's, nothing was proposed)."""

    text: str
    kind: str
    proposed: str = ""


@dataclass(frozen=True, slots=True)
class DraftTrace:
    """One utterance decoded speculatively, token by token."""

    dataset: str
    id: str
    teacher_passes: int
    """Passes of the teacher."""
    tokens: tuple[DraftToken, ...]


@dataclass(frozen=True, slots=True)
class AblationRow:
    """Students trained with one value of what is varied, seed by seed."""

    value: str
    wer: dict[str, dict[str, float]]
    """By set, by seed: per cent."""
    mean: float
    """Over the sets of `Ablation.mean_over`, then seeds."""
    low: float
    high: float
    """95 % interval of the mean over seeds and utterances."""
    stats: dict[str, float] = field(default_factory=dict)
    """What else is known: `hours` trained on, `percent_dropped`, `parameters`, `steps`, `relative_speed`."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One setting varied, all others as the recipe has them."""

    name: str
    """`max_wer`, `subset_hours`, `decoder_layers`, `objective`, `chunk_length`, `temperature`."""
    setting: str
    """Where the recipe has it: `filter.max_wer`."""
    rows: tuple[AblationRow, ...]
    mean_over: tuple[str, ...] = ()
    """The sets that the rows' means are over."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Of a training."""

    step: int
    loss: float | None = None
    validation_wer: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """How a student came to be."""

    model: str
    points: tuple[CurvePoint, ...]
    filter_summary: dict[str, int] = field(default_factory=dict)
    """The filter's ledger: rule (or `kept`) -> windows."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, or was left out."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class EvalResults:
    """All of it."""

    name: str
    provenance: dict[str, Any]
    """Versions, machine, device, number type, threads, command, hash of the suite, when it began and ended."""
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
        """The model that others are held against."""
        return next((model for model in self.models if model.role == "teacher"), None)
