"""How long a network takes: the encoder for a window, the decoder for a token, one sequence at a time or several.

Medians after a warm-up, with the device waited for. Several networks are measured in turns (A B A B ...), so that
what else the machine does meets all of them alike. The figures do not depend on what is heard: the decoder is
timed on a fixed sequence of tokens.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from whisperstill.model.whisper import Whisper
from whisperstill.units import WINDOW_FRAMES

WARMUP_ROUNDS = 2
PROMPT_TOKENS = 4
DECODE_STEPS = 24
"""Tokens per round: about a sentence and a half."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds."""

    encoder_ms_per_window: float
    """The encoder on the mel frames of one 30-second window."""
    decoder_ms_per_token: float
    """One step of one sequence: the decoder, its output layer and the choice of the token."""
    latency_ms: float
    """From the mel frames of the batch's windows to the last token of all."""


def measure_speed(
    networks: Sequence[Whisper], *, rounds: int = 7, steps: int = DECODE_STEPS, batch_size: int = 1
) -> list[Speed]:
    """Speed of each network, measured in turns: `rounds` batches and `rounds * steps` tokens a sequence each."""
    encoder_times: list[list[float]] = [[] for _ in networks]
    step_times: list[list[float]] = [[] for _ in networks]
    latencies: list[list[float]] = [[] for _ in networks]
    for round_index in range(WARMUP_ROUNDS + rounds):
        for index, network in enumerate(networks):
            encoder_ms, batch_step_ms, latency_ms = time_batch(network, steps, batch_size)
            if round_index >= WARMUP_ROUNDS:
                encoder_times[index].append(encoder_ms / batch_size)
                step_times[index] += [step_ms / batch_size for step_ms in batch_step_ms]
                latencies[index].append(latency_ms)
    return [
        Speed(median(e), median(d), median(t)) for e, d, t in zip(encoder_times, step_times, latencies, strict=True)
    ]


@torch.inference_mode()
def time_batch(network: Whisper, steps: int, batch_size: int) -> tuple[float, list[float], float]:
    """Milliseconds of a batch: its encoder, each of its steps, and everything."""
    device, dims = network.device, network.dims
    mel = torch.randn(batch_size, dims.mels, WINDOW_FRAMES, generator=torch.Generator().manual_seed(0)).to(device)
    batch_start = start_time = _synchronized_time(device)
    # One window after the other on a CPU, as `WhisperModel.encode` does.
    mel_batches = [window[None] for window in mel] if device.type == "cpu" else [mel]
    encoder_states = torch.cat([network.encoder(mel_batch) for mel_batch in mel_batches])
    encoder_seconds = _synchronized_time(device) - start_time
    position = torch.zeros(batch_size, dtype=torch.long, device=device)
    prompt_tokens = torch.arange(PROMPT_TOKENS, device=device).repeat(batch_size, 1)
    prefill_cache = network.decoder.prefill(encoder_states)
    network.decoder(prompt_tokens, position, prefill_cache)
    kv_cache = network.decoder.static_cache(batch_size, dims.max_source_positions, PROMPT_TOKENS + steps)
    kv_cache.insert_rows(list(range(batch_size)), prefill_cache)
    position = position + PROMPT_TOKENS
    step_ms = []
    output = network.decoder.output_layer(batch_size)
    token = prompt_tokens[:, -1:]
    for _ in range(steps):
        start_time = _synchronized_time(device)
        hidden = network.decoder(token, position, kv_cache)[:, 0]
        token = output(hidden).argmax(-1)[:, None]
        step_ms.append(1000 * (_synchronized_time(device) - start_time))
        position = position + 1
    return 1000 * encoder_seconds, step_ms, 1000 * (_synchronized_time(device) - batch_start)


def _synchronized_time(device: torch.device) -> float:
    """Seconds, after all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
