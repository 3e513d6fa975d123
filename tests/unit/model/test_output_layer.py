"""The output layer in kept memory = the plain product."""

import pytest
import torch

from whisperstill.model.output_layer import OutputLayer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 64, 65])
def test_kept_is_fresh(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(1001, 16, generator=generator).to(dtype)
    output = OutputLayer(weight, rows)
    for some in (rows, 1, rows):  # rows finish, others take their place
        hidden = torch.randn(some, 16, generator=generator).to(dtype)
        logits = output(hidden)
        exact = (hidden.double() @ weight.double().t()).float()
        assert logits.shape == exact.shape and logits.dtype == torch.float32
        assert torch.allclose(logits, exact, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)


def test_the_next_call_overwrites() -> None:
    output = OutputLayer(torch.randn(11, 4), 2)
    first = output(torch.ones(2, 4))
    second = output(torch.zeros(2, 4))
    assert first.data_ptr() == second.data_ptr() and not first.any()
