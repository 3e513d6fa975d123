"""`init`: a student from a teacher, not yet trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whisperstill.errors import SettingsError
from whisperstill.stages.console import Console

if TYPE_CHECKING:
    from whisperstill.model.checkpoints import Checkpoint


@dataclass(frozen=True)
class InitSettings:
    """What the student is made of."""

    teacher: str
    """Name (`tiny.en`, `large-v3`, `owner/name`) or directory of the teacher."""
    output: Path
    """Directory the student is written to, in Hugging Face's format."""
    decoder_layers: int = 2
    """Decoder layers the student keeps, spaced as far apart as can be; 2 is the paper's choice for English."""
    selection: Literal["spaced", "importance", "merged"] = "spaced"
    """How layers are chosen: as far apart as can be (the paper); by how much each changes what it is handed, measured
    on `labels`; or merged, the mean weights of as many equal groups of layers."""
    labels: Path | None = None
    """A label store of the teacher, for `selection importance`."""
    layers: tuple[int, ...] | None = None
    """Which of the teacher's decoder layers exactly, counted from 0; overrides `decoder_layers`."""
    language: str | None = None
    """Language of a multilingual student when none is named (`de`); without it the language is detected."""
    overwrite: bool = False
    """Replace another student in `output`."""


@dataclass(frozen=True)
class InitReport:
    """Weights of teacher and student."""

    teacher: str
    """What was read."""
    output: str
    layers: tuple[int, ...]
    """Decoder layers of the teacher that the student has."""
    teacher_encoder: int
    teacher_decoder: int
    """Without the token embedding."""
    student_encoder: int
    student_decoder: int
    embedding: int
    """Token embedding, the same in both."""
    sha256: str
    """Identity of the student's weights."""
    made: bool
    """False when this very student was there already."""

    @property
    def teacher_parameters(self) -> int:
        """All weights of the teacher."""
        return self.teacher_encoder + self.teacher_decoder + self.embedding

    @property
    def student_parameters(self) -> int:
        """All weights of the student."""
        return self.student_encoder + self.student_decoder + self.embedding


def run(settings: InitSettings, console: Console) -> InitReport:
    """Write the student, or find that it is there. Same settings and teacher, same student.

    Raises `SettingsError` for layers the teacher does not have and where `output` holds something else,
    `NotFoundError` and `CheckpointError` for the teacher.
    """
    output = settings.output
    if output.exists() and not output.is_dir():
        raise SettingsError(f"output must be a directory, but {output} is a file")

    from whisperstill.model.checkpoints import holds, load_checkpoint, unfinished, write_huggingface
    from whisperstill.model.student import check_layers, choose_layers, make_student

    teacher = load_checkpoint(settings.teacher)
    depth = teacher.dims.decoder_layers
    if settings.layers is not None:
        layers = check_layers(depth, settings.layers)
    elif settings.selection == "importance":
        layers = _by_importance(settings, teacher, console)
    else:
        layers = choose_layers(depth, settings.decoder_layers)
        if settings.selection == "merged":  # equal groups, each from its first layer on
            layers = tuple(index * depth // len(layers) for index in range(len(layers)))
    _check_language(settings.language, teacher.dims.multilingual, teacher.tokenizer_json)
    student = make_student(teacher, layers, settings.language, merged=settings.selection == "merged")

    made = not (output.is_dir() and holds(output, student))
    if made:
        occupied = output.is_dir() and any(output.iterdir()) and not unfinished(output)
        if occupied and not settings.overwrite:
            raise SettingsError(
                f"{output} holds something else than this student; name another output, or pass --overwrite"
            )
        write_huggingface(student, output)
        console.info(f"student written to {output}")
    else:
        console.info(f"{output} holds this student already: nothing to do")

    before, after = teacher.parameters, student.parameters
    report = InitReport(
        teacher=teacher.source,
        output=str(output),
        layers=layers,
        teacher_encoder=before.encoder,
        teacher_decoder=before.decoder,
        student_encoder=after.encoder,
        student_decoder=after.decoder,
        embedding=after.embedding,
        sha256=student.sha256,
        made=made,
    )
    _show(report, depth, console)
    return report


def _by_importance(settings: InitSettings, teacher: "Checkpoint", console: Console) -> tuple[int, ...]:
    """Layers by what they do along the teacher's own labels."""
    if settings.labels is None:
        raise SettingsError("selection importance needs --labels: a label store of this teacher")

    from whisperstill.distill.examples import Drawing, examples
    from whisperstill.distill.importance import influence
    from whisperstill.distill.source import BatchSource
    from whisperstill.label.store import open_labels
    from whisperstill.model.student import most_influential
    from whisperstill.model.whisper import Whisper
    from whisperstill.text.vocabulary import Vocabulary

    store = open_labels(settings.labels)
    made_by = store.manifest["teacher"]
    assert isinstance(made_by, dict)
    if made_by["sha256"] != teacher.sha256:
        raise SettingsError(
            f"the labels in {settings.labels} are not {settings.teacher}'s ({made_by['source']}): label with it first"
        )
    network = Whisper.from_state(teacher.dims, teacher.state)
    vocabulary = Vocabulary.of(teacher.dims.vocab)
    kept = store.settings["states"] != "none"
    source = BatchSource(store, network, vocabulary, Drawing(), "live", 1.0, kept, False)
    found = influence(network, source, examples(store.labelled(), None, vocabulary.end_of_text))
    rows = [(str(layer), f"{value:.3f}") for layer, value in enumerate(found)]
    console.table("how much each decoder layer changes", ("layer", "influence"), rows)
    return most_influential(found, settings.decoder_layers)


def _check_language(language: str | None, multilingual: bool, tokenizer_json: bytes) -> None:
    if language is None:
        return
    from whisperstill.model.checkpoints import special_tokens

    if not multilingual:
        raise SettingsError(f"language cannot be chosen for an English model, got {language}; leave it out")
    known = special_tokens(tokenizer_json).languages
    if language not in known:
        raise SettingsError(f"language must be one of the teacher's ({', '.join(sorted(known))}), got {language}")


def _show(report: InitReport, depth: int, console: Console) -> None:
    def millions(count: int) -> str:
        return f"{count / 1e6:.1f}"

    rows = [
        ("encoder", millions(report.teacher_encoder), millions(report.student_encoder)),
        ("decoder", millions(report.teacher_decoder), millions(report.student_decoder)),
        ("embedding", millions(report.embedding), millions(report.embedding)),
        ("together", millions(report.teacher_parameters), millions(report.student_parameters)),
        ("decoder layers", str(depth), ", ".join(map(str, report.layers))),
    ]
    console.table("parameters, millions", ("", f"teacher {report.teacher}", "student"), rows)
