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

WARM_UPS = 2
PROMPT_TOKENS = 4
STEPS = 24
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
    networks: Sequence[Whisper], *, rounds: int = 7, steps: int = STEPS, batch_size: int = 1
) -> list[Speed]:
    """Speed of each network, measured in turns: `rounds` batches and `rounds * steps` tokens a sequence each."""
    encoders: list[list[float]] = [[] for _ in networks]
    decoders: list[list[float]] = [[] for _ in networks]
    wholes: list[list[float]] = [[] for _ in networks]
    for turn in range(WARM_UPS + rounds):
        for index, network in enumerate(networks):
            encoder, tokens, whole = take_turn(network, steps, batch_size)
            if turn >= WARM_UPS:
                encoders[index].append(encoder / batch_size)
                decoders[index] += [one / batch_size for one in tokens]
                wholes[index].append(whole)
    return [Speed(median(e), median(d), median(w)) for e, d, w in zip(encoders, decoders, wholes, strict=True)]


@torch.inference_mode()
def take_turn(network: Whisper, steps: int, batch_size: int) -> tuple[float, list[float], float]:
    """Milliseconds of a batch: its encoder, each of its steps, and everything."""
    device, dims = network.device, network.dims
    mel = torch.randn(batch_size, dims.mels, WINDOW_FRAMES, generator=torch.Generator().manual_seed(0)).to(device)
    start = begun = _now(device)
    # One window after the other on a CPU, as `Recogniser.encode` does.
    parts = [one[None] for one in mel] if device.type == "cpu" else [mel]
    states = torch.cat([network.encoder(part) for part in parts])
    encoder = _now(device) - begun
    position = torch.zeros(batch_size, dtype=torch.long, device=device)
    tokens = torch.arange(PROMPT_TOKENS, device=device).repeat(batch_size, 1)
    beginning = network.decoder.beginning(states)
    network.decoder(tokens, position, beginning)
    slots = network.decoder.slots(batch_size, dims.positions, PROMPT_TOKENS + steps)
    slots.put(list(range(batch_size)), beginning)
    position = position + PROMPT_TOKENS
    times = []
    output = network.decoder.output(batch_size)
    token = tokens[:, -1:]
    for _ in range(steps):
        begun = _now(device)
        hidden = network.decoder(token, position, slots)[:, 0]
        token = output(hidden).argmax(-1)[:, None]
        times.append(1000 * (_now(device) - begun))
        position = position + 1
    return 1000 * encoder, times, 1000 * (_now(device) - start)


def _now(device: torch.device) -> float:
    """Seconds, after all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
