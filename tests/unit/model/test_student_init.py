"""Student initialization: layer selection, and weights copied from the teacher."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint, count_parameters, expected_shapes
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import default_alignment_heads
from whisperstill.model.student_init import check_layers, init_student, select_important_layers, select_spaced_layers


@pytest.mark.parametrize(
    ("teacher", "count", "layers"),
    [
        (32, 2, (0, 31)),
        (32, 4, (0, 10, 20, 31)),
        (32, 8, (0, 4, 8, 13, 17, 22, 26, 31)),
        (6, 2, (0, 5)),
        (6, 3, (0, 2, 5)),
        (4, 2, (0, 3)),
        (4, 1, (0,)),
    ],
    ids=str,
)
def test_select_spaced_layers_matches_paper(teacher: int, count: int, layers: tuple[int, ...]) -> None:
    assert select_spaced_layers(teacher, count) == layers


@given(st.integers(1, 48).flatmap(lambda most: st.tuples(st.just(most), st.integers(1, most))))
def test_spaced_layers_ascend_from_first_to_last(sizes: tuple[int, int]) -> None:
    teacher, count = sizes
    layers = select_spaced_layers(teacher, count)
    assert len(layers) == count
    assert check_layers(teacher, layers) == layers
    assert layers[0] == 0
    assert count == 1 or layers[-1] == teacher - 1


def test_invalid_layers_raise() -> None:
    for count in (0, -1, 40):
        with pytest.raises(SettingsError, match=rf"decoder_layers must be 1 to 6 \(the teacher's\), got {count}"):
            select_spaced_layers(6, count)
    with pytest.raises(SettingsError, match=r"layers must be 0 to 5 \(the teacher's\), got 6"):
        check_layers(6, (0, 6))
    with pytest.raises(SettingsError, match="ascend without repeats, got 5, 0"):
        check_layers(6, (5, 0))
    with pytest.raises(SettingsError, match="ascend without repeats"):
        check_layers(6, (1, 1))
    with pytest.raises(SettingsError, match="at least one"):
        check_layers(6, ())


def test_student_has_teacher_weights(checkpoint: Checkpoint) -> None:
    student = init_student(checkpoint, (0, 2), "de")
    assert student.dims == replace(checkpoint.dims, decoder_layers=2)
    assert {name: tuple(tensor.shape) for name, tensor in student.state.items()} == expected_shapes(student.dims)
    origin = {name: checkpoint.state[name.replace("decoder.layers.1.", "decoder.layers.2.")] for name in student.state}
    torch.testing.assert_close(student.state, origin, rtol=0, atol=0)
    assert [name for name in origin if student.state[name].data_ptr() == origin[name].data_ptr()] == []
    assert student.encoder_sha256 == checkpoint.encoder_sha256
    assert student.sha256 != checkpoint.sha256
    assert student.tokenizer_json == checkpoint.tokenizer_json
    assert student.generation_config.suppress_tokens == checkpoint.generation_config.suppress_tokens
    assert student.generation_config.language == "de"
    assert student.metadata["teacher_sha256"] == checkpoint.sha256
    assert student.metadata["layers"] == [0, 2]


def test_select_important_layers() -> None:
    assert select_important_layers([1.0, 0.1, 0.3, 0.2, 0.3], 3) == (0, 2, 4)
    assert select_important_layers([0.0, 0.1, 0.3, 0.2, 0.3], 2) == (0, 2)  # always the first; the lower one of equals
    assert select_important_layers([1.0, 0.1], 1) == (0,)
    with pytest.raises(SettingsError, match="decoder_layers must be 1 to 2"):
        select_important_layers([1.0, 0.1], 3)


def test_all_layers_equal_teacher(checkpoint: Checkpoint) -> None:
    student = init_student(checkpoint, (0, 1, 2))
    assert student.sha256 == checkpoint.sha256
    assert student.generation_config == checkpoint.generation_config


def test_alignment_heads_follow_their_layers(checkpoint: Checkpoint) -> None:
    assert checkpoint.generation_config.alignment_heads == ((0, 1), (2, 0), (2, 1))
    assert init_student(checkpoint, (0, 2)).generation_config.alignment_heads == ((0, 1), (1, 0), (1, 1))
    assert init_student(checkpoint, (1, 2)).generation_config.alignment_heads == ((1, 0), (1, 1))
    alone = init_student(checkpoint, (1,))  # no alignment head left
    assert alone.generation_config.alignment_heads == default_alignment_heads(alone.dims) == ((0, 0), (0, 1))


def test_network_state_matches_expected_shapes(checkpoint: Checkpoint) -> None:
    from whisperstill.model.whisper import Whisper

    network = Whisper.from_state(checkpoint.dims, checkpoint.state)
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == expected_shapes(
        checkpoint.dims
    )


def test_parameter_counts_match_publication() -> None:
    large = Dims(
        mels=80, vocab_size=51865, width=1280, encoder_heads=20, encoder_layers=32, decoder_heads=20, decoder_layers=32
    )
    assert round(count_parameters(large).total / 1e6) == 1543
    assert round(count_parameters(replace(large, decoder_layers=2)).total / 1e6) == 756
