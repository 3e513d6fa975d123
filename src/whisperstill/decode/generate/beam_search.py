"""Beam search: several hypotheses of one window followed side by side, as openai/whisper does it.

At each step every hypothesis is continued by its `beam_size + 1` most probable tokens; of all continuations, best
first, those that end are finished until `beam_size` others are found, which go on. It is over when `beam_size *
patience` hypotheses are finished.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats, compute_no_speech_probs
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    tokens: tuple[int, ...] = ()
    score: float = 0.0
    """Sum of the log-probabilities among allowed tokens."""
    filtered_logprobs: tuple[float, ...] = ()
    logprobs: tuple[float, ...] = ()
    beam_index: int = 0
    """Where the network read the tokens before the last."""

    def extended(self, token: int, filtered_logprob: float, logprob: float, beam_index: int) -> "_Hypothesis":
        return _Hypothesis(
            (*self.tokens, token),
            self.score + filtered_logprob,
            (*self.filtered_logprobs, filtered_logprob),
            (*self.logprobs, logprob),
            beam_index,
        )


@torch.inference_mode()
def beam_search(
    network: Whisper,
    encoder_states: Float[Tensor, "positions width"],
    prompt_tokens: tuple[int, ...],
    logit_filter: LogitFilter,
    *,
    beam_size: int,
    patience: float = 1.0,
    length_penalty: float | None = None,
    forced_prefix: tuple[int, ...] = (),
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> DecodingResult:
    """The best hypothesis of one window: log-probability over its length, or over the penalty of that length.

    `prompt_tokens` are the tokens before the transcript; after those of them that are `forced_prefix`, its last ones,
    the rules go on as if the network had said them. Raises `ValueError` for a beam or a patience below 1 hypothesis,
    and for a start that fills all tokens.
    """
    max_finished = round(beam_size * patience)
    if beam_size < 1 or max_finished < 1:
        raise ValueError(f"beam_size and beam_size * patience must be at least 1, got {beam_size} and {patience:g}")
    vocabulary, device = logit_filter.vocabulary, network.device
    eot, prompt_length = vocabulary.end_of_text, len(prompt_tokens)
    if prompt_length >= network.dims.max_target_positions:
        raise ValueError(
            f"{prompt_length} tokens before a transcript leave no room among {network.dims.max_target_positions}"
        )
    max_steps = max(1, min(max_new_tokens, network.dims.max_target_positions - prompt_length))
    prefill_cache = network.decoder.prefill(encoder_states[None])
    prompt_tensor = torch.tensor([prompt_tokens], device=device)
    hidden = network.decoder(prompt_tensor, prompt_tensor.new_zeros(1), prefill_cache)
    no_speech_prob = float(compute_no_speech_probs(network, hidden, prompt_tensor, vocabulary))
    kv_cache = network.decoder.static_cache(beam_size, len(encoder_states), prompt_length + max_steps)
    kv_cache.insert_rows(list(range(beam_size)), prefill_cache)
    output_layer = network.decoder.output_layer(beam_size)
    last_hidden = hidden[:, -1]
    running, finished = [_Hypothesis()], list[_Hypothesis]()
    history = TokenHistory.empty(1, device)
    history.prime(0, forced_prefix, vocabulary.timestamp_begin)
    for step in range(max_steps):
        logits = output_layer(last_hidden)
        logsumexp = logits.logsumexp(-1)
        filtered_logprobs = logit_filter.apply(logits, history).log_softmax(-1)
        scores, tokens = filtered_logprobs.topk(beam_size + 1, dim=-1)
        logprobs = logits.gather(1, tokens) - logsumexp[:, None]
        candidates = [
            hypothesis.extended(token, score, logprob, beam_index)
            for beam_index, (hypothesis, *continuations) in enumerate(
                zip(running, tokens.tolist(), scores.tolist(), logprobs.tolist(), strict=True)
            )
            for token, score, logprob in zip(*continuations, strict=True)
            if score > -torch.inf
        ]
        running = []
        for hypothesis in sorted(candidates, key=lambda hypothesis: -hypothesis.score):
            if hypothesis.tokens[-1] != eot:
                running.append(hypothesis)
            elif len(finished) < max_finished:
                finished.append(hypothesis)
            if len(running) == beam_size:
                break
        if len(finished) >= max_finished or step + 1 == max_steps or not running:
            break
        beam_indices = torch.tensor([hypothesis.beam_index for hypothesis in running], device=device)
        history.select_rows(beam_indices)
        next_tokens = torch.tensor([hypothesis.tokens[-1] for hypothesis in running], device=device)
        history.append(next_tokens, vocabulary.timestamp_begin)
        kv_cache.reorder_rows(beam_indices)
        last_hidden = network.decoder(
            next_tokens[:, None], torch.full_like(next_tokens, prompt_length + step), kv_cache
        )[:, 0]
    finished += sorted(running, key=lambda hypothesis: -hypothesis.score)[: max(0, beam_size - len(finished))]

    def rank(hypothesis: _Hypothesis) -> float:
        return normalize_by_length(
            hypothesis.score, len(hypothesis.tokens) - (hypothesis.tokens[-1] == eot), length_penalty
        )

    return _build_result(max(finished, key=rank), eot, no_speech_prob)


def normalize_by_length(sum_logprob: float, length: int, length_penalty: float | None) -> float:
    """A log-probability by which results of different lengths are compared: over the length, or over its penalty."""
    return sum_logprob / (max(1, length) if length_penalty is None else ((5 + length) / 6) ** length_penalty)


def _build_result(hypothesis: _Hypothesis, eot: int, no_speech_prob: float) -> DecodingResult:
    ended = hypothesis.tokens[-1] == eot
    num_steps = len(hypothesis.tokens)
    zeros, empty = torch.zeros(num_steps), torch.zeros(num_steps, 0)
    logprob, filtered_logprob = torch.tensor(hypothesis.logprobs), torch.tensor(hypothesis.filtered_logprobs)
    token_stats = TokenStats(logprob, zeros, zeros, zeros, empty.long(), empty, empty, filtered_logprob)
    return DecodingResult(hypothesis.tokens[: num_steps - ended], ended, no_speech_prob, token_stats)
