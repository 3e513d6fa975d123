"""Model card of a student: a README.md with the evaluation results in the metadata schema of the Hugging Face Hub.

The licence is written only if the caller names it: the weights derive from the teacher's, whose licence the
evaluation results do not hold.
"""

import re
from dataclasses import replace

from whisperstill.errors import NotFoundError
from whisperstill.evaluate.report.appendix import build_provenance_section
from whisperstill.evaluate.report.markdown import render_summary, render_table
from whisperstill.evaluate.report.sections import build_sections
from whisperstill.evaluate.report.summary import build_summary
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.model.checkpoints.loading import SHORT_NAMES
from whisperstill.records.eval_results import EvalResults, ModelInfo
from whisperstill.text.markdown import escape_markdown

HUB_TASK = "automatic-speech-recognition"
HUB_TAGS = (HUB_TASK, "whisper", "distil-whisper-like", "whisperstill")
CARD_SECTIONS = ("headline", "short-form", "long-form", "hallucination", "noise", "channels", "speed", "training")
USAGE = """With transformers:

```python
from transformers import pipeline

recognizer = pipeline("automatic-speech-recognition", model="path/to/{name}")
print(recognizer("speech.flac")["text"])
```

With whisperstill, which also writes subtitles (srt, vtt):

```sh
whisperstill transcribe speech.flac --model path/to/{name} --output_format srt
```"""
PAPER_LINK = "[Distil-Whisper](https://arxiv.org/abs/2311.00430) (Gandhi, von Platen, Rush; 2023)"


def render_card(eval_results: EvalResults, model: str, *, license_id: str = "") -> str:
    """README.md of a model: metadata, then its size, speed and accuracy against the teacher.

    `license_id` is an identifier of the Hub (`mit`, `apache-2.0`); empty: no licence is written. Raises
    `NotFoundError` if the model was not measured.
    """
    model_info = next((candidate for candidate in eval_results.models if candidate.name == model), None)
    if model_info is None:
        known_names = ", ".join(candidate.name for candidate in eval_results.models) or "none"
        raise NotFoundError(f"expected a measured model, got {model!r}; measured: {known_names}")
    view = ResultsView(_restrict_to_model(eval_results, model_info))
    body = "\n\n".join(_build_body(view, model_info))
    return f"---\n{_front_matter(view, model_info, license_id)}---\n\n{body}\n"


def _restrict_to_model(eval_results: EvalResults, model: ModelInfo) -> EvalResults:
    """The results of the model and its teacher only."""
    names = {model.name, *([eval_results.teacher.name] if eval_results.teacher else [])}
    return replace(
        eval_results,
        models=tuple(info for info in eval_results.models if info.name in names),
        results=tuple(result for result in eval_results.results if result.model in names),
        speeds=tuple(speed for speed in eval_results.speeds if speed.model in names),
        speculative=tuple(result for result in eval_results.speculative if result.draft == model.name),
        training_curves=tuple(curve for curve in eval_results.training_curves if curve.model == model.name),
    )


def _languages(view: ResultsView) -> list[str]:
    return sorted({dataset.language for dataset in view.datasets if dataset.language})


def _front_matter(view: ResultsView, model: ModelInfo, license_id: str) -> str:
    """Metadata: short-form results, and those of the best long-form strategy, with their metrics."""
    from huggingface_hub import EvalResult, ModelCardData

    units = {dataset.name: dataset.unit for dataset in view.datasets}
    hub_results = []
    for result in (*view.short_form_results(model.name), *view.best_strategy(model.name)[1]):
        metric = "cer" if units[result.dataset] == "character" else "wer"
        form = f", long form, {result.decoding}" if result.measurement == "long_form" else ""
        hub_results.append(
            EvalResult(
                task_type=HUB_TASK,
                task_name="Automatic Speech Recognition",
                dataset_type=result.dataset,
                dataset_name=result.dataset,
                metric_type=metric,
                metric_name=f"Test {metric.upper()}{form}",
                metric_value=round(result.wer, 2),
            )
        )
    languages, teacher = _languages(view), view.teacher_of(model)
    card = ModelCardData(
        language=languages[0] if len(languages) == 1 else languages or None,
        license=license_id or None,
        library_name="transformers",
        pipeline_tag=HUB_TASK,
        tags=list(HUB_TAGS),
        base_model=_hub_id(teacher) if teacher else None,
        metrics=list(dict.fromkeys(result.metric_type for result in hub_results)) or None,
        model_name=_base_name(view, model),
        eval_results=hub_results or None,
    )
    return f"{card.to_yaml()}\n"


def _hub_id(teacher: ModelInfo) -> str | None:
    """The teacher's repository on the Hub; None for a local directory."""
    repository = SHORT_NAMES.get(teacher.source) or SHORT_NAMES.get(teacher.name) or teacher.source
    return repository if re.fullmatch(r"[^./][^/]*/[^/]+", repository) else None


def _base_name(view: ResultsView, model: ModelInfo) -> str:
    return view.display_name(model.name).rpartition("/")[-1] or "student"


def _build_body(view: ResultsView, model: ModelInfo) -> list[str]:
    name, teacher = _base_name(view, model), view.teacher_of(model)
    teacher_name = escape_markdown(view.display_name(teacher.name)) if teacher else ""
    introduction = "A Whisper model for automatic speech recognition."
    if teacher_name:
        introduction += f" Distilled from {teacher_name} with the method of {PAPER_LINK}."
    if model.decoder_layers:
        introduction += f" It has {model.encoder_layers} encoder and {model.decoder_layers} decoder layers."
    parts = [f"# {escape_markdown(name)}", introduction, "## Summary"]
    if summary := build_summary(view):
        parts.append(render_summary(summary))
    parts += [
        "## Use",
        USAGE.format(name=name),
        *_render_tables(view),
        "## Limits",
        _describe_limits(view, teacher_name),
    ]
    if view.eval_results.provenance:
        tables = (table for table in build_provenance_section(view).tables if table.id != "provenance-models")
        parts += ["## Evaluation setup", "\n\n".join(map(render_table, tables))]
    return parts


def _render_tables(view: ResultsView) -> list[str]:
    """The main tables of all sections."""
    parts = []
    for section in build_sections(view):
        tables = [table for table in section.tables if not table.id.endswith("details")]
        if section.id in CARD_SECTIONS and tables:
            parts.append(f"## {section.title}")
            parts += [render_table(table, heading=len(tables) > 1) for table in tables]
    return parts


def _describe_limits(view: ResultsView, teacher_name: str) -> str:
    in_distribution = [dataset.name for dataset in view.short_form_datasets if dataset.in_distribution]
    lines = ["* Like every Whisper model it can hallucinate text; see the section on hallucination."]
    if languages := _languages(view):
        lines.append(f"* Evaluated only on: {', '.join(languages)}.")
    if in_distribution:
        names = escape_markdown(", ".join(in_distribution))
        lines.append(f"* Trained on speech like {names}; expect more errors on other data.")
    if teacher_name:
        lines.append(f"* Trained on transcripts of {teacher_name}, whose errors it may repeat.")
    return "\n".join(lines)
