"""Feature losses: zero where the student is the teacher, and only there."""

from dataclasses import replace

import pytest
import torch
from small_models import make_checkpoint
from torch import Tensor

from whisperstill.distill.feature_losses import attention_loss, capture_layers, layer_loss
from whisperstill.distill.settings import LossConfig
from whisperstill.model.decoder import Decoder, LayerOutputs
from whisperstill.model.dims import Dims
from whisperstill.model.student_init import init_student
from whisperstill.model.whisper import Whisper

LENGTHS = (5, 1, 8)
TOKEN_WEIGHTS = torch.tensor([0.0, 1.0, 1.0] * 4 + [0.5, 0.0])
LAYERS = LossConfig(layer_loss_weight=1.0)
ATTENTION = LossConfig(attention_loss_weight=1.0)
BOTH = LossConfig(layer_loss_weight=1.0, attention_loss_weight=1.0)


@pytest.fixture
def teacher() -> Whisper:
    dims = Dims(mels=80, vocab_size=300, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=4)
    checkpoint = make_checkpoint(dims, b"")
    return Whisper.from_state(dims, {name: 3 * tensor for name, tensor in checkpoint.state.items()})


def make_student_network(teacher: Whisper, layers: tuple[int, ...]) -> Whisper:
    checkpoint = replace(make_checkpoint(teacher.dims, b""), state=dict(teacher.state_dict()))
    student = init_student(checkpoint, layers)
    return Whisper.from_state(student.dims, student.state)


def run_decoder(decoder: Decoder, layer_outputs: LayerOutputs | None) -> LayerOutputs:
    assert layer_outputs is not None
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 300, (sum(LENGTHS),), generator=generator)
    states = torch.randn(len(LENGTHS), 60, 32, generator=generator)
    decoder.forward_packed(tokens, LENGTHS, states, layer_outputs)
    return layer_outputs


def compute_losses(layers: tuple[int, ...], student: Whisper, teacher: Whisper) -> tuple[float, float]:
    """Layer loss and attention loss."""
    student_capture, teacher_capture = capture_layers(BOTH, layers)
    outputs = run_decoder(student.decoder, student_capture), run_decoder(teacher.decoder, teacher_capture)
    losses = layer_loss(*outputs, layers, TOKEN_WEIGHTS), attention_loss(*outputs, layers, TOKEN_WEIGHTS)
    return float(losses[0].detach()), float(losses[1].detach())


def test_losses_of_the_teacher_itself_are_zero(teacher: Whisper) -> None:
    copy = make_student_network(teacher, (0, 1, 2, 3))
    of_layers, of_attention = compute_losses((0, 1, 2, 3), copy, teacher)
    assert of_layers == pytest.approx(0, abs=1e-6) and of_attention == pytest.approx(0, abs=1e-5)
    smaller = make_student_network(teacher, (0, 3))
    of_layers, of_attention = compute_losses((0, 3), smaller, teacher)
    assert of_layers > 0.1 and of_attention > 1e-4


def test_layer_is_matched_with_the_input_of_its_successor(teacher: Whisper) -> None:
    """Layers 0 and 3: the first is compared with the output of layer 2, the last with that of layer 3."""
    outer = run_decoder(teacher.decoder, capture_layers(LAYERS, (0, 3))[1])

    def loss(*layers: int) -> float:
        inner = LayerOutputs(hidden_states=[outer.hidden_states[layer] for layer in layers])
        return float(layer_loss(inner, outer, (0, 3), TOKEN_WEIGHTS).detach())

    assert loss(2, 3) == 0
    assert loss(0, 3) > 0.1


def test_mean_attention_equals_slow_twin(teacher: Whisper) -> None:
    """The slow twin: attention scores one sequence after another, as for word timestamps."""
    layer_outputs = run_decoder(teacher.decoder, capture_layers(ATTENTION, (1, 3))[1])
    assert layer_outputs.mean_attention.keys() == {1, 3}
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 300, (sum(LENGTHS),), generator=generator)
    states = torch.randn(len(LENGTHS), 60, 32, generator=generator)
    for layer in (1, 3):
        rows = [
            teacher.decoder.cross_attention_scores(sequence[None], states[row : row + 1], [(layer, 0), (layer, 1)])[0]
            .softmax(-1)
            .mean(0)
            for row, sequence in enumerate(tokens.split(LENGTHS))
        ]
        torch.testing.assert_close(layer_outputs.mean_attention[layer], torch.cat(rows), rtol=1e-5, atol=1e-5)


def test_losses_are_weighted_sums_over_tokens(teacher: Whisper) -> None:
    student = make_student_network(teacher, (0, 3))
    student_capture, teacher_capture = capture_layers(BOTH, (0, 3))
    inner, outer = run_decoder(student.decoder, student_capture), run_decoder(teacher.decoder, teacher_capture)

    def one_token(index: int) -> Tensor:
        return (torch.arange(14) == index).float()

    for loss in (layer_loss, attention_loss):
        parts = [float(loss(inner, outer, (0, 3), one_token(index))) for index in range(14)]
        expected = sum(part * weight for part, weight in zip(parts, TOKEN_WEIGHTS.tolist(), strict=True))
        assert float(loss(inner, outer, (0, 3), TOKEN_WEIGHTS)) == pytest.approx(expected)


def test_layer_outputs_are_captured_only_for_weighted_losses() -> None:
    assert capture_layers(LossConfig(hidden_loss_weight=1.0), (0, 3)) == (None, None)
    for capture in capture_layers(LAYERS, (0, 3)):
        assert capture is not None and not capture.attention_layers
