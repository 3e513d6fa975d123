"""Linear layers: few rows on a CPU, and 8-bit."""

import pytest
import torch

from whisperstill.errors import SettingsError
from whisperstill.model.dims import Dims
from whisperstill.model.int8 import Int8Linear, to_int8
from whisperstill.model.linear import MAX_TRANSPOSED_ROWS, Linear
from whisperstill.model.whisper import Whisper

DIMS = Dims(mels=80, vocab_size=51865, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=2)


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 16, MAX_TRANSPOSED_ROWS, MAX_TRANSPOSED_ROWS + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_linear_equals_torch_for_any_number_of_rows(rows: int, dtype: torch.dtype) -> None:
    layer = Linear(24, 40).to(dtype)
    x = torch.randn(rows, 24, generator=torch.Generator().manual_seed(rows)).to(dtype)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    with torch.inference_mode():
        product = layer(x)
        torch.testing.assert_close(layer(x[None]), product[None], rtol=0, atol=0)
    torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-5)
    assert product.is_contiguous()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)  # with gradients: the plain product


def test_int8_linear_is_close_to_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(64, 48, generator=generator), torch.randn(64, generator=generator)
    x = torch.randn(5, 48, generator=generator)
    product, exact = Int8Linear(weight, bias)(x), x @ weight.t() + bias
    assert (product - exact).abs().max() < 0.03 * exact.abs().max()
    assert not torch.equal(product, exact)
    assert Int8Linear(weight, bias)(x.bfloat16()).dtype == torch.bfloat16


def test_int8_network_logits_are_close_to_float32() -> None:
    torch.manual_seed(0)
    networks = []
    for int8 in (False, True):
        torch.manual_seed(0)
        network = Whisper(DIMS).eval()
        networks.append(to_int8(network) if int8 else network)
    mel = torch.randn(1, 80, 3000)
    tokens, position = torch.tensor([[50258, 50259, 7, 8]]), torch.zeros(1, dtype=torch.long)
    logits = []
    with torch.inference_mode():
        for network in networks:
            states = network.encoder(mel)
            hidden = network.decoder(tokens, position, network.decoder.prefill(states))[0]
            logits.append(network.decoder.output_layer(4)(hidden).clone())
    assert not torch.equal(*logits)
    assert torch.nn.functional.cosine_similarity(*logits).min() > 0.99
    assert not any(isinstance(module, torch.nn.Linear) for module in networks[1].modules())
    packed = networks[1].decoder.output_layer(1), networks[1].decoder.output_layer(2)
    assert packed[0]._int8 is packed[1]._int8  # built once


def test_int8_requires_a_cpu() -> None:
    with pytest.raises(SettingsError, match="int8"):
        to_int8(torch.nn.Linear(2, 2, device="meta"))
