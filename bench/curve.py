"""How many hours of speech does a student need, and how many does our recipe save?

Hypothesis: the options for little data (frozen embedding, hidden-state loss, several packing variants, dropout,
augmentation) equal several times the hours of the plain recipe: the paper's losses, the whole decoder trained, one
packing variant.
Method: nested subsets of windows (`filter --subset-hours`), the same for both recipes. Both train for the same number
of steps with four validations; the result is the lowest validation WER. Augmentation starts half-way.
Limit: the teacher's own WER on the same utterances.

    whisperstill run recipes/mini-librispeech.toml --only label
    python bench/curve.py --labels runs/mini-librispeech/labels \\
        --validation ../shared/speech/librispeech-mini-val/manifest.jsonl

Each point is an ordinary `train` run; after an interruption the same command resumes.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import argument_parser, set_threads, write_result

import whisperstill as ws
from whisperstill import FilterSettings, InitSettings, NullConsole, TrainSettings
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.distill.validation import shared_encoder_cache
from whisperstill.label.filter_decisions import read_decisions
from whisperstill.records.augment_settings import AugmentSettings

HOURS = (0.25, 0.5, 1.0, 2.0, 4.0)


def count_kept_windows(filtered: Path) -> int:
    """Windows with at least one kept utterance, over all packing variants."""
    _, decisions = read_decisions(filtered)
    return len({window for (window, _, _), decision in decisions.items() if decision.keep})


def main() -> None:
    parser = argument_parser(__doc__, "curve.json")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--labels", type=Path, required=True, help="output of `label`")
    parser.add_argument("--max-wer", type=float, default=20.0)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--hours", nargs="+", type=float, default=HOURS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("build/curve"))
    options = parser.parse_args()
    set_threads(options.threads)

    student = options.work / "init"
    ws.init(InitSettings(teacher=options.teacher, decoder_layers=2, language="en", output=student), NullConsole())
    plain = TrainSettings(
        student=student,
        labels=Path(),
        output=Path(),
        validation=(options.validation,),
        teacher_targets="hidden",
        packing_variants=1,
        num_train_epochs=10_000,
        max_steps=options.steps,
        eval_steps=max(1, options.steps // 4),
    )
    recipe = replace(
        plain,
        packing_variants=None,
        learning_rate=5e-4,
        freeze_embed_tokens=True,
        hidden_loss_weight=0.05,
        dropout=0.1,
        augment=AugmentSettings(epochs_per_version=1, prob=0.7),
    )
    rows: list[dict[str, Any]] = []
    for hours in options.hours:
        labels = options.work / f"labels-{hours:g}"
        subset = FilterSettings(labels=options.labels, output=labels, max_wer=options.max_wer, subset_hours=hours)
        row: dict[str, Any] = {"hours": hours, "kept": ws.filter(subset, NullConsole()).kept, "validation_wer": {}}
        for name, settings in (("plain", plain), ("ours", recipe)):
            output = options.work / f"{options.steps}-{name}-{hours:g}"
            if settings.augment.epochs_per_version:
                epochs = options.steps * settings.batch_size / count_kept_windows(labels)
                augment = replace(settings.augment, epochs_per_version=max(1, round(epochs / 2)))
                settings = replace(settings, augment=augment)
            report = ws.train(replace(settings, labels=labels, output=output), NullConsole())
            if not report.finished or report.best_wer is None:
                raise SystemExit("interrupted; the same command resumes")
            row["validation_wer"][name] = round(report.best_wer, 2)
            row[f"{name}_windows"] = report.windows
        rows.append(row)
        print(json.dumps(row), flush=True)
        result = {"teacher": options.teacher, "steps": options.steps, "rows": rows}
        write_result(options.output, "how many hours are needed", result)


if __name__ == "__main__":
    restart_with_allocator()
    with shared_encoder_cache():
        main()
