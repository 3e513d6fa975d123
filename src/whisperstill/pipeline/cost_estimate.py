"""Estimated time of labelling, training and decoding: FLOPs of a Whisper network over two measured speeds.

FLOPs are counted exactly from the sizes of the network (a multiply-add is two). One factor covers what is not counted
(reading audio, Python, page faults), so an estimate is good to a factor of two.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from whisperstill.units import WINDOW_FRAMES, WINDOW_POSITIONS

OVERHEAD_FACTOR = 1.6
"""Time of a stage over the time of its matrix products."""
TOKENS_PER_SECOND = 4.0
"""Tokens of read English per second of speech, with the end token and punctuation."""
MEAN_PACKED_SECONDS = 26.0
"""Mean length of a packed window."""
TOKENS_PER_WINDOW = TOKENS_PER_SECOND * MEAN_PACKED_SECONDS
TRAIN_TO_FORWARD_FLOPS = 3.0
"""FLOPs of a training step over those of its forward pass; the backward pass takes twice the forward pass."""
BATCH_SIZE = 16
"""Windows decoded together."""
MEASURE_S = 0.4
"""Seconds that each speed is measured for."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The sizes of a network that decide its cost."""

    mels: int
    vocab_size: int
    width: int
    encoder_layers: int
    decoder_layers: int


@dataclass(frozen=True, slots=True)
class MachineSpeed:
    """Measured speed of a machine."""

    flops_per_second: float
    """In large matrix products."""
    bytes_per_second: float
    """Memory bandwidth, in a product of a matrix and a vector."""
    bytes_per_value: int = 4
    """Size of a value in the dtype that both were measured in, which the stages compute in."""

    def __str__(self) -> str:
        return f"{self.flops_per_second / 1e9:,.0f} GFLOP/s, {self.bytes_per_second / 1e9:,.1f} GB/s"


def encoder_flops(size: ModelSize) -> float:
    """FLOPs of the encoder for one 30 s window (base: 87.4e9)."""
    width, positions = size.width, WINDOW_POSITIONS
    convolutions = 6.0 * width * (WINDOW_FRAMES * size.mels + positions * width)
    layer = 24.0 * positions * width**2 + 4.0 * positions**2 * width
    return convolutions + size.encoder_layers * layer


def cross_attention_flops(size: ModelSize) -> float:
    """FLOPs of the decoder's cross-attention keys and values for one window (base: 9.4e9)."""
    return 4.0 * size.decoder_layers * WINDOW_POSITIONS * size.width**2


def decoder_token_flops(size: ModelSize) -> float:
    """FLOPs of one decoder token (base: 0.116e9)."""
    layer = 28.0 * size.width**2 + 4.0 * WINDOW_POSITIONS * size.width
    return size.decoder_layers * layer + 2.0 * size.vocab_size * size.width


def parameter_counts(size: ModelSize) -> tuple[float, float, float]:
    """Weights of encoder, decoder and token embedding, without biases and norms (base: 20e6, 25e6, 27e6)."""
    width = size.width
    encoder = 12.0 * size.encoder_layers * width**2 + 3.0 * width * (size.mels + width)
    return encoder, 16.0 * size.decoder_layers * width**2, float(size.vocab_size * width)


def packed_windows(hours: float, packing_variants: int) -> float:
    """Windows that hours of speech are packed into."""
    return hours * 3600 / MEAN_PACKED_SECONDS * packing_variants


def decode_seconds(size: ModelSize, windows: float, speed: MachineSpeed, tokens: float = TOKENS_PER_WINDOW) -> float:
    """Seconds to decode `windows` windows of `tokens` tokens each, in batches."""
    encode_seconds = windows * (encoder_flops(size) + cross_attention_flops(size)) / speed.flops_per_second
    # A decoding step reads the weights once, and the cross-attention keys and values of every window.
    weights = 14.0 * size.decoder_layers * size.width**2 + size.vocab_size * size.width
    keys_and_values = 2.0 * size.decoder_layers * WINDOW_POSITIONS * size.width
    read_bytes = (weights + BATCH_SIZE * keys_and_values) * speed.bytes_per_value
    step_flops = BATCH_SIZE * decoder_token_flops(size)
    step_seconds = max(read_bytes / speed.bytes_per_second, step_flops / speed.flops_per_second)
    return OVERHEAD_FACTOR * (encode_seconds + windows / BATCH_SIZE * tokens * step_seconds)


def train_seconds(
    student: ModelSize, windows: float, epochs: float, speed: MachineSpeed, online_encoder: bool
) -> float:
    """Seconds to train on `windows` windows for `epochs` epochs; `online_encoder`: encoder states are not stored."""
    forward = cross_attention_flops(student) + TOKENS_PER_WINDOW * decoder_token_flops(student)
    flops = TRAIN_TO_FORWARD_FLOPS * forward + (encoder_flops(student) if online_encoder else 0.0)
    return OVERHEAD_FACTOR * epochs * windows * flops / speed.flops_per_second


def augmentation_seconds(teacher: ModelSize, windows: float, speed: MachineSpeed) -> float:
    """Seconds of the teacher's teacher-forced pass over `windows` augmented windows."""
    forward = encoder_flops(teacher) + cross_attention_flops(teacher) + TOKENS_PER_WINDOW * decoder_token_flops(teacher)
    return OVERHEAD_FACTOR * windows * forward / speed.flops_per_second


KNOWN_SIZES = {
    "tiny": ModelSize(80, 51865, 384, 4, 4),
    "base": ModelSize(80, 51865, 512, 6, 6),
    "small": ModelSize(80, 51865, 768, 12, 12),
    "medium": ModelSize(80, 51865, 1024, 24, 24),
    "large": ModelSize(128, 51866, 1280, 32, 32),
    "large-v1": ModelSize(80, 51865, 1280, 32, 32),
    "large-v2": ModelSize(80, 51865, 1280, 32, 32),
    "large-v3": ModelSize(128, 51866, 1280, 32, 32),
    "large-v3-turbo": ModelSize(128, 51866, 1280, 32, 4),
    "turbo": ModelSize(128, 51866, 1280, 32, 4),
}
"""Sizes of the published models; `.en` models cost the same."""


def model_size(model: str) -> ModelSize | None:
    """Sizes of a model by its name (`tiny.en`, `openai/whisper-base`) or its `config.json`; None if unknown."""
    name = model.rsplit("/", 1)[-1].removeprefix("whisper-").removesuffix(".en")
    if name in KNOWN_SIZES:
        return KNOWN_SIZES[name]
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        keys = ("num_mel_bins", "vocab_size", "d_model", "encoder_layers", "decoder_layers")
        return ModelSize(*(int(config[key]) for key in keys))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure_machine() -> MachineSpeed:
    """Measures both speeds on the default device; takes about a second."""
    import torch

    from whisperstill.model.device import choose_device, choose_dtype

    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    left, right, table, column = (
        torch.randn(*shape, device=device).to(dtype) for shape in ((3000, 512), (512, 2048), (30000, 512), (512, 1))
    )

    def calls_per_second(operation: Callable[[], torch.Tensor]) -> float:
        operation()  # warm-up
        count, start_time = 0, time.perf_counter()
        while time.perf_counter() - start_time < MEASURE_S:
            operation()
            if device == "cuda":
                torch.cuda.synchronize()
            count += 1
        return count / (time.perf_counter() - start_time)

    with torch.inference_mode():
        return MachineSpeed(
            flops_per_second=calls_per_second(lambda: left @ right) * 2.0 * 3000 * 512 * 2048,
            bytes_per_second=calls_per_second(lambda: table @ column) * table.element_size() * table.numel(),
            bytes_per_value=table.element_size(),
        )
