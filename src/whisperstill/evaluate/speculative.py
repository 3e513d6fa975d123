"""The teacher with a draft against the teacher alone: is the text the same, and how much faster does it come?

Both hear the same batches, in turns whose order changes from batch to batch. The encoder is the teacher's own in both
and its states are taken for both, so its time is measured once and charged to both.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.generate.draft_model import DecodeState
from whisperstill.decode.generate.logit_filter import TokenHistory
from whisperstill.decode.generate.sampling import Sampler
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError
from whisperstill.records import Skipped, Utterance
from whisperstill.records.eval_results import DraftToken, DraftTrace
from whisperstill.units import WINDOW_SECONDS

TRACE_BLOCK_TOKENS = 8
"""Tokens that the teacher reads at a time in what is shown: one it knows, and seven proposals."""


@dataclass(frozen=True, slots=True)
class SpeculativeComparison:
    """Sums over all batches."""

    utterances: int
    identical: int
    encoder_seconds: float
    baseline_decode_seconds: float
    """Decoding without the draft."""
    speculative_decode_seconds: float
    """Decoding with it."""
    stats: SpeculativeStats
    skipped: tuple[Skipped, ...]
    """Utterances that could not be read."""


def compare_speculative(
    baseline_model: WhisperModel,
    assisted_model: WhisperModel,
    utterances: Sequence[Utterance],
    batch_size: int,
    advance: Callable[[float], None] = lambda seconds: None,
) -> SpeculativeComparison:
    """Decode utterances of up to 30 s both ways, `batch_size` at a time; the first batch is decoded once more before,
    to warm up. Those that cannot be read are skipped."""
    short_utterances, skipped = _filter_readable(
        [utterance for utterance in utterances if utterance.audio.duration <= WINDOW_SECONDS]
    )
    batches = [short_utterances[start : start + batch_size] for start in range(0, len(short_utterances), batch_size)]
    encoder_seconds = 0.0
    decode_seconds = {baseline_model: 0.0, assisted_model: 0.0}
    identical = 0
    for round_index, batch in enumerate([*batches[:1], *batches]):
        if round_index == 1:  # the first was the warm-up
            encoder_seconds, decode_seconds, identical = 0.0, {baseline_model: 0.0, assisted_model: 0.0}, 0
            assisted_model.speculative_stats = SpeculativeStats()
        waveforms = _load_waveforms(batch)
        start_time = _synchronized_time(baseline_model)
        encoder_states = baseline_model.encode(waveforms)
        encoder_seconds += _synchronized_time(baseline_model) - start_time
        languages = baseline_model.resolve_languages(encoder_states, [utterance.language for utterance in batch])
        start_time = _synchronized_time(assisted_model)
        draft_states = assisted_model.encode_for_draft(waveforms, encoder_states)
        decode_seconds[assisted_model] += (
            _synchronized_time(assisted_model) - start_time
        )  # a draft with an encoder of its own has to hear, too
        tokens_by_model = {}
        for model in (baseline_model, assisted_model) if round_index % 2 else (assisted_model, baseline_model):
            start_time = _synchronized_time(model)
            transcripts = model.decode(
                encoder_states, languages, draft_encoder_states=draft_states if model is assisted_model else None
            )
            decode_seconds[model] += _synchronized_time(model) - start_time
            tokens_by_model[model] = [transcript.result.tokens for transcript in transcripts]
        identical += sum(map(tuple.__eq__, tokens_by_model[baseline_model], tokens_by_model[assisted_model]))
        if round_index:
            advance(sum(utterance.audio.duration for utterance in batch))
    return SpeculativeComparison(
        len(short_utterances),
        identical,
        encoder_seconds,
        decode_seconds[baseline_model],
        decode_seconds[assisted_model],
        assisted_model.speculative_stats,
        skipped,
    )


@torch.inference_mode()
def trace_draft(
    assisted_model: WhisperModel, utterance: Utterance, dataset: str, block_size: int = TRACE_BLOCK_TOKENS
) -> DraftTrace:
    """One utterance token by token: what the draft proposes at each place, in blocks of `block_size`, the last of which
    is the teacher's own. The tokens are those that any speculative decoding gives; which of them were proposals
    depends on the block, which decoding itself chooses as it goes."""
    waveforms = _load_waveforms([utterance])
    encoder_states = assisted_model.encode(waveforms)
    draft_states = assisted_model.encode_for_draft(waveforms, encoder_states)
    language = assisted_model.resolve_languages(encoder_states, [utterance.language])
    (transcript,) = assisted_model.decode(encoder_states, language, draft_encoder_states=draft_states)
    vocabulary, device = assisted_model.vocabulary, assisted_model.network.device
    prompt_tokens = vocabulary.sot_sequence(language[0], "transcribe", False)
    tokens = [*transcript.result.tokens, *([vocabulary.end_of_text] if transcript.result.ended else [])]
    sequence = torch.tensor([[*prompt_tokens, *tokens]], device=device)
    histories = TokenHistory.empty(1, device).after_each(sequence[:, len(prompt_tokens) :], vocabulary.timestamp_begin)
    make_draft = assisted_model.make_draft_factory(assisted_model.make_logit_filter(timestamps=False))
    assert make_draft is not None
    draft = make_draft(1, sequence.shape[1] + block_size)
    draft.prefill([0], encoder_states if draft_states is None else draft_states, sequence[:, : len(prompt_tokens)])
    zeros = torch.zeros(1, device=device)
    trace: list[DraftToken] = []
    teacher_passes = 0
    while (position := len(trace)) < len(tokens):
        teacher_passes += 1
        length = torch.tensor([len(prompt_tokens) + position], device=device)
        decode_state = DecodeState(sequence, length, histories[position], Sampler(zeros, zeros.long(), True))
        for token, proposed in zip(
            tokens[position:], draft.propose(decode_state, block_size - 1)[0].tolist(), strict=False
        ):
            if proposed != token:
                trace.append(
                    DraftToken(
                        _decode_token(assisted_model, token), "corrected", _decode_token(assisted_model, proposed)
                    )
                )
                break
            trace.append(DraftToken(_decode_token(assisted_model, token), "accepted"))
        else:
            trace += [
                DraftToken(_decode_token(assisted_model, token), "bonus")
                for token in tokens[len(trace) : position + block_size]
            ]
    return DraftTrace(dataset, utterance.id, teacher_passes, tuple(trace))


def _decode_token(model: WhisperModel, token: int) -> str:
    return "" if token == model.vocabulary.end_of_text else model.tokenizer.decode([token])


def _filter_readable(utterances: Sequence[Utterance]) -> tuple[list[Utterance], tuple[Skipped, ...]]:
    readable, skipped = [], []
    for utterance in utterances:
        try:
            load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
            readable.append(utterance)
        except AudioError as error:
            skipped.append(Skipped(f"{utterance.corpus}/{utterance.id}", str(error)))
    return readable, tuple(skipped)


def _load_waveforms(utterances: Sequence[Utterance]) -> torch.Tensor:
    loaded = [
        load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration) for utterance in utterances
    ]
    return torch.stack([torch.from_numpy(pad_or_trim(waveform)) for waveform in loaded])


def _synchronized_time(model: WhisperModel) -> float:
    """Seconds, after all that was asked of the device is done."""
    if model.network.device.type == "cuda":
        torch.cuda.synchronize(model.network.device)
    return time.perf_counter()
