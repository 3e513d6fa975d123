"""How long a network takes: the encoder for a window, the decoder for a token, one sequence at a time.

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
    """Milliseconds, at batch 1."""

    encoder_ms_per_window: float
    """The encoder on the mel frames of one 30-second window."""
    decoder_ms_per_token: float
    """One step: the decoder, its output layer and the choice of the token."""


def measure_speed(networks: Sequence[Whisper], *, rounds: int = 7, steps: int = STEPS) -> list[Speed]:
    """Speed of each network, measured in turns: `rounds` windows and `rounds * steps` tokens each."""
    encoders: list[list[float]] = [[] for _ in networks]
    decoders: list[list[float]] = [[] for _ in networks]
    for turn in range(WARM_UPS + rounds):
        for index, network in enumerate(networks):
            encoder, tokens = _turn(network, steps)
            if turn >= WARM_UPS:
                encoders[index].append(encoder)
                decoders[index] += tokens
    return [Speed(median(e), median(d)) for e, d in zip(encoders, decoders, strict=True)]


@torch.inference_mode()
def _turn(network: Whisper, steps: int) -> tuple[float, list[float]]:
    device, dims = network.device, network.dims
    mel = torch.randn(1, dims.mels, WINDOW_FRAMES, generator=torch.Generator().manual_seed(0)).to(device)
    begun = _now(device)
    states = network.encoder(mel)
    encoder = _now(device) - begun
    position = torch.zeros(1, dtype=torch.long, device=device)
    tokens = torch.arange(PROMPT_TOKENS, device=device)[None]
    beginning = network.decoder.beginning(states)
    network.decoder(tokens, position, beginning)
    slots = network.decoder.slots(1, dims.positions, PROMPT_TOKENS + steps)
    slots.put([0], beginning)
    position = position + PROMPT_TOKENS
    times = []
    output = network.decoder.output(1)
    token = tokens[:, -1:]
    for _ in range(steps):
        begun = _now(device)
        hidden = network.decoder(token, position, slots)[:, 0]
        token = output(hidden).argmax(-1)[:, None]
        times.append(1000 * (_now(device) - begun))
        position = position + 1
    return 1000 * encoder, times


def _now(device: torch.device) -> float:
    """Seconds, after all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
