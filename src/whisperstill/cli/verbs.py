"""The verbs (commands) of the command line: summaries, positional arguments, aliases.

To add a command, write `stages/<verb>.py` and add an entry to `VERBS` (there is no `add_parser`: tyro builds the parser
from the settings dataclass). Only the module of the chosen verb is imported, so that every `--help` is fast.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb; `stages.load_verb` imports its settings and its `run`."""

    name: str
    summary: str
    usage: str
    positional: str = ""
    """Field without a flag."""
    aliases: tuple[tuple[str, str], ...] = ()
    """(field, another name of its flag)."""
    needs_allocator: bool = True
    """Whether it computes enough for the allocator to matter (see `cli.allocator`)."""
    bool_values: bool = False
    """Whether `--flag True` is accepted for `--flag`, as by openai/whisper's command line."""


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "label",
            "pseudo-label speech: the teacher's transcript, token distribution and encoder states",
            "--teacher NAME_OR_DIR --manifest FILE... --output DIR",
        ),
        Verb(
            "filter",
            "drop pseudo-labels by word error rate and other rules, utterance by utterance",
            "--labels DIR --max-wer 10 --output DIR",
            aliases=(("max_wer", "wer-threshold"),),
        ),
        Verb(
            "init",
            "make a student from layers of the teacher",
            "--teacher NAME_OR_DIR --decoder-layers 2 --output DIR",
            needs_allocator=False,
        ),
        Verb(
            "train",
            "train the student on pseudo-labels: cross-entropy and KL loss",
            "--student DIR --labels DIR --output DIR",
        ),
        Verb(
            "compress",
            "train a shallower encoder on the teacher's stored encoder states",
            "--student DIR --labels DIR --encoder-layers 4 --output DIR",
        ),
        Verb(
            "evaluate",
            "word error rate, speed and size of models; with a suite every measurement it names",
            "--model NAME_OR_DIR... --manifest FILE... --output DIR | --suite FILE",
        ),
        Verb(
            "report",
            "render evaluation results as a page, Markdown and a model card",
            "results.json [--output DIR] [--card NAME]",
            positional="results",
            needs_allocator=False,
        ),
        Verb(
            "compare",
            "test whether two evaluations differ; exit code 1 if something got worse",
            "BEFORE.json AFTER.json",
            positional="results",
            needs_allocator=False,
        ),
        Verb(
            "transcribe",
            "transcribe audio files to txt, srt, vtt, tsv, json",
            "AUDIO... --model NAME_OR_DIR --output_dir DIR --output_format {txt,srt,vtt,tsv,json,all}",
            positional="audio",
            bool_values=True,
        ),
        Verb(
            "export",
            "write a model for faster-whisper, whisper.cpp or transformers, or a student as a delta",
            "--model NAME_OR_DIR --format {ctranslate2,whisper.cpp,huggingface,delta} --output DIR",
            needs_allocator=False,
        ),
        Verb("run", "run the missing stages of a recipe", "RECIPE.toml", positional="recipe"),
        Verb(
            "sweep",
            "train a recipe in many variants over one label store and compare them",
            "RECIPE.toml --grid 'train.learning_rate=[1e-4, 5e-4]' --seeds 0 1 2",
            positional="recipe",
        ),
        Verb(
            "ablate",
            "vary one setting of a recipe at a time and evaluate each student",
            "RECIPE.toml --max-wer 100 20 5 --subset-hours 1 4 --decoder-layers 2 4 --objective ce ce+kl",
            positional="recipe",
        ),
        Verb(
            "plan",
            "estimate time, disk and accuracy of distilling a teacher",
            "--teacher large-v3 --hours 100 --decoder-layers 2",
            needs_allocator=False,
        ),
        Verb(
            "doctor",
            "describe this machine, and estimate how long a recipe takes on it",
            "[RECIPE.toml]",
            positional="recipe",
            needs_allocator=False,
        ),
    )
}


def help_text() -> str:
    """Text of `whisperstill --help`."""
    verbs = "\n".join(
        f"  {verb.name:<11}{verb.summary}\n  {'':<11}  whisperstill {verb.name} {verb.usage}" for verb in VERBS.values()
    )
    return f"""\
usage: whisperstill COMMAND [OPTIONS]

Distil Whisper: a Whisper teacher and your speech in, a small fast student and a report out.

{verbs}

`whisperstill COMMAND --help` lists the options of a command; `whisperstill --version` prints the version.
A model is a directory or a name such as tiny.en or base.
Exit codes: 0 done; 1 with --strict if inputs were skipped, and for `compare` if something got worse or
failed; 2 an error you can fix, explained in one line on standard error; 130 interrupted."""
