"""A small teacher and corpus."""

from pathlib import Path

import pytest
from small_models import make_corpus, make_teacher


@pytest.fixture(scope="package")
def small_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights."""
    return make_teacher(tmp_path_factory.mktemp("teacher") / "teacher")


@pytest.fixture
def small_corpus(tmp_path: Path) -> Path:
    """Manifest of 14 utterances of noise."""
    return make_corpus(tmp_path / "corpus")
