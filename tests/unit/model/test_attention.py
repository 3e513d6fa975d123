"""`matmul_attention` against PyTorch's fused kernel, and when `attention` uses it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from whisperstill.model import attention as module
from whisperstill.model.attention import MAX_QUERIES_PER_TILE, attention, matmul_attention

MAX_RELATIVE_ERROR = 0.02
"""Relative error of bfloat16 scores (measured 0.01; the fused kernel, which keeps them in float32, has 0.002)."""


def make_qkv(queries: int, keys: int = 1500) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(queries)
    sizes = (queries, keys, keys)
    query, key, value = (torch.randn(2, 3, size, 16, generator=generator) for size in sizes)
    return (2 * query).bfloat16(), key.bfloat16(), value.bfloat16()


def relative_error(output: Tensor, exact: Tensor) -> float:
    return float((output.float() - exact.float()).square().mean().sqrt() / exact.float().square().mean().sqrt())


@pytest.mark.parametrize("queries", [1, 5, MAX_QUERIES_PER_TILE, MAX_QUERIES_PER_TILE + 1, 1500])
def test_matmul_attention_is_close_to_float32(queries: int) -> None:
    tensors = make_qkv(queries)
    exact = F.scaled_dot_product_attention(*(tensor.float() for tensor in tensors))
    by_matmul = matmul_attention(*tensors)
    assert by_matmul.shape == exact.shape and by_matmul.dtype == torch.bfloat16
    assert relative_error(by_matmul, exact) < MAX_RELATIVE_ERROR


def test_control_wrong_scale_fails() -> None:
    query, key, value = make_qkv(5)
    exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    assert relative_error(matmul_attention(1.1 * query, key, value), exact) > 5 * MAX_RELATIVE_ERROR


@pytest.mark.parametrize("block", [1, 8])
def test_matmul_attention_only_for_bfloat16_without_mask_and_gradient(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr(module, "matmul_attention", lambda *tensors: used.append(1) or tensors[0])
    query, key, value = make_qkv(block, 16)
    attention(query, key, value)
    assert used == [1]
    attention(query.float(), key.float(), value.float())
    attention(query, key, value, torch.ones(2, 1, block, 16, dtype=torch.bool))
    attention(query, key[:, :, :block], value[:, :, :block], causal=True)
    attention(query.requires_grad_(), key, value)
    assert used == [1]
