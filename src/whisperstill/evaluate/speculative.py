"""Speculative decoding against the teacher alone: identical tokens and speedup; traces of draft tokens.

Both decode the same batches, in an order that alternates from batch to batch. Encoder states are shared; encoding is
timed once and counts for both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from whisperstill.corpus.loading import load_waveforms
from whisperstill.decode.generate.draft_model import DecodeState
from whisperstill.decode.generate.logit_filter import TokenHistory
from whisperstill.decode.generate.sampling import Sampler
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError
from whisperstill.evaluate.speed import synchronized_time
from whisperstill.evaluate.systems import stack_windows
from whisperstill.records import Utterance
from whisperstill.records.eval_results import DraftToken, DraftTrace, SpeculativeResult
from whisperstill.units import WINDOW_SECONDS

TRACE_BLOCK_TOKENS = 8
"""Block size of traces: one known token and seven draft tokens per forward pass of the teacher."""


@dataclass(frozen=True)
class SpeculativeComparison:
    """Speeds, and the reason for each utterance that cannot be read."""

    result: SpeculativeResult
    skipped: dict[str, str]


def compare_speculative(
    baseline_model: WhisperModel,
    assisted_model: WhisperModel,
    utterances: Sequence[Utterance],
    batch_size: int,
    advance: Callable[[float], None] = lambda seconds: None,
) -> SpeculativeComparison:
    """Decodes utterances up to 30 s both ways, `batch_size` at a time, after a warm-up on the first batch.

    `advance` receives the seconds of audio done.
    """
    readable, waveforms, skipped = load_waveforms(u for u in utterances if u.audio.duration <= WINDOW_SECONDS)
    batches = [
        (readable[start : start + batch_size], waveforms[start : start + batch_size])
        for start in range(0, len(readable), batch_size)
    ]
    device, models = baseline_model.network.device, (baseline_model, assisted_model)
    schedulers = {
        model: model.make_scheduler(batch_size, model.make_logit_filter(timestamps=False)) for model in models
    }
    encoder_seconds, decode_seconds, identical = 0.0, {baseline_model: 0.0, assisted_model: 0.0}, 0
    for round_index, (batch, batch_waveforms) in enumerate([*batches[:1], *batches]):
        if round_index == 1:  # warm-up done: start counting
            encoder_seconds, decode_seconds, identical = 0.0, {baseline_model: 0.0, assisted_model: 0.0}, 0
            schedulers[assisted_model].speculative_stats = SpeculativeStats()
        # 1. Encode once for both.
        windows = stack_windows(batch_waveforms)
        start_time = synchronized_time(device)
        encoder_states = baseline_model.encode(windows)
        encoder_seconds += synchronized_time(device) - start_time
        languages = baseline_model.resolve_languages(encoder_states, [utterance.language for utterance in batch])
        # 2. A draft model with an encoder of its own encodes, too: part of its cost.
        start_time = synchronized_time(device)
        draft_states = assisted_model.encode_for_draft(windows)
        decode_seconds[assisted_model] += synchronized_time(device) - start_time
        # 3. Decode with both models, in alternating order.
        tokens_by_model = {}
        requests = assisted_model.make_requests(encoder_states, languages, draft_encoder_states=draft_states)
        for model in models if round_index % 2 else models[::-1]:
            start_time = synchronized_time(device)
            results = schedulers[model].generate(requests)
            decode_seconds[model] += synchronized_time(device) - start_time
            tokens_by_model[model] = [result.tokens for result in results]
        identical += sum(map(tuple.__eq__, tokens_by_model[baseline_model], tokens_by_model[assisted_model]))
        if round_index:
            advance(sum(utterance.audio.duration for utterance in batch))
    stats = schedulers[assisted_model].speculative_stats
    result = SpeculativeResult(
        model=baseline_model.source,
        draft=assisted_model.assistant.source if assisted_model.assistant else "",
        batch_size=batch_size,
        baseline_seconds=encoder_seconds + decode_seconds[baseline_model],
        speculative_seconds=encoder_seconds + decode_seconds[assisted_model],
        encoder_seconds=encoder_seconds,
        utterances=len(readable),
        identical=identical,
        acceptance_rate=100 * stats.acceptance_rate,
        tokens_per_step=stats.tokens_per_verification,
    )
    return SpeculativeComparison(result, {problem.source: problem.reason for problem in skipped})


@torch.inference_mode()
def trace_draft(
    assisted_model: WhisperModel, utterance: Utterance, dataset: str, block_size: int = TRACE_BLOCK_TOKENS
) -> DraftTrace:
    """Draft tokens of one utterance in blocks of `block_size`, each ending with a token of the teacher.

    The text is that of any speculative decoding. Which tokens the draft proposed depends on the block size, which
    decoding adapts as it goes and a trace keeps fixed. Raises `AudioError` if the audio cannot be read.
    """
    # 1. Decode the utterance: the tokens to trace.
    _, waveforms, skipped = load_waveforms([utterance])
    if skipped:
        raise AudioError(f"{skipped[0].source}: {skipped[0].reason}")
    windows = stack_windows(waveforms)
    encoder_states = assisted_model.encode(windows)
    draft_states = assisted_model.encode_for_draft(windows)
    language = assisted_model.resolve_languages(encoder_states, [utterance.language])
    (transcript,) = assisted_model.decode(encoder_states, language, draft_encoder_states=draft_states)
    vocabulary, device = assisted_model.vocabulary, assisted_model.network.device

    def decode_token(token: int) -> str:
        return "" if token == vocabulary.end_of_text else assisted_model.tokenizer.decode([token])

    prompt_tokens = vocabulary.sot_sequence(language[0], "transcribe", False)
    tokens = [*transcript.result.tokens, *([vocabulary.end_of_text] if transcript.result.ended else [])]
    # 2. Prefill a fresh draft with the prompt.
    sequence = torch.tensor([[*prompt_tokens, *tokens]], device=device)
    histories = TokenHistory.empty(1, device).after_each(sequence[:, len(prompt_tokens) :], vocabulary.timestamp_begin)
    make_draft = assisted_model.make_draft_factory(assisted_model.make_logit_filter(timestamps=False))
    assert make_draft is not None
    draft = make_draft(1, sequence.shape[1] + block_size)
    draft.prefill([0], encoder_states if draft_states is None else draft_states, sequence[:, : len(prompt_tokens)])
    zeros = torch.zeros(1, device=device)
    # 3. Propose block by block, and compare with the tokens.
    trace: list[DraftToken] = []
    teacher_passes = 0
    while (position := len(trace)) < len(tokens):
        teacher_passes += 1
        length = torch.tensor([len(prompt_tokens) + position], device=device)
        decode_state = DecodeState(sequence, length, histories[position], Sampler(zeros, zeros.long(), True))
        proposals = draft.propose(decode_state, block_size - 1)[0].tolist()
        for token, proposed in zip(tokens[position:], proposals, strict=False):
            if proposed != token:
                trace.append(DraftToken(decode_token(token), "corrected", decode_token(proposed)))
                break
            trace.append(DraftToken(decode_token(token), "accepted"))
        else:
            remaining = tokens[len(trace) : position + block_size]
            trace += [DraftToken(decode_token(token), "bonus") for token in remaining]
    return DraftTrace(dataset, utterance.id, teacher_passes, tuple(trace))
