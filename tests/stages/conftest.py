"""A random teacher with the full vocabulary, its student, and a corpus of noise with transcripts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_models import make_corpus, make_student_of, make_teacher

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.distill import curve_plot, save_student
from whisperstill.model.dims import Dims

MAX_SHORT_OUTPUT = 16
"""Tokens of a window under `short_outputs`."""


@pytest.fixture(scope="module", autouse=True)
def inherit_alignment_heads() -> Iterator[None]:
    """Students keep the teacher's alignment heads.

    Selecting new heads decodes a dozen windows twice, which is most of the time of a small training. It is tested in
    tests/unit/decode, in test_label_and_train.py, and by the tests that run the command line.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save_student, "with_alignment_heads", lambda student, *rest, **more: student)
        yield


@pytest.fixture(scope="module", autouse=True)
def short_outputs() -> Iterator[None]:
    """Windows end after `MAX_SHORT_OUTPUT` tokens in this process.

    Random networks never predict the end of text, so that every window would take all 224 tokens. A module that decodes
    with real weights overrides this fixture.
    """
    full_length = DecodeRequest.max_steps

    def max_steps(request: DecodeRequest, dims: Dims) -> int:
        return min(MAX_SHORT_OUTPUT, full_length(request, dims))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecodeRequest, "max_steps", max_steps)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_training_plots() -> Iterator[None]:
    """Training writes no training.png, which takes as long as a small training; test_readme.py tests the plot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve_plot, "plot_training_curve", lambda metrics_path, image_path: None)
        yield


@pytest.fixture(scope="session")
def small_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random teacher (`small_models.make_teacher`)."""
    return make_teacher(tmp_path_factory.mktemp("small-teacher"))


@pytest.fixture(scope="session")
def small_student(small_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a student of `small_teacher` (`small_models.make_student_of`)."""
    return make_student_of(small_teacher, tmp_path_factory.mktemp("students") / "student")


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of a corpus of noise (`small_models.make_corpus`)."""
    return make_corpus(tmp_path_factory.mktemp("small-corpus"))
