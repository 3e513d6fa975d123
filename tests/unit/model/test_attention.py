"""Attention by plain products against PyTorch's fused kernel, and when which of them serves."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from whisperstill.model import attention as module
from whisperstill.model.attention import MAX_QUERIES_PER_TILE, attention, matmul_attention

NEAR = 0.02
"""Relative error of bf16 scores (measured 0.01; the fused kernel, which keeps them in float32, has 0.002)."""


def draw(queries: int, keys: int = 1500) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(queries)
    sizes = (queries, keys, keys)
    query, key, value = (torch.randn(2, 3, size, 16, generator=generator) for size in sizes)
    return (2 * query).bfloat16(), key.bfloat16(), value.bfloat16()


def far(one: Tensor, two: Tensor) -> float:
    return float((one.float() - two.float()).square().mean().sqrt() / two.float().square().mean().sqrt())


@pytest.mark.parametrize("queries", [1, 5, MAX_QUERIES_PER_TILE, MAX_QUERIES_PER_TILE + 1, 1500])
def test_plain_is_near_to_float32(queries: int) -> None:
    tensors = draw(queries)
    exact = F.scaled_dot_product_attention(*(tensor.float() for tensor in tensors))
    plain = matmul_attention(*tensors)
    assert plain.shape == exact.shape and plain.dtype == torch.bfloat16
    assert far(plain, exact) < NEAR


def test_control_another_scale_is_noticed() -> None:
    query, key, value = draw(5)
    exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    assert far(matmul_attention(1.1 * query, key, value), exact) > 5 * NEAR


@pytest.mark.parametrize("block", [1, 8])
def test_it_serves_bf16_without_mask_and_gradient_alone(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(module, "matmul_attention", lambda *tensors: used.append(1) or tensors[0])
    query, key, value = draw(block, 16)
    attention(query, key, value)
    assert used == [1]
    attention(query.float(), key.float(), value.float())
    attention(query, key, value, torch.ones(2, 1, block, 16, dtype=torch.bool))
    attention(query, key[:, :, :block], value[:, :, :block], causal=True)
    attention(query.requires_grad_(), key, value)
    assert used == [1]
