"""What an evaluation suite found: everything that tables, figures and pages are made from.

    Findings
      models, sets      who was measured, on what
      cells             one model on one set under one way of decoding and one condition of the sound: error rates
      speeds            time and memory, batch by batch
      speculations      the teacher with and without a draft
      worst             utterances worth listening to, aligned word by word
      ablations         students trained with one setting varied
      failures          what could not be measured, and why

Rates are in per cent, times in seconds unless the name says otherwise. `findings.json` is this record and nothing
else; what a reader does not know it leaves alone.
"""

from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
"""Of findings.json: raised when a reader of today could not read what is written tomorrow."""


@dataclass(frozen=True, slots=True)
class ModelMeasured:
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
class SetMeasured:
    """A corpus."""

    name: str
    manifest: str
    sha256: str
    utterances: int
    hours: float
    words: int
    language: str
    """Empty where there are several or none is known."""
    normaliser: str
    unit: str
    in_distribution: bool
    long: bool
    non_speech: bool = False


@dataclass(frozen=True, slots=True)
class Paired:
    """Error rate minus the teacher's on the same utterances, per cent points (paired bootstrap, 95 %)."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Hallucination:
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
    length_ratio_95: float
    """95th percentile of words heard over words said."""
    length_ratio_99: float
    runaways: int
    """Utterances with a loop: one group of words over and over, oftener than was said."""
    longest_deletion: int
    """Words of the longest run that was left out."""
    words_on_non_speech: int = 0
    """Words heard where nobody speaks."""
    clips_with_words: int = 0
    """Clips without speech in which words were heard."""
    clips_non_speech: int = 0
    """Clips without speech."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a set: one speaker, or one range of durations."""

    name: str
    utterances: int
    words: int
    wer: float
    wer_low: float
    wer_high: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one set."""

    measurement: str
    """Which part of the suite asked: `short_form`, `long_form`, `chunk_length`, `noise`, `non_speech`."""
    model: str
    set: str
    decoding: str
    """`short`, or the strategy of long recordings: `chunked`, `sequential`, `vad`, `quiet`."""
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
    hallucination: Hallucination
    condition: str = ""
    """What was done to the sound: `white@10` is white noise at 10 dB; nothing for nothing."""
    chunk_length: float = 0.0
    """Seconds; 0 where there are no chunks."""
    against_teacher: Paired | None = None
    agreement: float | None = None
    """Share of utterances whose normalised text is the teacher's, per cent."""
    by_speaker: tuple[Slice, ...] = ()
    by_duration: tuple[Slice, ...] = ()
    utterance_errors: tuple[int, ...] = ()
    """Utterance by utterance, as the set has them, a long one stretch by stretch: what `compare` pairs."""
    utterance_words: tuple[int, ...] = ()

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of sound."""
        return self.seconds / (3600 * self.hours) if self.hours else 0.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians of interleaved runs after a warm-up."""

    model: str
    batch_size: int
    encoder_ms_per_window: float
    decoder_ms_per_token: float
    """A step of the whole batch, per sequence."""
    latency_ms: float
    """From a batch of whole windows to their texts of `tokens` tokens."""
    real_time_factor: float
    """Seconds of work for a second of sound, windows taken as full."""
    tokens: int
    weights_mib: float
    peak_mib: float
    """Most memory of the process (CPU) or of the device's allocator (GPU) while it ran."""


@dataclass(frozen=True, slots=True)
class SpeculationMeasured:
    """The teacher with a draft against the teacher alone, interleaved."""

    model: str
    draft: str
    batch_size: int
    seconds_alone: float
    """Encoding, which is the same for both, and decoding."""
    seconds_with_draft: float
    encoder_seconds: float
    """What of either is the encoder's."""
    utterances: int
    identical: int
    """Utterances whose tokens are the same: all of them, or something is wrong."""
    accepted: float
    """Share of proposed tokens that the teacher would have said, per cent."""
    tokens_per_step: float
    """Tokens gained by one pass of the teacher."""

    @property
    def speed_up(self) -> float:
        """Time alone over time with the draft."""
        return self.seconds_alone / self.seconds_with_draft


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a word alignment: `=` equal, `s` substituted, `d` deleted, `i` inserted."""

    kind: str
    reference: str
    heard: str


@dataclass(frozen=True, slots=True)
class Alignment:
    """What a model heard against what was said, word by word, after normalisation."""

    model: str
    text: str
    """As it was written by the model."""
    errors: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Worst:
    """An utterance worth listening to."""

    set: str
    id: str
    why: str
    """`loop`, `words where nobody speaks`, `insertions`, `deletions`, `errors`."""
    condition: str
    audio: str
    """File; the page holds a copy of the stretch."""
    start: float
    duration: float
    reference: str
    alignments: tuple[Alignment, ...]
    """The teacher's first."""


@dataclass(frozen=True, slots=True)
class DraftToken:
    """A token of a speculative decoding: `accepted` (proposed and right), `corrected` (the teacher's own, where the
    proposal was wrong: `proposed` says what that was), `own` (the teacher's, nothing was proposed)."""

    text: str
    kind: str
    proposed: str = ""


@dataclass(frozen=True, slots=True)
class DraftShown:
    """One utterance decoded speculatively, token by token."""

    set: str
    id: str
    passes: int
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
    facts: dict[str, float] = field(default_factory=dict)
    """What else is known: `hours` trained on, per cent `dropped`, `parameters`, `steps`, `relative_speed`."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One setting varied, all others as the recipe has them."""

    name: str
    """`max_wer`, `hours`, `decoder_layers`, `objective`, `chunk_length`, `temperature`."""
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
class Training:
    """How a student came to be."""

    model: str
    points: tuple[CurvePoint, ...]
    filtered: dict[str, int] = field(default_factory=dict)
    """The filter's ledger: rule (or `kept`) -> windows."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, or was left out."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it."""

    name: str
    provenance: dict[str, Any]
    """Versions, machine, device, number type, threads, command, hash of the suite, when it began and ended."""
    models: tuple[ModelMeasured, ...] = ()
    sets: tuple[SetMeasured, ...] = ()
    cells: tuple[Cell, ...] = ()
    speeds: tuple[Speed, ...] = ()
    speculations: tuple[SpeculationMeasured, ...] = ()
    drafts: tuple[DraftShown, ...] = ()
    worst: tuple[Worst, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    trainings: tuple[Training, ...] = ()
    failures: tuple[Failure, ...] = ()
    format: int = FORMAT

    @property
    def teacher(self) -> ModelMeasured | None:
        """The model that others are held against."""
        return next((model for model in self.models if model.role == "teacher"), None)
