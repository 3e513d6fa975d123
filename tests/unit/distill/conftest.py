"""A small teacher, a student, and labels with top-k and encoder states."""

from pathlib import Path

import pytest
from small_models import make_corpus, make_student_of, make_teacher

from whisperstill.console import NullConsole
from whisperstill.distill.dataset import TrainingExample, build_examples
from whisperstill.label.store import LabelStore, open_labels
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.stages import label
from whisperstill.stages.label import LabelSettings
from whisperstill.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_size(51865)


@pytest.fixture(scope="package")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `teacher`, `student`, `corpus/manifest.jsonl` and `labels`."""
    directory = tmp_path_factory.mktemp("distill")
    make_teacher(directory / "teacher")
    make_student_of(directory / "teacher", directory / "student")
    settings = LabelSettings(
        teacher=str(directory / "teacher"),
        manifest=(str(make_corpus(directory / "corpus")),),
        output=directory / "labels",
        encoder_states="float32",
        dtype="float32",
        max_new_tokens=8,
        top_k=8,
        packing_variants=2,
        min_packed_seconds=4.0,
    )
    label.run(settings, NullConsole())
    return directory


@pytest.fixture(scope="package")
def teacher(small_world: Path) -> Checkpoint:
    return load_checkpoint(str(small_world / "teacher"))


@pytest.fixture(scope="package")
def student(small_world: Path) -> Checkpoint:
    return load_checkpoint(str(small_world / "student"))


@pytest.fixture(scope="package")
def store(small_world: Path) -> LabelStore:
    return open_labels(small_world / "labels")


@pytest.fixture(scope="package")
def examples(store: LabelStore) -> list[TrainingExample]:
    return build_examples(store.read_labels(), None, VOCABULARY.end_of_text)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return VOCABULARY
