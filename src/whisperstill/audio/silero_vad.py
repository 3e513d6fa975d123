"""Voice activity detection by the network of the silero-vad package (MIT): a speech probability every 32 ms.

Only the package's weights are used; importing it would set the number of threads to one and require torchaudio. The
package calls its network frame by frame, 31 times a second, which costs more than the computation. Here all frames of a
block go through the convolutions at once, and one call of the LSTM steps through them: the same probabilities (to 1e-5)
in less than a tenth of the time, about 0.5 % of real time on one core.

A frame is 512 samples; the network reads it with the last 64 samples of the previous frame, as magnitude spectra of 256
samples every 128, then four convolutions (which leave one vector of 128) and an LSTM.
"""

import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from whisperstill.audio.levels import Waveform
from whisperstill.errors import CheckpointError, MissingExtraError

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
STFT_SAMPLES, STFT_HOP = 256, 128
CONV_STRIDES = (1, 2, 2, 1)
HIDDEN_SIZE = 128


def is_installed() -> bool:
    """Whether the silero-vad package is installed."""
    return find_spec("silero_vad") is not None


class SileroDetector:
    """Detector for a stream of audio; carries the LSTM state and the last samples from block to block."""

    hop_samples = FRAME_SAMPLES
    """Samples per frame."""

    def __init__(self) -> None:
        """Raises `MissingExtraError` without the package, `CheckpointError` for unexpected weights."""
        self.network = _Network(_load_weights(_find_weights_file()))
        self.context = np.zeros(CONTEXT_SAMPLES, np.float32)
        self.state: tuple[Tensor, Tensor] | None = None

    def feed(self, block: Waveform) -> Float32[np.ndarray, "frames"]:
        """Probabilities of the next frames; `samples` is a multiple of 512. Blocks of a second or more are fastest."""
        if not len(block):
            return np.zeros(0, np.float32)
        stream = np.concatenate([self.context, block])
        self.context = stream[-CONTEXT_SAMPLES:]
        frames = np.lib.stride_tricks.sliding_window_view(stream, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES]
        with torch.inference_mode():
            probabilities, self.state = self.network.run(torch.from_numpy(frames.copy()), self.state)
        result: np.ndarray = probabilities.numpy()
        return result

    def finish(self) -> Float32[np.ndarray, "frames"]:
        """No frames: none is held back."""
        return np.zeros(0, np.float32)

    def is_speech(self, begin: int, end: int) -> bool:
        """True: the probabilities have already decided."""
        return True


class _Network:
    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.stft_basis = weights["stft.forward_basis_buffer"]
        self.convolutions = [
            (weights[f"encoder.{layer}.reparam_conv.weight"], weights[f"encoder.{layer}.reparam_conv.bias"], stride)
            for layer, stride in enumerate(CONV_STRIDES)
        ]
        self.lstm = torch.nn.LSTM(HIDDEN_SIZE, HIDDEN_SIZE)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self.lstm.load_state_dict({f"{name}_l0": weights[f"decoder.rnn.{name}"] for name in names})
        self.output_layer = weights["decoder.decoder.2.weight"][:, :, 0], weights["decoder.decoder.2.bias"]

    def run(
        self, frames: Float[Tensor, "frames samples"], state: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "frames"], tuple[Tensor, Tensor]]:
        padded = functional.pad(frames[:, None], (0, CONTEXT_SAMPLES), mode="reflect")
        real, imaginary = functional.conv1d(padded, self.stft_basis, stride=STFT_HOP).chunk(2, dim=1)
        hidden = (real.square() + imaginary.square()).sqrt()
        for weight, bias, stride in self.convolutions:
            hidden = functional.conv1d(hidden, weight, bias, stride=stride, padding=1).relu()
        lstm_output, state = self.lstm(hidden[:, :, 0], state)
        return functional.linear(lstm_output.relu(), *self.output_layer).sigmoid()[:, 0], state


def _find_weights_file() -> Path:
    package_spec = find_spec("silero_vad")  # finds the folder without importing the package
    if package_spec is None or not package_spec.submodule_search_locations:
        raise MissingExtraError("silero voice activity detection", "vad")
    return Path(package_spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"


@cache
def _load_weights(path: Path) -> dict[str, Tensor]:
    """The network's 16 kHz weights, by name without the prefix `_model.`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit may be deprecated; the package ships no other weights
            stored = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"cannot read {path}: reinstall silero-vad ({error})") from error
    weights = {name.removeprefix("_model."): tensor for name, tensor in stored.items() if name.startswith("_model.")}
    shape = tuple(weights.get("stft.forward_basis_buffer", torch.zeros(0)).shape)
    if shape != (2 * (STFT_SAMPLES // 2 + 1), 1, STFT_SAMPLES):
        raise CheckpointError(f"expected network of silero-vad 6 in {path}, got another: pip install 'silero-vad<7'")
    return weights
