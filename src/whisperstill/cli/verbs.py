"""The verbs of the command line, and where each one's settings and `run` live.

Only the module of the chosen verb is imported, so that every `--help` answers at once.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb."""

    name: str
    settings_name: str
    """Name of the settings dataclass in `whisperstill.stages.<name>`."""
    summary: str
    usage: str
    positional: str = ""
    """Field that is given without a flag."""
    needs_allocator: bool = True
    """Whether it computes enough for the allocator to matter (see `cli.allocator`)."""
    underscore_flags: bool = False
    """Whether its options are written with underscores, as in openai/whisper's command line."""

    def load(self) -> tuple[Any, Any]:
        """The settings dataclass and `run`."""
        module = import_module(f"whisperstill.stages.{self.name}")
        return getattr(module, self.settings_name), module.run


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "label",
            "LabelSettings",
            "let the teacher hear every window once and keep what it says",
            "--teacher NAME_OR_DIR --manifest FILE... --output DIR",
        ),
        Verb(
            "filter",
            "FilterSettings",
            "decide which labels may teach, with reasons",
            "--labels DIR --max-wer 10 --output DIR",
        ),
        Verb(
            "init",
            "InitSettings",
            "make a student from the teacher's own layers",
            "--teacher NAME_OR_DIR --decoder-layers 2 --output DIR",
            needs_allocator=False,
        ),
        Verb(
            "train",
            "TrainSettings",
            "teach the student what the teacher said",
            "--student DIR --labels DIR --output DIR",
        ),
        Verb(
            "compress",
            "CompressSettings",
            "give a student an encoder with fewer layers, taught by the teacher's stored states",
            "--student DIR --labels DIR --encoder-layers 4 --output DIR",
        ),
        Verb(
            "evaluate",
            "EvaluateSettings",
            "word error rate, size and speed of one or more models; with a suite all the evidence there is",
            "--model NAME_OR_DIR... --manifest FILE... --output DIR | --suite FILE",
        ),
        Verb(
            "report",
            "ReportSettings",
            "the results of a suite as a page, as Markdown, as a model card",
            "results.json [--output DIR] [--card NAME]",
            "results",
            needs_allocator=False,
        ),
        Verb(
            "compare",
            "CompareSettings",
            "two evaluations: what got better or worse, and whether that is chance; exit status 1 when worse",
            "BEFORE.json AFTER.json",
            "results",
            needs_allocator=False,
        ),
        Verb(
            "transcribe",
            "TranscribeSettings",
            "audio files to txt, srt, vtt, tsv, json",
            "AUDIO... --model NAME_OR_DIR --output_dir DIR --output_format {txt,srt,vtt,tsv,json,all}",
            positional="audio",
            underscore_flags=True,
        ),
        Verb(
            "export",
            "ExportSettings",
            "a model for faster-whisper, whisper.cpp, transformers; a student without what its teacher has",
            "--model NAME_OR_DIR --format {ctranslate2,whisper.cpp,huggingface,delta} --output DIR",
            needs_allocator=False,
        ),
        Verb("run", "RunSettings", "all stages of a recipe; again: only what is missing", "RECIPE.toml", "recipe"),
        Verb(
            "sweep",
            "SweepSettings",
            "a recipe in many variations over one label store, side by side",
            "RECIPE.toml --grid 'train.learning_rate=[1e-4, 5e-4]' --seeds 0 1 2",
            "recipe",
        ),
        Verb(
            "ablate",
            "AblateSettings",
            "one setting of a recipe varied at a time, over one label store, each student evaluated",
            "RECIPE.toml --max-wer 100 20 5 --subset-hours 1 4 --decoder-layers 2 4 --objective ce ce+kl",
            "recipe",
        ),
        Verb(
            "plan",
            "PlanSettings",
            "what distilling would cost: hours, disk, and what to expect of the student",
            "--teacher large-v3 --hours 100 --decoder-layers 2",
            needs_allocator=False,
        ),
        Verb(
            "doctor",
            "DoctorSettings",
            "what this machine can do, and how long a recipe would take",
            "[RECIPE.toml]",
            "recipe",
            needs_allocator=False,
        ),
    )
}


def help_text() -> str:
    """The text of `whisperstill --help`."""
    lines = [
        "usage: whisperstill VERB [OPTIONS]",
        "",
        "Distil Whisper: a teacher, a pile of audio, and at the end a small fast student with its figures.",
        "",
    ]
    for verb in VERBS.values():
        lines += [f"  {verb.name:<11}{verb.summary}", f"  {'':<11}  whisperstill {verb.name} {verb.usage}"]
    lines += [
        "",
        "`whisperstill VERB --help` lists the options of a verb; `whisperstill --version` says which version this is.",
        "A model is a directory or a name such as tiny.en or base. Exit codes: 0 done, 1 with --strict when something",
        "was skipped and for `compare` when something got worse or failed, 2 when you can fix it (one line on",
        "standard error says how).",
    ]
    return "\n".join(lines)
