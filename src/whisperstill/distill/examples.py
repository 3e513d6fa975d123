"""From labelled windows and the filter's verdicts to what a step reads.

Timestamps and previous-text prompts are drawn per (seed, epoch, window): each epoch sees another view, and neither
the number of workers nor a resume changes any of them. A prompt comes from the window before in the same session of
the same speaker, never merely from the previous row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from whisperstill.errors import SettingsError
from whisperstill.records import Labelled, Verdict
from whisperstill.records.random import rng
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_PROMPT_TOKENS, TEXT_POSITIONS, TIMESTAMP_SECONDS, WINDOW_POSITIONS

MASKED = 10
"""States hidden together: 0.2 s, a syllable."""
_UNJUDGED = Verdict(True, "", 0.0)
VerdictKey = tuple[str, str, str]
"""Window, corpus, utterance."""


@dataclass(frozen=True, slots=True)
class Example:
    """A window that may teach."""

    labelled: Labelled
    kept: tuple[bool, ...]
    """Per utterance: whether the loss looks at its tokens."""
    weights: tuple[float, ...]
    """Per utterance: how much they count."""
    previous: tuple[int, ...]
    """Text tokens of the window before it in the same session; empty when there is none."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Which views of an example are drawn."""

    seed: int = 0
    timestamp_probability: float = 0.0
    prompt_probability: float = 0.0
    token_noise: float = 0.0
    """Share of the transcript's tokens that the decoder reads wrongly."""
    state_masks: float = 0.0
    """Share of a window's states that the decoder does not hear."""


@dataclass(frozen=True, slots=True)
class View:
    """An example as token lists, all of one length."""

    decoder_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    scored: tuple[bool, ...]
    weights: tuple[float, ...]
    steps: tuple[int, ...]
    """Index of each target among the teacher's own steps; -1 for what the teacher did not produce."""
    as_labelled: bool
    """Whether the teacher saw exactly these decoder tokens when it labelled."""


def examples(labelled: Iterable[Labelled], verdicts: Mapping[VerdictKey, Verdict] | None, end: int) -> list[Example]:
    """Windows with at least one utterance that may teach. Without verdicts all may.

    `end` is the first id that is no text token (<|endoftext|>): prompts hold text only.
    """
    found: list[Example] = []
    before: tuple[Labelled, tuple[bool, ...]] | None = None
    for one in labelled:
        judged = [
            _UNJUDGED if verdicts is None else verdicts[one.window.id, seen.utterance.corpus, seen.utterance.id]
            for seen in one.evidence
        ]
        kept = tuple(verdict.kept for verdict in judged)
        if any(kept):
            previous: tuple[int, ...] = ()
            if before is not None and _follows(before[0], one):
                previous = tuple(token for token in _trusted(*before) if token < end)
            found.append(Example(one, kept, tuple(verdict.weight for verdict in judged), previous))
        before = one, kept
    return found


def _trusted(before: Labelled, kept: Sequence[bool]) -> tuple[int, ...]:
    """A window's tokens from behind the last utterance that the filter dropped."""
    dropped = [seen.last_token for seen, stays in zip(before.evidence, kept, strict=True) if not stays]
    return before.tokens[max(dropped, default=0) :]


def _follows(before: Labelled, one: Labelled) -> bool:
    """Whether a window continues the one before: same session and speaker, recording order."""
    last, first = before.window.utterances[-1], one.window.utterances[0]
    return (
        before.window.packing == one.window.packing == 0
        and (last.corpus, last.speaker, last.session) == (first.corpus, first.speaker, first.session)
        and first.session is not None  # what one speaker says for a crowd-sourced corpus are unrelated sentences
    )


def compose(example: Example, vocabulary: Vocabulary, drawing: Drawing, epoch: int) -> View:
    """The view of an example that this epoch reads.

    Raises `SettingsError` when timestamps are asked for and the labels have none.
    """
    labelled = example.labelled
    key = (drawing.seed, epoch, labelled.window.id)
    timestamps = rng(*key, "timestamps").random() < drawing.timestamp_probability
    if drawing.timestamp_probability > 0 and not labelled.timestamps:
        raise SettingsError("timestamp_probability needs labels with timestamps: label with --timestamps")
    prompted = bool(example.previous) and rng(*key, "prompt").random() < drawing.prompt_probability

    tokens, steps, kept, weights = [], [], [], []
    for step, token in enumerate(labelled.tokens):
        if timestamps or not vocabulary.is_timestamp(token):
            tokens.append(token)
            steps.append(step)
            scored, weight = _judged_at(example, step)
            kept.append(scored)
            weights.append(weight)
    if labelled.ended:
        tokens.append(vocabulary.end_of_text)
        steps.append(len(labelled.tokens))
        kept.append(example.kept[-1])
        weights.append(example.weights[-1])
    start = vocabulary.start(labelled.language, "transcribe", timestamps)
    prompt: tuple[int, ...] = ()
    if prompted:
        room = TEXT_POSITIONS - len(start) - len(tokens)
        most = min(MAX_PROMPT_TOKENS, room)
        if most > 0:
            prompt = (vocabulary.start_of_previous, *example.previous[-most:])
    sequence = (*prompt, *start, *tokens)
    lead = len(prompt) + len(start) - 1
    read = [*sequence[:-1]]
    if drawing.token_noise:
        noise = rng(*key, "noise")
        wrong = noise.random(len(read)) < drawing.token_noise
        others = noise.integers(0, vocabulary.end_of_text, len(read)).tolist()
        for at in range(lead + 1, len(read)):
            if wrong[at] and not vocabulary.is_timestamp(read[at]):
                read[at] = others[at]
    return View(
        decoder_ids=tuple(read),
        target_ids=sequence[1:],
        scored=(False,) * lead + tuple(kept),
        weights=(1.0,) * lead + tuple(weights),
        steps=(-1,) * lead + tuple(steps),
        as_labelled=not prompt and timestamps == labelled.timestamps,
    )


def masked(example: Example, drawing: Drawing, epoch: int) -> list[int]:
    """The states that an epoch hides: stretches of `MASKED` among those that hold audio."""
    heard = min(WINDOW_POSITIONS, round(example.labelled.window.duration / TIMESTAMP_SECONDS))
    stretches = round(drawing.state_masks * heard / MASKED)
    if not stretches:
        return []
    begins = rng(drawing.seed, epoch, example.labelled.window.id, "masks").integers(0, heard, stretches).tolist()
    return sorted({at for begin in begins for at in range(begin, min(heard, begin + MASKED))})


def _judged_at(example: Example, step: int) -> tuple[bool, float]:
    """Whether the loss looks at a token, and how much it counts; at one that is no utterance's it does not look."""
    for seen, kept, weight in zip(example.labelled.evidence, example.kept, example.weights, strict=True):
        if seen.first_token <= step < seen.last_token:
            return kept, weight
    return False, 1.0


def batches(found: Sequence[Example], batch_size: int, seed: int, epoch: int) -> list[list[Example]]:
    """An epoch's batches, in an order of its own. Sequences are packed: those of like length need not be together."""
    order = [found[index] for index in rng(seed, epoch, "order").permutation(len(found))]
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
