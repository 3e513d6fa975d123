"""Which heads of a network say when a word is said, found by listening for pauses.

A student's teacher has its alignment heads in layers that the student lacks, and a trained student's heads are not its
teacher's. What a head is good for shows where the speaker pauses: read from the head's own path through the audio,
the words shall lie in the sound, and what is no word (a comma, a full stop, the end) in the pauses.

The trap is to ask which heads follow the audio most sharply. Many of them follow the token that was said last, not the
one that is said next: their path is as clean as can be and a word late, so that all times read from it are a word
early. Pauses tell the two apart; whisper-base's own settings mix both kinds (docs/results/words.md).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.audio.activity import speech_spans
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.attention_path import attention_gain, token_starts
from whisperstill.decode.recogniser import Recognised, Recogniser
from whisperstill.decode.words import audible_positions, spoken_tokens
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.units import SAMPLE_RATE, TIMESTAMP_SECONDS

MOST_HEADS = 6
"""More heads do not help (docs/results/words.md)."""
WORSE_BY = 0.15
"""How far below the best head's agreement one may lie; a head that follows nothing has 0.5, a good one 0.8."""
TOGETHER = 64
"""Heads watched at a time."""

Head = tuple[int, int]


def with_alignment_heads(
    checkpoint: Checkpoint,
    waveforms: Sequence[np.ndarray],
    languages: Sequence[str | None],
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    batch_size: int = 8,
) -> Checkpoint:
    """The checkpoint with alignment heads found on these windows (16 kHz, at most 30 s each) and its own transcripts.

    A dozen windows of ordinary speech are enough. Where they tell nothing (no pause, no word) the heads stay as they
    are. `dtype` as in `Recogniser`. Raises `SettingsError` for a language the network does not know.
    """
    recogniser = Recogniser(checkpoint, device=device, dtype=dtype)
    totals = Agreement.nothing(len(all_heads(recogniser)))
    for begin in range(0, len(waveforms), batch_size):
        part = waveforms[begin : begin + batch_size]
        states = recogniser.encode(torch.from_numpy(np.stack([pad_or_trim(one) for one in part])))
        heard = recogniser.decode(states, recogniser.languages(states, languages[begin : begin + batch_size]))
        totals += agreement(recogniser, states, heard, part)
    heads = best_heads(all_heads(recogniser), totals)
    if not heads:
        return checkpoint
    return replace(checkpoint, generation=replace(checkpoint.generation, alignment_heads=heads))


class Agreement:
    """Sums over windows, per head: how much of the sound is words, and how much of the pauses is none."""

    def __init__(
        self, spoken: Float[Tensor, "heads"], sound: float, silent: Float[Tensor, "heads"], pause: float
    ) -> None:
        """Positions: words within sound, sound, no words within pauses, pauses."""
        self.spoken, self.sound, self.silent, self.pause = spoken, sound, silent, pause

    @classmethod
    def nothing(cls, heads: int) -> "Agreement":
        """Before the first window."""
        return cls(torch.zeros(heads), 0.0, torch.zeros(heads), 0.0)

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.spoken + other.spoken, self.sound + other.sound, self.silent + other.silent, self.pause + other.pause
        )

    @property
    def score(self) -> Float[Tensor, "heads"] | None:
        """The mean of both shares, 0 to 1, where chance and a head that follows nothing have a half.

        None where there was no sound or no pause.
        """
        if not self.sound or not self.pause:
            return None
        return (self.spoken / self.sound + self.silent / self.pause) / 2


def all_heads(recogniser: Recogniser) -> list[Head]:
    """Every (layer, head) of the decoder."""
    dims = recogniser.dims
    return [(layer, head) for layer in range(dims.decoder_layers) for head in range(dims.decoder_heads)]


def best_heads(heads: Sequence[Head], totals: Agreement) -> tuple[Head, ...]:
    """The heads that agree best, in the order of the layers; none where nothing could be told."""
    score = totals.score
    if score is None:
        return ()
    order = sorted(range(len(heads)), key=lambda at: -float(score[at]))[:MOST_HEADS]
    return tuple(sorted(heads[at] for at in order if score[at] >= score.max() - WORSE_BY))


@torch.inference_mode()
def agreement(
    recogniser: Recogniser,
    states: Float[Tensor, "batch positions width"],
    heard: Sequence[Recognised],
    waveforms: Sequence[np.ndarray],
) -> Agreement:
    """How well every head's own path agrees with the pauses of these windows, whose audio is given unpadded."""
    heads = all_heads(recogniser)
    vocabulary, network = recogniser.vocabulary, recogniser.network
    total = Agreement.nothing(len(heads))
    for row, (one, waveform) in enumerate(zip(heard, waveforms, strict=True)):
        ids = [token for token in one.decoded.tokens if vocabulary.is_text(token)]
        spans = speech_spans(waveform)
        if not ids or not spans:
            continue
        width = audible_positions(len(waveform) / SAMPLE_RATE)
        is_word = torch.zeros(len(ids) + 1, dtype=torch.bool)
        for _, first, last in spoken_tokens(recogniser.tokenizer, ids, one.language):
            is_word[first:last] = True
        start = vocabulary.start(one.language)
        tokens = torch.tensor([[*start, *ids]], device=network.device)
        paths = []
        for begin in range(0, len(heads), TOGETHER):
            scores = network.decoder.watch(tokens, states[row : row + 1], heads[begin : begin + TOGETHER])[0]
            gain = torch.stack([attention_gain(each[None, :, :width])[len(start) - 1 :] for each in scores])
            paths.append(token_starts(gain, [len(ids) + 1] * len(gain), [width] * len(gain)).cpu())
        total += _agreement(torch.cat(paths), is_word, _sounding(spans, width))
    return total


def _agreement(
    starts: Int[Tensor, "heads tokens"], is_word: Bool[Tensor, "tokens"], sounding: Bool[Tensor, "positions"]
) -> Agreement:
    """Silence before the first sound counts for nothing: every path begins at position 0."""
    said = is_word[tokens_at(starts, len(sounding))]
    begin = int(sounding.long().argmax())
    said, sounding = said[:, begin:], sounding[begin:]
    return Agreement(
        (said & sounding).sum(1).float(),
        float(sounding.sum()),
        (~said & ~sounding).sum(1).float(),
        float((~sounding).sum()),
    )


def tokens_at(starts: Int[Tensor, "heads tokens"], positions: int) -> Int[Tensor, "heads positions"]:
    """Which token each position belongs to on paths whose tokens begin at `starts`."""
    steps = torch.zeros(len(starts), positions, dtype=torch.long)
    later = starts[:, 1:]
    return steps.scatter_add_(1, later, torch.ones_like(later)).cumsum(1)


def _sounding(spans: Sequence[tuple[float, float]], positions: int) -> Bool[Tensor, "positions"]:
    """Whether the middle of each position lies in a stretch `(start, duration)` of sound."""
    middle = (torch.arange(positions) + 0.5) * TIMESTAMP_SECONDS
    mask = torch.zeros(positions, dtype=torch.bool)
    for start, duration in spans:
        mask |= (middle >= start) & (middle < start + duration)
    return mask
