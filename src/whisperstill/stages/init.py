"""`init`: make an untrained student from layers of the teacher."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from whisperstill.console import SILENT, Console
from whisperstill.distill.settings import InitSettings
from whisperstill.errors import SettingsError

if TYPE_CHECKING:
    from whisperstill.model.checkpoints import Checkpoint


__all__ = ["InitReport", "InitSettings", "run"]


@dataclass(frozen=True)
class InitReport:
    """Weights of teacher and student."""

    teacher: str
    """Name and source of the teacher."""
    output: str
    layers: tuple[int, ...]
    """Copied decoder layers of the teacher."""
    teacher_encoder: int
    teacher_decoder: int
    """Decoder without the token embedding."""
    student_encoder: int
    student_decoder: int
    embedding: int
    """Token embedding, equal in both."""
    sha256: str
    """Hash of the student's weights."""
    created: bool
    """False if `output` already held this student."""

    @property
    def teacher_parameters(self) -> int:
        """Parameters of the teacher."""
        return self.teacher_encoder + self.teacher_decoder + self.embedding

    @property
    def student_parameters(self) -> int:
        """Parameters of the student."""
        return self.student_encoder + self.student_decoder + self.embedding


def run(settings: InitSettings, console: Console = SILENT) -> InitReport:
    """Writes the student, unless `output` already holds it. The student depends on settings and teacher only.

    Raises `SettingsError` for layers the teacher does not have and if `output` holds something else, `NotFoundError`
    and `CheckpointError` for the teacher.
    """
    output = settings.output
    if output.exists() and not output.is_dir():
        raise SettingsError(f"output must be a directory, but {output} is a file")

    from whisperstill.model.checkpoints import contains_checkpoint, is_unfinished, load_checkpoint, write_huggingface
    from whisperstill.model.student_init import check_layers, init_student, select_spaced_layers

    teacher = load_checkpoint(settings.teacher)
    depth = teacher.dims.decoder_layers
    if settings.layers is not None:
        layers = check_layers(depth, settings.layers)
    elif settings.layer_selection == "importance":
        layers = _layers_by_importance(settings, teacher, console)
    else:
        layers = select_spaced_layers(depth, settings.decoder_layers)
    _check_language(settings.language, teacher.dims.vocab_size)
    student = init_student(teacher, layers, settings.language)

    created = not (output.is_dir() and contains_checkpoint(output, student))
    if created:
        is_occupied = output.is_dir() and any(output.iterdir()) and not is_unfinished(output)
        if is_occupied and not settings.overwrite:
            raise SettingsError(
                f"{output} holds something other than this student; use another --output, or --overwrite"
            )
        write_huggingface(student, output)
        console.info(f"student written to {output}")
    else:
        console.info(f"{output} already holds this student")

    teacher_counts, student_counts = teacher.parameter_counts, student.parameter_counts
    report = InitReport(
        teacher=teacher.source,
        output=str(output),
        layers=layers,
        teacher_encoder=teacher_counts.encoder,
        teacher_decoder=teacher_counts.decoder,
        student_encoder=student_counts.encoder,
        student_decoder=student_counts.decoder,
        embedding=student_counts.embedding,
        sha256=student.sha256,
        created=created,
    )
    _print_parameters(report, depth, console)
    return report


def _layers_by_importance(settings: InitSettings, teacher: "Checkpoint", console: Console) -> tuple[int, ...]:
    """The layers with the largest influence on the teacher's own labels."""
    if settings.labels is None:
        raise SettingsError("layer_selection importance needs --labels: a label store of this teacher")

    from whisperstill.distill.data_loader import DataLoader
    from whisperstill.distill.dataset import build_examples
    from whisperstill.distill.encoder_states import OnlineStates, StoredStates
    from whisperstill.distill.layer_importance import layer_importance
    from whisperstill.distill.settings import ExampleOptions
    from whisperstill.distill.teacher_targets import StoredTargetReader
    from whisperstill.label.store import open_labels
    from whisperstill.model.student_init import select_important_layers
    from whisperstill.model.whisper import Whisper
    from whisperstill.text.vocabulary import Vocabulary

    store = open_labels(settings.labels)
    if store.teacher["sha256"] != teacher.sha256:
        raise SettingsError(
            f"the labels in {settings.labels} are of {store.teacher['source']}, not of {settings.teacher}"
        )
    network = Whisper.from_state(teacher.dims, teacher.state)
    vocabulary = Vocabulary.from_size(teacher.dims.vocab_size)
    states = StoredStates(store) if store.has_encoder_states else OnlineStates(network)
    targets = StoredTargetReader(store, "online", 1.0, needs_hidden=False)
    data_loader = DataLoader(vocabulary, ExampleOptions(), states, targets)
    examples = build_examples(store.read_labels(), None, vocabulary.end_of_text)
    importances = layer_importance(network, data_loader, examples)
    rows = [(str(layer), f"{value:.3f}") for layer, value in enumerate(importances)]
    console.table("influence of each decoder layer", ("layer", "influence"), rows)
    return select_important_layers(importances, settings.decoder_layers)


def _check_language(language: str | None, vocab_size: int) -> None:
    if language is None:
        return
    from whisperstill.text.vocabulary import Vocabulary

    vocabulary = Vocabulary.from_size(vocab_size)
    if not vocabulary.multilingual:
        raise SettingsError(f"an English model has no language setting, got {language}; leave it out")
    if language not in vocabulary.languages:
        raise SettingsError(
            f"language must be one of the teacher's ({', '.join(sorted(vocabulary.languages))}), got {language}"
        )


def _print_parameters(report: InitReport, depth: int, console: Console) -> None:
    counts = {
        "encoder": (report.teacher_encoder, report.student_encoder),
        "decoder": (report.teacher_decoder, report.student_decoder),
        "embedding": (report.embedding, report.embedding),
        "total": (report.teacher_parameters, report.student_parameters),
    }
    rows = [(name, f"{teacher / 1e6:.1f}", f"{student / 1e6:.1f}") for name, (teacher, student) in counts.items()]
    rows.append(("decoder layers", str(depth), ", ".join(map(str, report.layers))))
    console.table("parameters, millions", ("", f"teacher {report.teacher}", "student"), rows)
