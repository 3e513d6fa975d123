"""What of the teacher's inside is matched: nothing is left where the student is the teacher, and only there."""

from dataclasses import replace

import pytest
import torch
from small_models import make_checkpoint
from torch import Tensor

from whisperstill.distill.feature_losses import FeatureLossConfig
from whisperstill.model.decoder import Decoder, LayerOutputs
from whisperstill.model.dims import Dims
from whisperstill.model.student_init import make_student
from whisperstill.model.whisper import Whisper

LENGTHS = (5, 1, 8)
TAUGHT = torch.tensor([0.0, 1.0, 1.0] * 4 + [0.5, 0.0])


@pytest.fixture
def teacher() -> Whisper:
    dims = Dims(mels=80, vocab_size=300, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=4)
    checkpoint = make_checkpoint(dims, b"")
    return Whisper.from_state(dims, {name: 3 * tensor for name, tensor in checkpoint.state.items()})


def student_of(teacher: Whisper, layers: tuple[int, ...]) -> Whisper:
    checkpoint = replace(make_checkpoint(teacher.dims, b""), state=dict(teacher.state_dict()))
    made = make_student(checkpoint, layers)
    return Whisper.from_state(made.dims, made.state)


def read(decoder: Decoder, inside: LayerOutputs | None) -> LayerOutputs:
    assert inside is not None
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 300, (sum(LENGTHS),), generator=generator)
    states = torch.randn(len(LENGTHS), 60, 32, generator=generator)
    decoder.forward_packed(tokens, LENGTHS, states, inside)
    return inside


def distances(matching: FeatureLossConfig, student: Whisper, teacher: Whisper) -> tuple[Tensor, Tensor]:
    inner, outer = read(student.decoder, matching.student_capture()), read(teacher.decoder, matching.teacher_capture())
    found = matching.layer_loss(inner, outer, TAUGHT), matching.attention_loss(inner, outer, TAUGHT)
    return found[0].detach(), found[1].detach()


def test_the_teacher_has_nothing_to_learn_from_itself(teacher: Whisper) -> None:
    everything = FeatureLossConfig(0.0, 1.0, 1.0, (0, 1, 2, 3), 4)
    layers, attention = distances(everything, student_of(teacher, (0, 1, 2, 3)), teacher)
    assert float(layers) == pytest.approx(0, abs=1e-6) and float(attention) == pytest.approx(0, abs=1e-5)
    layers, attention = distances(FeatureLossConfig(0.0, 1.0, 1.0, (0, 3), 4), student_of(teacher, (0, 3)), teacher)
    assert float(layers) > 0.1 and float(attention) > 1e-4


def test_a_layer_is_to_hand_on_what_the_one_above_it_knows(teacher: Whisper) -> None:
    """Layers 0 and 3: the first is held against what layer 2 hands to layer 3, the last against layer 3."""
    matching = FeatureLossConfig(0.0, 1.0, 0.0, (0, 3), 4)
    outer = read(teacher.decoder, matching.teacher_capture())
    inner = LayerOutputs(hidden_states=[outer.hidden_states[2], outer.hidden_states[3]])
    assert float(matching.layer_loss(inner, outer, TAUGHT).detach()) == 0
    inner = LayerOutputs(hidden_states=[outer.hidden_states[0], outer.hidden_states[3]])
    assert float(matching.layer_loss(inner, outer, TAUGHT).detach()) > 0.1


def test_where_a_token_looks_is_what_its_attention_weighs(teacher: Whisper) -> None:
    """The slow twin: scores of one sequence after the other, as word times take them."""
    matching = FeatureLossConfig(0.0, 0.0, 1.0, (1, 3), 4)
    inside = read(teacher.decoder, matching.teacher_capture())
    assert inside.mean_attention.keys() == {1, 3}
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 300, (sum(LENGTHS),), generator=generator)
    states = torch.randn(len(LENGTHS), 60, 32, generator=generator)
    for layer in (1, 3):
        rows = [
            teacher.decoder.cross_attention_scores(part[None], states[at : at + 1], [(layer, 0), (layer, 1)])[0]
            .softmax(-1)
            .mean(0)
            for at, part in enumerate(tokens.split(LENGTHS))
        ]
        assert torch.allclose(inside.mean_attention[layer], torch.cat(rows), atol=1e-5)


def test_only_taught_tokens_count(teacher: Whisper) -> None:
    matching = FeatureLossConfig(0.0, 1.0, 1.0, (0, 3), 4)
    student = student_of(teacher, (0, 3))
    inner, outer = read(student.decoder, matching.student_capture()), read(teacher.decoder, matching.teacher_capture())
    for measure in (matching.layer_loss, matching.attention_loss):
        parts = [measure(inner, outer, (torch.arange(14) == at).float()) for at in range(14)]
        expected = sum(float(part) * count for part, count in zip(parts, TAUGHT.tolist(), strict=True))
        assert float(measure(inner, outer, TAUGHT)) == pytest.approx(expected)


def test_what_is_not_weighed_is_not_computed() -> None:
    assert FeatureLossConfig(1.0).teacher_capture() is None and FeatureLossConfig(1.0).student_capture() is None
    looks = FeatureLossConfig(0.0, 1.0, 0.0, (0, 3), 4).teacher_capture()
    assert looks is not None and not looks.attention_layers
