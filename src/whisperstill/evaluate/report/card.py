"""A model card: the README.md of a student's folder, with its figures in the schema that the hub reads.

Only what was found stands in it. A licence is written where the caller knows it: weights derive from the teacher's,
and the findings do not say under which terms those came.
"""

from collections.abc import Iterable
from dataclasses import replace

from whisperstill.errors import NotFoundError
from whisperstill.evaluate.report.accuracy import headline, short_form
from whisperstill.evaluate.report.background import provenance, training
from whisperstill.evaluate.report.cost import speed
from whisperstill.evaluate.report.hallucination import hallucination
from whisperstill.evaluate.report.long_form import long_form
from whisperstill.evaluate.report.markdown import escaped, table_markdown, verdict_markdown
from whisperstill.evaluate.report.robustness import channels, noise
from whisperstill.evaluate.report.verdict import verdict
from whisperstill.evaluate.report.view import View
from whisperstill.model.checkpoints.resolve import SHORT_NAMES
from whisperstill.records.findings import Cell, Findings, ModelMeasured

TASK = "automatic-speech-recognition"
TAGS = (TASK, "whisper", "distil-whisper-like", "whisperstill")
PAPER = "[Distil-Whisper](https://arxiv.org/abs/2311.00430) (Gandhi, von Platen, Rush; 2023)"


def render_card(findings: Findings, model: str, *, licence: str = "") -> str:
    """README.md of the model called so: front matter, then what it costs and gives beside its teacher.

    `licence` is an identifier of the hub (`mit`, `apache-2.0`); none is written where it is empty. Raises
    `NotFoundError` where no such model was measured.
    """
    found = next((each for each in findings.models if each.name == model), None)
    if found is None:
        known = ", ".join(each.name for each in findings.models) or "none"
        raise NotFoundError(f"expected a model that was measured, got {model!r}; measured: {known}")
    view = View(_alone(findings, found))
    return f"---\n{_front_matter(view, found, licence)}---\n\n" + "\n\n".join(_body(view, found)) + "\n"


def _alone(findings: Findings, model: ModelMeasured) -> Findings:
    """The findings without contenders other than the model and its teacher."""
    teacher = findings.teacher
    kept = {model.name, *([teacher.name] if teacher else [])}
    return replace(
        findings,
        models=tuple(each for each in findings.models if each.name in kept),
        cells=tuple(each for each in findings.cells if each.model in kept),
        speeds=tuple(each for each in findings.speeds if each.model in kept),
        speculations=tuple(each for each in findings.speculations if each.draft == model.name),
        trainings=tuple(each for each in findings.trainings if each.model == model.name),
    )


def _front_matter(view: View, model: ModelMeasured, licence: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    languages = sorted({language for one in view.sets for language in [one.language] if language})
    results = [
        EvalResult(
            task_type=TASK,
            task_name="Automatic Speech Recognition",
            dataset_type=cell.set,
            dataset_name=cell.set,
            metric_type="cer" if unit == "character" else "wer",
            metric_name=name,
            metric_value=round(cell.wer, 2),
        )
        for name, unit, cell in _results(view, model)
    ]
    metrics = list(dict.fromkeys(result.metric_type for result in results))
    card = ModelCardData(
        language=(languages[0] if len(languages) == 1 else languages) if languages else None,
        license=licence or None,
        library_name="transformers",
        pipeline_tag=TASK,
        tags=list(TAGS),
        base_model=_on_the_hub(view.teacher) if view.teacher and view.teacher is not model else None,
        metrics=metrics or None,
        model_name=_plain_name(view, model),
        eval_results=results or None,
    )
    return f"{card.to_yaml()}\n"


def _results(view: View, model: ModelMeasured) -> Iterable[tuple[str, str, Cell]]:
    """(name of the metric, unit, cell) of the short form, and of the long form by the best strategy."""
    units = {one.name: one.unit for one in view.sets}
    for cell in view.short_cells(model.name):
        what = "character" if units[cell.set] == "character" else "word"
        yield f"Test {'CER' if what == 'character' else 'WER'}", what, cell
    best = view.best_strategy(model.name)
    for cell in best[1] if best else []:
        what = "character" if units[cell.set] == "character" else "word"
        yield f"Test {'CER' if what == 'character' else 'WER'}, long form, {cell.decoding}", what, cell


def _on_the_hub(teacher: ModelMeasured) -> str | None:
    """The teacher's identifier on the hub; None for a folder of one's own."""
    for name in (teacher.source, teacher.name):
        if name in SHORT_NAMES:
            return SHORT_NAMES[name]
    parts = teacher.source.split("/")
    return teacher.source if len(parts) == 2 and all(parts) and not parts[0].startswith(".") else None


def _plain_name(view: View, model: ModelMeasured) -> str:
    return view.label(model.name).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or "student"


def _body(view: View, model: ModelMeasured) -> list[str]:
    name = _plain_name(view, model)
    teacher = view.label(view.teacher.name) if view.teacher and view.teacher is not model else ""
    of = f" A student of {escaped(teacher)}, distilled as {PAPER} describes." if teacher else ""
    layers = ""
    if model.decoder_layers:
        layers = f" It has {model.encoder_layers} encoder and {model.decoder_layers} decoder layers."
    parts = [f"# {escaped(name)}", f"A Whisper speech recogniser.{of}{layers}", "## What it costs and gives"]
    first = verdict(view)
    if first:
        parts.append(verdict_markdown(first))
    parts += ["## Use", _use(name), *_tables(view), "## Limits", _limits(view, teacher)]
    if view.findings.provenance:
        parts += ["## How it was measured", _provenance(view)]
    return parts


def _use(name: str) -> str:
    return f"""With transformers:

```python
from transformers import pipeline

recogniser = pipeline("automatic-speech-recognition", model="path/to/{name}")
print(recogniser("speech.flac")["text"])
```

With whisperstill, which also writes srt and vtt:

```sh
whisperstill transcribe speech.flac --model path/to/{name} --output_format srt
```"""


def _tables(view: View) -> list[str]:
    """The figures, part by part, without those that only compare ways of measuring."""
    parts = []
    found = (headline, short_form, long_form, hallucination, noise, channels, speed, training)
    for section in filter(None, (make(view) for make in found)):
        tables = [table for table in section.tables if not table.id.endswith("details")]
        if tables:
            parts.append(f"## {section.title}")
            parts += [table_markdown(table, heading=len(tables) > 1) for table in tables]
    return parts


def _limits(view: View, teacher: str) -> str:
    near = [one.name for one in view.short_sets if one.in_distribution]
    languages = sorted({one.language for one in view.sets if one.language})
    lines = ["* Like every Whisper it can write words that nobody said; the table on hallucination says how often."]
    if languages:
        lines.append(f"* Measured for these languages alone: {', '.join(languages)}.")
    if near:
        lines.append(f"* Trained on speech like {escaped(', '.join(near))}; expect more errors elsewhere.")
    if teacher:
        lines.append(f"* What {escaped(teacher)} mishears, it learned to mishear.")
    return "\n".join(lines)


def _provenance(view: View) -> str:
    section = provenance(view)
    tables = section.tables if section else ()
    return "\n\n".join(table_markdown(table) for table in tables if table.id != "provenance-models")
