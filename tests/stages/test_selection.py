"""Layer selection by importance."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import load_checkpoint, write_huggingface
from whisperstill.stages import init, label
from whisperstill.stages.init import InitSettings
from whisperstill.stages.label import LabelSettings


def labels_of(teacher: Path, corpus: Path, output: Path) -> Path:
    label.run(
        LabelSettings(str(teacher), (str(corpus),), output, encoder_states="float32", max_new_tokens=8), NullConsole()
    )
    return output


def test_layer_without_effect_is_left_out(small_teacher: Path, small_corpus: Path, tmp_path: Path) -> None:
    """Of layers 1 and 2 the one that changes its input is kept; the other has zero weights."""
    for idle, expected in ((1, (0, 2)), (2, (0, 1))):
        checkpoint = load_checkpoint(str(small_teacher))
        state = {
            name: torch.zeros_like(tensor) if f"layers.{idle}." in name and "decoder" in name else tensor
            for name, tensor in checkpoint.state.items()
        }
        teacher = tmp_path / f"teacher-{idle}"
        write_huggingface(replace(checkpoint, state=state), teacher)
        labels = labels_of(teacher, small_corpus, tmp_path / f"labels-{idle}")
        settings = InitSettings(str(teacher), tmp_path / f"student-{idle}", layer_selection="importance", labels=labels)
        assert init.run(settings, NullConsole()).layers == expected


def test_importance_needs_labels_of_the_teacher(small_teacher: Path, small_corpus: Path, tmp_path: Path) -> None:
    settings = InitSettings(str(small_teacher), tmp_path / "student", layer_selection="importance")
    with pytest.raises(SettingsError, match="needs --labels"):
        init.run(settings, NullConsole())
    checkpoint = load_checkpoint(str(small_teacher))
    state = {name: 2 * tensor for name, tensor in checkpoint.state.items()}
    write_huggingface(replace(checkpoint, state=state), tmp_path / "other")
    labels = labels_of(tmp_path / "other", small_corpus, tmp_path / "labels")
    with pytest.raises(SettingsError, match=r"are of .*, not of"):
        init.run(replace(settings, labels=labels), NullConsole())
