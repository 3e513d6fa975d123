"""Beam search over one window, as in openai/whisper.

At each step every hypothesis is extended by its `beam_size + 1` most probable tokens. Of all extensions, best first,
those that end are finished, until `beam_size` others are selected to go on. The search stops when
`beam_size * patience` hypotheses are finished.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats, compute_no_speech_probs
from whisperstill.model.whisper import Whisper


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    tokens: tuple[int, ...] = ()
    score: float = 0.0
    """Sum of `filtered_logprobs`."""
    filtered_logprobs: tuple[float, ...] = ()
    logprobs: tuple[float, ...] = ()
    beam_index: int = 0
    """Row of the KV cache that holds all tokens but the last."""

    def extended(self, token: int, filtered_logprob: float, logprob: float, beam_index: int) -> "_Hypothesis":
        score, filtered_logprobs = self.score + filtered_logprob, (*self.filtered_logprobs, filtered_logprob)
        return _Hypothesis((*self.tokens, token), score, filtered_logprobs, (*self.logprobs, logprob), beam_index)


@dataclass(frozen=True)
class BeamSearch:
    """Beam search with a network; `beam_size` and `beam_size * patience` are at least 1."""

    network: Whisper
    logit_filter: LogitFilter
    beam_size: int
    patience: float = 1.0
    length_penalty: float | None = None
    """Alpha of `normalize_by_length`."""

    @property
    def _max_finished(self) -> int:
        return round(self.beam_size * self.patience)

    @torch.inference_mode()
    def decode(self, request: DecodeRequest) -> DecodingResult:
        """The hypothesis with the best length-normalized log-probability; temperature and seed are ignored.

        Raises `ValueError` if the prompt fills all decoder positions.
        """
        network, vocabulary = self.network, self.logit_filter.vocabulary
        max_steps, prompt_length = request.max_steps(network.dims), len(request.prompt_tokens)
        # 1. Prefill: the prompt runs once, and every row of the beam gets a copy of its keys and values.
        prompt_tokens = torch.tensor([request.prompt_tokens], device=network.device)
        prefill_cache = network.decoder.prefill(request.encoder_states[None])
        hidden = network.decoder(prompt_tokens, prompt_tokens.new_zeros(1), prefill_cache)
        no_speech_prob = float(compute_no_speech_probs(network, hidden, prompt_tokens, vocabulary))
        capacity = prompt_length + max_steps
        kv_cache = network.decoder.static_cache(self.beam_size, len(request.encoder_states), capacity)
        kv_cache.insert_rows(list(range(self.beam_size)), prefill_cache)
        output_layer, last_hidden = network.decoder.output_layer(self.beam_size), hidden[:, -1]
        history = TokenHistory.empty(1, network.device)
        history.prime(0, request.forced_prefix, vocabulary.timestamp_begin)
        running, finished = [_Hypothesis()], list[_Hypothesis]()
        for step in range(max_steps):
            # 2. Extend every hypothesis, and select the best extensions.
            candidates = self._extend(running, output_layer(last_hidden), history)
            running, newly_finished = self._select(candidates, self._max_finished - len(finished))
            finished += newly_finished
            if len(finished) >= self._max_finished or step + 1 == max_steps or not running:
                break
            # 3. Each selected hypothesis takes over the history and the cache row that it extends.
            beam_indices = torch.tensor([hypothesis.beam_index for hypothesis in running], device=network.device)
            next_tokens = torch.tensor([hypothesis.tokens[-1] for hypothesis in running], device=network.device)
            history = history.select_rows(beam_indices).append(next_tokens, vocabulary.timestamp_begin)
            kv_cache.reorder_rows(beam_indices)
            # 4. Run the decoder on the selected tokens.
            position = torch.full_like(next_tokens, prompt_length + step)
            last_hidden = network.decoder(next_tokens[:, None], position, kv_cache)[:, 0]
        # 5. Too few finished hypotheses: the best unfinished ones are added.
        num_missing = max(0, self.beam_size - len(finished))
        finished += sorted(running, key=lambda hypothesis: -hypothesis.score)[:num_missing]
        return self._build_result(max(finished, key=self._rank), no_speech_prob)

    def _extend(
        self, running: list[_Hypothesis], logits: Float[Tensor, "rows vocab"], history: TokenHistory
    ) -> list[_Hypothesis]:
        """Every hypothesis with each of its `beam_size + 1` most probable tokens that the filter allows."""
        logsumexp = logits.logsumexp(-1)
        filtered_logprobs = self.logit_filter.apply(logits, history).log_softmax(-1)
        scores, tokens = filtered_logprobs.topk(self.beam_size + 1, dim=-1)
        logprobs = logits.gather(1, tokens) - logsumexp[:, None]
        return [
            hypothesis.extended(token, score, logprob, beam_index)
            for beam_index, (hypothesis, *extensions) in enumerate(
                zip(running, tokens.tolist(), scores.tolist(), logprobs.tolist(), strict=True)
            )
            for token, score, logprob in zip(*extensions, strict=True)
            if score > -torch.inf
        ]

    def _select(self, candidates: list[_Hypothesis], max_finished: int) -> tuple[list[_Hypothesis], list[_Hypothesis]]:
        """The `beam_size` best candidates that go on, and the at most `max_finished` better ones that end."""
        running, finished = list[_Hypothesis](), list[_Hypothesis]()
        for hypothesis in sorted(candidates, key=lambda hypothesis: -hypothesis.score):
            if not self._is_ended(hypothesis):
                running.append(hypothesis)
            elif len(finished) < max_finished:
                finished.append(hypothesis)
            if len(running) == self.beam_size:
                break
        return running, finished

    def _is_ended(self, hypothesis: _Hypothesis) -> bool:
        return hypothesis.tokens[-1] == self.logit_filter.vocabulary.end_of_text

    def _rank(self, hypothesis: _Hypothesis) -> float:
        length = len(hypothesis.tokens) - self._is_ended(hypothesis)
        return normalize_by_length(hypothesis.score, length, self.length_penalty)

    def _build_result(self, hypothesis: _Hypothesis, no_speech_prob: float) -> DecodingResult:
        ended, num_steps = self._is_ended(hypothesis), len(hypothesis.tokens)
        stats = TokenStats.of_logprobs(torch.tensor(hypothesis.logprobs), torch.tensor(hypothesis.filtered_logprobs))
        return DecodingResult(hypothesis.tokens[: num_steps - ended], ended, no_speech_prob, stats)


def normalize_by_length(sum_logprob: float, length: int, length_penalty: float | None) -> float:
    """Log-probability divided by the length, or by `((5 + length) / 6) ** length_penalty` (Wu et al. 2016, eq. 14)."""
    return sum_logprob / (max(1, length) if length_penalty is None else ((5 + length) / 6) ** length_penalty)
