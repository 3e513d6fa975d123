"""OutputLayer with reused buffers equals the plain product."""

import pytest
import torch

from whisperstill.model.linear import OutputLayer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 64, 65])
def test_output_layer_equals_product(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(1001, 16, generator=generator).to(dtype)
    output = OutputLayer(weight, rows)
    for num_rows in (rows, 1, rows):  # batches shrink and grow
        hidden = torch.randn(num_rows, 16, generator=generator).to(dtype)
        logits = output(hidden)
        exact = (hidden.double() @ weight.double().t()).float()
        assert logits.shape == exact.shape and logits.dtype == torch.float32
        torch.testing.assert_close(logits, exact, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)


def test_next_call_overwrites_logits() -> None:
    output = OutputLayer(torch.randn(11, 4), 2)
    first = output(torch.ones(2, 4))
    second = output(torch.zeros(2, 4))
    assert first.data_ptr() == second.data_ptr() and not first.any()
