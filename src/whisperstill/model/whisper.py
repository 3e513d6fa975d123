"""The Whisper network: encoder and decoder."""

import torch
from torch import Tensor, nn

from whisperstill.errors import CheckpointError
from whisperstill.model.decoder import Decoder
from whisperstill.model.dims import Dims
from whisperstill.model.encoder import Encoder


class Whisper(nn.Module):
    """Encoder and decoder. Weights have no meaning until loaded."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.dims = dims
        self.encoder = Encoder(dims)
        self.decoder = Decoder(dims)

    @property
    def device(self) -> torch.device:
        return self.decoder.positions.device

    @property
    def dtype(self) -> torch.dtype:
        return self.decoder.positions.dtype

    @classmethod
    def from_state(
        cls,
        dims: Dims,
        state: dict[str, Tensor],
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> "Whisper":
        """Network with these weights, in evaluation mode.

        Raises `CheckpointError` naming the first tensor that is missing, unknown or of a wrong shape.
        """
        with torch.device("meta"):
            network = cls(dims)
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        problems = [f"{name} is missing" for name in expected if name not in state]
        problems += [f"{name} is unknown" for name in state if name not in expected]
        problems += [
            f"{name} has shape {list(state[name].shape)}, expected {list(shape)}"
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != shape
        ]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise CheckpointError(f"weights do not match the sizes of the network: {problems[0]}{more}")
        network = network.to_empty(device=device).to(dtype)
        network.load_state_dict(state)
        return network.eval()


def best_dtype(device: str | torch.device) -> torch.dtype:
    """bfloat16 on hardware with fast bfloat16, else float32.

    CPUs without AVX512-BF16 or AMX emulate bfloat16 products, 5-10 times slower than float32.
    """
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if any(getattr(torch.cpu, name, bool)() for name in checks):
        return torch.bfloat16
    return torch.float32
