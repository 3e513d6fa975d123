"""`forward_packed` equals padded sequences, gradients included."""

import pytest
import torch
from small_models import make_checkpoint
from torch import Tensor

from whisperstill.model import attention
from whisperstill.model.dims import Dims
from whisperstill.model.whisper import Whisper

LENGTHS = (5, 1, 8, 3)
TOLERANCE = 1e-5


@pytest.fixture
def network(small_dims: Dims) -> Whisper:
    checkpoint = make_checkpoint(small_dims, b"")
    return Whisper.from_state(small_dims, {name: 3 * tensor for name, tensor in checkpoint.state.items()})


@pytest.fixture
def states() -> Tensor:
    return torch.randn(len(LENGTHS), 60, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(0, 200, (sum(LENGTHS),), generator=torch.Generator().manual_seed(4))


def padded(network: Whisper, tokens: Tensor, states: Tensor) -> Tensor:
    """Slow reference: every sequence padded to the longest."""
    rows = torch.nn.utils.rnn.pad_sequence(tokens.split(LENGTHS), batch_first=True, padding_value=7)
    position = torch.zeros(len(LENGTHS), dtype=torch.long)
    hidden = network.decoder(rows, position, network.decoder.prefill(states))
    return torch.cat([row[:length] for row, length in zip(hidden, LENGTHS, strict=True)])


def gradients(network: Whisper, hidden: Tensor) -> dict[str, Tensor]:
    """Gradients of a weighted sum with a different weight for every token."""
    network.zero_grad()
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(5))
    (hidden * weights).sum().backward()
    return {name: weight.grad for name, weight in network.decoder.named_parameters() if weight.grad is not None}


def max_relative_difference(packed: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert packed.keys() == expected.keys() and len(packed) > 20
    return max(float((packed[name] - expected[name]).abs().max() / expected[name].abs().max()) for name in expected)


@pytest.mark.parametrize("by_sequence", [True, False], ids=["sequential", "padded"])
def test_packed_equals_padded(
    network: Whisper, tokens: Tensor, states: Tensor, by_sequence: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_sequence:  # the path of accelerators
        monkeypatch.setattr(attention, "packed_attention", attention._padded_attention)
    expected = padded(network, tokens, states)
    packed = network.decoder.forward_packed(tokens, LENGTHS, states)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=TOLERANCE)
    assert (
        max_relative_difference(gradients(network, packed), gradients(network, padded(network, tokens, states)))
        < TOLERANCE
    )


def test_control_wrong_lengths_differ(network: Whisper, tokens: Tensor, states: Tensor) -> None:
    packed = network.decoder.forward_packed(tokens, (5, 2, 7, 3), states)
    assert not torch.allclose(packed, padded(network, tokens, states), atol=1e-2)


def test_neighbours_do_not_change_a_sequence(network: Whisper, tokens: Tensor, states: Tensor) -> None:
    packed = network.decoder.forward_packed(tokens, LENGTHS, states)[5:6]
    alone = network.decoder.forward_packed(tokens[5:6], (1,), states[1:2])
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=TOLERANCE)
