"""A small world: a random teacher of full vocabulary, its student, and a corpus of noise with words."""

from pathlib import Path

import pytest
from small_models import make_corpus, make_student_of, make_teacher


@pytest.fixture(scope="session")
def small_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `small_models.make_teacher`."""
    return make_teacher(tmp_path_factory.mktemp("small-teacher"))


@pytest.fixture(scope="session")
def small_student(small_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `small_models.make_student_of`."""
    return make_student_of(small_teacher, tmp_path_factory.mktemp("students") / "student")


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `small_models.make_corpus`."""
    return make_corpus(tmp_path_factory.mktemp("small-corpus"))
