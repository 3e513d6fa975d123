"""Selection of alignment heads: the cross-attention heads whose word times agree with the pauses of the audio.

A student lacks the layers of its teacher's alignment heads, and training changes the heads it has. A head is good if
its own alignment places words in the sound, and everything that is no word (commas, full stops, the end) in the pauses.

Sharp attention is no criterion: many heads follow the previous token, not the next one. Their path is clean and one
word late, so all times read from it are one word early. Pauses distinguish the two kinds; whisper-base's own list of
alignment heads mixes them (docs/results/words.md).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.audio.mel import pad_or_trim
from whisperstill.audio.sound_activity import speech_spans
from whisperstill.decode.whisper_model import WhisperModel, WindowTranscript
from whisperstill.decode.word_timestamps.align import num_audio_positions, spoken_token_spans
from whisperstill.decode.word_timestamps.dtw import alignment_matrix, token_starts
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.units import SAMPLE_RATE, TIMESTAMP_STEP_SECONDS

MAX_ALIGNMENT_HEADS = 6
"""More heads do not improve the times (docs/results/words.md)."""
MAX_SCORE_BELOW_BEST = 0.15
"""Largest difference to the best head's score; a random head scores 0.5, a good one 0.8."""
HEADS_PER_BATCH = 64
"""Heads scored per decoder pass."""

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
    """The checkpoint with alignment heads selected on these windows (16 kHz, at most 30 s each), which it transcribes.

    A dozen windows of ordinary speech are enough. Windows without pauses or words leave the heads unchanged. `dtype` as
    in `WhisperModel`. Raises `SettingsError` for a language the model does not support.
    """
    model = WhisperModel(checkpoint, device=device, dtype=dtype)
    totals = torch.zeros(4, len(all_heads(model)))
    for begin in range(0, len(waveforms), batch_size):
        batch = waveforms[begin : begin + batch_size]
        states = model.encode(torch.from_numpy(np.stack([pad_or_trim(waveform) for waveform in batch])))
        codes = model.resolve_languages(states, languages[begin : begin + batch_size])
        totals += measure_pause_agreement(model, states, model.decode(states, codes), batch)
    heads = best_heads(all_heads(model), totals)
    if not heads:
        return checkpoint
    return replace(checkpoint, generation_config=replace(checkpoint.generation_config, alignment_heads=heads))


def all_heads(model: WhisperModel) -> list[Head]:
    """Every (layer, head) of the decoder."""
    return list(product(range(model.dims.decoder_layers), range(model.dims.decoder_heads)))


def head_scores(totals: Float[Tensor, "4 heads"]) -> Float[Tensor, "heads"]:
    """Mean of the fractions of sound and of pauses that agree, 0 to 1; chance is 0.5.

    `totals` are those of `measure_pause_agreement`. NaN without sound or without pauses.
    """
    words_in_sound, sound, gaps_in_pauses, pauses = totals.unbind()
    return (words_in_sound / sound + gaps_in_pauses / pauses) / 2


def best_heads(heads: Sequence[Head], totals: Float[Tensor, "4 heads"]) -> tuple[Head, ...]:
    """The heads with the best scores, in order of layers; none without a score."""
    scores = head_scores(totals)
    ranking = sorted(range(len(heads)), key=lambda index: -float(scores[index]))[:MAX_ALIGNMENT_HEADS]
    return tuple(sorted(heads[index] for index in ranking if scores[index] >= scores.max() - MAX_SCORE_BELOW_BEST))


@torch.inference_mode()
def measure_pause_agreement(
    model: WhisperModel,
    states: Float[Tensor, "batch positions width"],
    window_transcripts: Sequence[WindowTranscript],
    waveforms: Sequence[np.ndarray],
) -> Float[Tensor, "4 heads"]:
    """Agreement of every head's own alignment with the pauses of these windows; `waveforms` are not padded.

    Sums in encoder positions: words within sound, sound, gaps between words within pauses, pauses.
    """
    heads, vocabulary, decoder = all_heads(model), model.vocabulary, model.network.decoder
    total = torch.zeros(4, len(heads))
    for row, (window_transcript, waveform) in enumerate(zip(window_transcripts, waveforms, strict=True)):
        text_tokens = [token for token in window_transcript.result.tokens if vocabulary.is_text(token)]
        spans = speech_spans(waveform)
        if not text_tokens or not spans:
            continue
        width, count = num_audio_positions(len(waveform) / SAMPLE_RATE), len(text_tokens) + 1
        is_word = torch.zeros(count, dtype=torch.bool)
        for _, first, last in spoken_token_spans(model.tokenizer, text_tokens, window_transcript.language):
            is_word[first:last] = True
        prompt_tokens = vocabulary.sot_sequence(window_transcript.language)
        tokens = torch.tensor([[*prompt_tokens, *text_tokens]], device=model.network.device)
        starts = []
        for begin in range(0, len(heads), HEADS_PER_BATCH):
            batch = heads[begin : begin + HEADS_PER_BATCH]
            [scores] = decoder.cross_attention_scores(tokens, states[row : row + 1], batch)
            alignments = [alignment_matrix(head[None, :, :width])[len(prompt_tokens) - 1 :] for head in scores]
            starts.append(token_starts(torch.stack(alignments), [count] * len(batch), [width] * len(batch)).cpu())
        total += _path_agreement(torch.cat(starts), is_word, _make_sound_mask(spans, width))
    return total


def _path_agreement(
    starts: Int[Tensor, "heads tokens"], is_word: Bool[Tensor, "tokens"], sound_mask: Bool[Tensor, "positions"]
) -> Float[Tensor, "4 heads"]:
    """Agreement on one window, without the silence before the first sound: every path begins at position 0."""
    word_mask = is_word[token_at_positions(starts, len(sound_mask))]
    begin = int(sound_mask.long().argmax())
    word_mask, sound_mask = word_mask[:, begin:], sound_mask[begin:]
    agreed = [(word_mask & sound_mask).sum(1), (~word_mask & ~sound_mask).sum(1)]
    sound, pauses = sound_mask.sum().expand(len(starts)), (~sound_mask).sum().expand(len(starts))
    return torch.stack([agreed[0], sound, agreed[1], pauses]).float()


def token_at_positions(starts: Int[Tensor, "heads tokens"], positions: int) -> Int[Tensor, "heads positions"]:
    """The token of each position on paths whose tokens begin at `starts`."""
    start_counts = torch.zeros(len(starts), positions, dtype=torch.long)
    later_starts = starts[:, 1:]
    return start_counts.scatter_add_(1, later_starts, torch.ones_like(later_starts)).cumsum(1)


def _make_sound_mask(spans: Sequence[tuple[float, float]], positions: int) -> Bool[Tensor, "positions"]:
    """Whether the middle of each position lies in a span `(start, duration)` of sound."""
    middle = (torch.arange(positions) + 0.5) * TIMESTAMP_STEP_SECONDS
    return torch.stack([(middle >= start) & (middle < start + duration) for start, duration in spans]).any(0)
