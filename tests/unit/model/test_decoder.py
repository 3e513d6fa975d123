"""Cross-attention scores equal attention computed from the inputs of each layer."""

import pytest
import torch
from small_models import make_checkpoint
from torch import Tensor

from whisperstill.model.attention import split_heads
from whisperstill.model.dims import Dims
from whisperstill.model.whisper import Whisper

PAIRS = ((2, 1), (0, 0), (2, 0))


@pytest.fixture(scope="module")
def network(small_dims: Dims) -> Whisper:
    checkpoint = make_checkpoint(small_dims, b"")
    return Whisper.from_state(small_dims, {name: 3 * tensor for name, tensor in checkpoint.state.items()})


@pytest.fixture(scope="module")
def states() -> Tensor:
    return torch.randn(2, 60, 64, generator=torch.Generator().manual_seed(3))


TOKENS = torch.tensor([[5, 6, 7, 8, 9], [9, 9, 3, 2, 1]])


def reference_scores(network: Whisper, states: Tensor) -> dict[tuple[int, int], Tensor]:
    """Scores of every head, from the inputs of cross-attention in an ordinary forward pass."""
    inputs: list[Tensor] = []
    handles = [layer.cross_norm.register_forward_hook(lambda *all: inputs.append(all[2])) for layer in layers(network)]
    network.decoder(TOKENS, torch.zeros(2, dtype=torch.long), network.decoder.prefill(states))
    for handle in handles:
        handle.remove()
    scores = {}
    for index, (layer, x) in enumerate(zip(layers(network), inputs, strict=True)):
        query = split_heads(layer.cross.query(x), layer.cross.heads)
        key = layer.cross.project(states)[0]
        for head in range(layer.cross.heads):
            scores[index, head] = query[:, head] @ key[:, head].mT / key.shape[-1] ** 0.5
    return scores


def layers(network: Whisper) -> list:  # type: ignore[type-arg]
    return list(network.decoder.layers)


@torch.inference_mode()
def test_cross_attention_scores_equal_forward_pass(network: Whisper, states: Tensor) -> None:
    expected = reference_scores(network, states)
    scores = network.decoder.cross_attention_scores(TOKENS, states, PAIRS)
    assert scores.shape == (2, 3, 5, 60)
    for index, pair in enumerate(PAIRS):
        torch.testing.assert_close(scores[:, index], expected[pair], rtol=1e-5, atol=1e-4)
    assert not torch.allclose(scores[:, 0], expected[2, 0], atol=1e-2)  # control: another head has other scores


@torch.inference_mode()
def test_later_tokens_do_not_change_scores(network: Whisper, states: Tensor) -> None:
    """Rows of unequal length may be padded with any token."""
    full_scores = network.decoder.cross_attention_scores(TOKENS, states, PAIRS)
    torch.testing.assert_close(
        network.decoder.cross_attention_scores(TOKENS[:, :3], states, PAIRS),
        full_scores[:, :, :3],
        rtol=1e-5,
        atol=1e-4,
    )


def test_layers_above_last_requested_are_skipped(network: Whisper, states: Tensor) -> None:
    ran: list[int] = []
    handles = [
        layer.attention_norm.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
        for index, layer in enumerate(layers(network))
    ]
    network.decoder.cross_attention_scores(TOKENS, states, [(1, 0)])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


@pytest.mark.parametrize(
    ("pair", "message"), [((3, 0), "layers 0 to 2, got 3"), ((1, 2), "heads 0 to 1, got 2")], ids=["layer", "head"]
)
def test_unknown_layer_or_head_raises(network: Whisper, states: Tensor, pair: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network.decoder.cross_attention_scores(TOKENS, states, [(0, 0), pair])
