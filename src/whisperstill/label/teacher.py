"""The teacher labels a batch of windows in one pass: encoder states, tokens and token statistics.

These are everything a student is trained on, so nothing later runs the teacher's encoder again. The tokens are decoded,
or those of a given transcript (teacher forcing): everything else (log-probabilities, entropy, top-k, hidden states) is
then as if the teacher had decoded them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats, compute_no_speech_probs, token_stats
from whisperstill.decode.prompts import tokenize_text
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label.settings import LabelSettings

LOGITS_CHUNK_TOKENS = 64
"""Tokens whose logits are computed together; bounds the memory."""


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """The teacher's output for one window, on the CPU."""

    language: str
    result: DecodingResult
    encoder_states: Float[Tensor, "positions width"]


def label_batch(
    model: WhisperModel,
    settings: LabelSettings,
    waveforms: Float[Tensor, "batch samples"],
    languages: Sequence[str | None],
    references: Sequence[str] = (),
) -> list[TeacherOutput]:
    """Label 30-second windows, by greedy decoding or by teacher forcing along `references`, as set by `label_source`.

    The encoder runs once per window. The language of a window is detected where it is None. Raises `SettingsError` for
    a language the teacher does not have.
    """
    encoder_states = model.encode(waveforms)
    codes = model.resolve_languages(encoder_states, languages)
    top_k, max_new_tokens = max(1, settings.top_k), settings.max_new_tokens
    if settings.label_source == "reference":
        results = teacher_force(model, encoder_states, codes, references, top_k=top_k, max_new_tokens=max_new_tokens)
    else:
        transcripts = model.decode(
            encoder_states, codes, timestamps=settings.timestamps, max_new_tokens=max_new_tokens, top_k=top_k
        )
        results = [transcript.result for transcript in transcripts]
    return [
        TeacherOutput(language, result, window_states.cpu())
        for language, result, window_states in zip(codes, results, encoder_states, strict=True)
    ]


@torch.inference_mode()
def teacher_force(
    teacher: WhisperModel,
    encoder_states: Float[Tensor, "batch positions width"],
    languages: Sequence[str],
    texts: Sequence[str],
    *,
    top_k: int,
    max_new_tokens: int,
) -> list[DecodingResult]:
    """Results for the texts of a batch of windows, in one packed forward pass.

    A text longer than `max_new_tokens` is cut and not `ended`.
    """
    network, vocabulary = teacher.network, teacher.vocabulary
    start_tokens = [vocabulary.sot_sequence(language) for language in languages]
    text_tokens = [tokenize_text(teacher.tokenizer, text) for text in texts]
    max_tokens = [min(max_new_tokens, network.dims.max_target_positions - len(start)) for start in start_tokens]
    tokens = [ids[:limit] for ids, limit in zip(text_tokens, max_tokens, strict=True)]
    ended = [
        len(ids) < limit or len(all_ids) == limit
        for ids, all_ids, limit in zip(tokens, text_tokens, max_tokens, strict=True)
    ]
    sequences = [torch.tensor([*start, *ids]) for start, ids in zip(start_tokens, tokens, strict=True)]
    lengths = [len(sequence) for sequence in sequences]
    packed = torch.cat(sequences).to(network.device)
    hidden = network.decoder.forward_packed(packed, lengths, encoder_states.to(network.dtype))
    results = []
    for index, window_hidden in enumerate(torch.split(hidden, lengths)):
        start = torch.tensor([start_tokens[index]], device=network.device)
        no_speech = float(compute_no_speech_probs(network, window_hidden[None, : start.shape[1]], start, vocabulary)[0])
        targets = [*tokens[index], *([vocabulary.end_of_text] if ended[index] else [])]
        target_hidden = window_hidden[start.shape[1] - 1 :][: len(targets)]
        stats = _target_stats(teacher, target_hidden, torch.tensor(targets, dtype=torch.long), top_k)
        results.append(DecodingResult(tuple(tokens[index]), ended[index], no_speech, stats))
    return results


def _target_stats(
    teacher: WhisperModel, hidden: Float[Tensor, "steps width"], targets: Tensor, top_k: int
) -> TokenStats:
    chunks: list[tuple[Tensor, ...]] = []
    for hidden_chunk, target_chunk in zip(
        torch.split(hidden, LOGITS_CHUNK_TOKENS), torch.split(targets, LOGITS_CHUNK_TOKENS), strict=True
    ):
        logits = teacher.network.decoder.logits(hidden_chunk)
        lse1, lse2, entropy = token_stats(logits, torch.empty_like(logits))
        top_logits, top_ids = logits.topk(top_k, dim=-1)
        logprob = logits.gather(1, target_chunk[:, None].to(logits.device))[:, 0] - lse1
        chunks.append((logprob, entropy, lse1, lse2, top_ids, top_logits, hidden_chunk.float()))
    logprob, entropy, lse1, lse2, top_ids, top_logits, last_hidden = (
        torch.cat(column).cpu() for column in zip(*chunks, strict=True)
    )
    return TokenStats(logprob, entropy, lse1, lse2, top_ids, top_logits, last_hidden, logprob)
