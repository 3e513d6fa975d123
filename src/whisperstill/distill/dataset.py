"""From pseudo-labels and filter decisions to token sequences.

Timestamps, prompts and noise are drawn per (seed, epoch, window): they differ between epochs, and neither the number of
processes nor a resume changes them. A prompt is the text of the previous window of the same session and speaker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from whisperstill.distill.settings import ExampleOptions
from whisperstill.errors import SettingsError
from whisperstill.label.filter_decisions import DecisionKey
from whisperstill.records import FilterDecision, PseudoLabel
from whisperstill.records.seeding import rng
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_PROMPT_TOKENS, MAX_TARGET_POSITIONS, TIMESTAMP_STEP_SECONDS, WINDOW_POSITIONS

MASK_SPAN_POSITIONS = 10
"""Length of a masked span: 0.2 s, about a syllable."""
_UNFILTERED = FilterDecision(True, "", 0.0)


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A labelled window with at least one utterance that the filter kept."""

    label: PseudoLabel
    utterance_mask: tuple[bool, ...]
    """Per utterance: whether its tokens are in the loss."""
    utterance_weights: tuple[float, ...]
    """Per utterance: weight of its tokens in the loss."""
    previous_tokens: tuple[int, ...]
    """Text tokens of the previous window of the session, after its last dropped utterance; possibly empty."""


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """An example as token sequences of equal length."""

    decoder_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    weights: tuple[float, ...]
    teacher_steps: tuple[int, ...]
    """Decoding step of the teacher that produced each target; -1 for prompt and start tokens."""
    matches_teacher_input: bool
    """Whether the teacher labelled with the same prompt and timestamps, so that its stored targets apply."""


def build_examples(
    labels: Iterable[PseudoLabel], decisions: Mapping[DecisionKey, FilterDecision] | None, end_of_text: int
) -> list[TrainingExample]:
    """Windows with at least one utterance that the filter kept; without `decisions` all are kept.

    Rejected utterances of a kept window stay in the decoder input, outside the losses. `end_of_text` (<|endoftext|>) is
    the first id that is not a text token: tokens from it on are left out of prompts.
    """
    training_examples: list[TrainingExample] = []
    preceding: tuple[PseudoLabel, tuple[bool, ...]] | None = None
    for label in labels:
        utterance_decisions = [
            _UNFILTERED
            if decisions is None
            else decisions[label.window.id, quality.utterance.corpus, quality.utterance.id]
            for quality in label.quality
        ]
        utterance_mask = tuple(decision.keep for decision in utterance_decisions)
        if any(utterance_mask):
            previous_tokens: tuple[int, ...] = ()
            if preceding is not None and _continues_session(preceding[0], label):
                previous_tokens = tuple(
                    token for token in _tokens_after_last_dropped(*preceding) if token < end_of_text
                )
            training_examples.append(
                TrainingExample(
                    label, utterance_mask, tuple(decision.weight for decision in utterance_decisions), previous_tokens
                )
            )
        preceding = label, utterance_mask
    return training_examples


def _tokens_after_last_dropped(label: PseudoLabel, utterance_mask: Sequence[bool]) -> tuple[int, ...]:
    """The tokens after the last utterance that the filter dropped."""
    pairs = zip(label.quality, utterance_mask, strict=True)
    return label.tokens[max((quality.token_end for quality, is_kept in pairs if not is_kept), default=0) :]


def _continues_session(previous_label: PseudoLabel, label: PseudoLabel) -> bool:
    """Whether a window continues the previous one: same session and speaker, in recording order."""
    last_utterance, first_utterance = previous_label.window.utterances[-1], label.window.utterances[0]
    return (
        previous_label.window.packing_variant == label.window.packing_variant == 0
        and (last_utterance.corpus, last_utterance.speaker, last_utterance.session)
        == (first_utterance.corpus, first_utterance.speaker, first_utterance.session)
        and first_utterance.session is not None  # without sessions, sentences of one speaker are unrelated
    )


def tokenize_example(
    example: TrainingExample, vocabulary: Vocabulary, example_options: ExampleOptions, epoch: int
) -> TokenizedExample:
    """The token sequences of an example in this epoch.

    Raises `SettingsError` if `example_options` need timestamps and the labels have none.
    """
    label = example.label
    rng_key = (example_options.seed, epoch, label.window.id)
    with_timestamps = rng(*rng_key, "timestamps").random() < example_options.timestamp_probability
    if example_options.timestamp_probability > 0 and not label.timestamps:
        raise SettingsError("timestamp_probability needs labels with timestamps: label with --timestamps")
    with_prompt = (
        bool(example.previous_tokens)
        and rng(*rng_key, "prompt").random() < example_options.condition_on_prev_probability
    )

    # 1. Transcript, with or without timestamps, and the end token if the teacher generated it.
    in_loss, step_weights = [False] * len(label.tokens), [1.0] * len(label.tokens)  # outside every utterance: no loss
    for quality, is_kept, weight in zip(label.quality, example.utterance_mask, example.utterance_weights, strict=True):
        for step in range(quality.token_start, quality.token_end):
            in_loss[step], step_weights[step] = is_kept, weight
    teacher_steps = [
        step for step, token in enumerate(label.tokens) if with_timestamps or not vocabulary.is_timestamp(token)
    ]
    tokens = [label.tokens[step] for step in teacher_steps]
    loss_mask = [in_loss[step] for step in teacher_steps]
    weights = [step_weights[step] for step in teacher_steps]
    if label.ended:
        tokens.append(vocabulary.end_of_text)
        teacher_steps.append(len(label.tokens))
        loss_mask.append(example.utterance_mask[-1])
        weights.append(example.utterance_weights[-1])
    # 2. Start tokens, and the end of the previous text as far as it fits.
    start_tokens = vocabulary.sot_sequence(label.language, "transcribe", with_timestamps)
    prompt_tokens: tuple[int, ...] = ()
    if with_prompt:
        free_positions = MAX_TARGET_POSITIONS - len(start_tokens) - len(tokens)
        max_prompt_tokens = min(MAX_PROMPT_TOKENS, free_positions)
        if max_prompt_tokens > 0:
            prompt_tokens = (vocabulary.start_of_previous, *example.previous_tokens[-max_prompt_tokens:])
    sequence = (*prompt_tokens, *start_tokens, *tokens)
    prefix_length = len(prompt_tokens) + len(start_tokens) - 1
    # 3. Noise: random text tokens in the decoder input; the targets are unchanged.
    decoder_ids = [*sequence[:-1]]
    if example_options.decoder_input_noise:
        noise_rng = rng(*rng_key, "noise")
        is_replaced = noise_rng.random(len(decoder_ids)) < example_options.decoder_input_noise
        random_tokens = noise_rng.integers(0, vocabulary.end_of_text, len(decoder_ids)).tolist()
        for position in range(prefix_length + 1, len(decoder_ids)):
            if is_replaced[position] and not vocabulary.is_timestamp(decoder_ids[position]):
                decoder_ids[position] = random_tokens[position]
    return TokenizedExample(
        decoder_ids=tuple(decoder_ids),
        target_ids=sequence[1:],
        loss_mask=(False,) * prefix_length + tuple(loss_mask),
        weights=(1.0,) * prefix_length + tuple(weights),
        teacher_steps=(-1,) * prefix_length + tuple(teacher_steps),
        matches_teacher_input=not prompt_tokens and with_timestamps == label.timestamps,
    )


def masked_positions(example: TrainingExample, example_options: ExampleOptions, epoch: int) -> list[int]:
    """Encoder positions masked in an epoch: spans of `MASK_SPAN_POSITIONS` among those with audio."""
    audio_positions = min(WINDOW_POSITIONS, round(example.label.window.duration / TIMESTAMP_STEP_SECONDS))
    num_spans = round(example_options.encoder_mask_prob * audio_positions / MASK_SPAN_POSITIONS)
    if not num_spans:
        return []
    generator = rng(example_options.seed, epoch, example.label.window.id, "masks")
    starts = generator.integers(0, audio_positions, num_spans).tolist()
    spans = (range(start, min(audio_positions, start + MASK_SPAN_POSITIONS)) for start in starts)
    return sorted(set().union(*spans))


def epoch_batches(
    examples: Sequence[TrainingExample], batch_size: int, seed: int, epoch: int
) -> list[list[TrainingExample]]:
    """Batches of an epoch in random order, of any lengths: the sequences of a batch are concatenated, not padded."""
    order = [examples[index] for index in rng(seed, epoch, "order").permutation(len(examples))]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
