"""How many hours are needed, and how many does the recipe save?

Hypothesis: what makes more of little data (embedding left alone, hidden states, several packings, dropout, views) is
worth a multiple of the hours to the plain recipe, the paper's losses with all of the decoder trained on one packing.
Method: windows are drawn (`filter --subset-hours`), the same ones for both and each amount within the next larger. Both
are trained for the same number of steps, validated four times on the way, and the best counts. Views begin half-way.
Limit: the teacher's own word error rate on the same utterances.

    whisperstill run recipes/mini-librispeech.toml --only label
    python bench/curve.py --labels runs/mini-librispeech/labels \\
        --validation ../shared/speech/librispeech-mini-val/manifest.jsonl

Each point is an ordinary run of `train`: stopped, the bench goes on where it was.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisperstill import FilterSettings, InitSettings, NullConsole, TrainSettings, run
from whisperstill.atomic_io import atomic_write
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.distill.validation import shared_encoder_cache
from whisperstill.label.filter_decisions import read_decisions
from whisperstill.records.augment_settings import AugmentSettings

HOURS = (0.25, 0.5, 1.0, 2.0, 4.0)


def windows_kept(filtered: Path) -> int:
    """Windows of which at least one utterance teaches, in all packings."""
    _, decisions = read_decisions(filtered)
    return len({window for (window, _, _), decision in decisions.items() if decision.keep})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--labels", type=Path, required=True, help="what `label` left")
    parser.add_argument("--max-wer", type=float, default=20.0)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--hours", nargs="+", type=float, default=HOURS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("build/curve"))
    parser.add_argument("--output", type=Path, default=Path("bench/results/curve.json"))
    given = parser.parse_args()

    student = given.work / "init"
    run(InitSettings(teacher=given.teacher, decoder_layers=2, language="en", output=student), NullConsole())
    plain = TrainSettings(
        student=student,
        labels=Path(),
        output=Path(),
        validation=(given.validation,),
        teacher_targets="hidden",
        packing_variants=1,
        num_train_epochs=10_000,
        max_steps=given.steps,
        eval_steps=max(1, given.steps // 4),
    )
    ours = replace(
        plain,
        packing_variants=None,
        learning_rate=5e-4,
        freeze_embed_tokens=True,
        hidden_loss_weight=0.05,
        dropout=0.1,
        augment=AugmentSettings(epochs_per_version=1, prob=0.7),
    )
    result: dict[str, Any] = {"question": "how many hours are needed", "teacher": given.teacher, "steps": given.steps}
    result["rows"] = []
    for hours in given.hours:
        labels = given.work / f"labels-{hours:g}"
        drawn = FilterSettings(labels=given.labels, output=labels, max_wer=given.max_wer, subset_hours=hours)
        row: dict[str, Any] = {"hours": hours, "kept": run(drawn, NullConsole()).kept, "validation_wer": {}}
        for name, settings in (("plain", plain), ("ours", ours)):
            output = given.work / f"{given.steps}-{name}-{hours:g}"
            if settings.augment.epochs_per_version:
                epochs = given.steps * settings.batch_size / windows_kept(labels)
                settings = replace(
                    settings, augment=replace(settings.augment, epochs_per_version=max(1, round(epochs / 2)))
                )
            report = run(replace(settings, labels=labels, output=output), NullConsole())
            if not report.finished:
                raise SystemExit("stopped; the same command goes on")
            row["validation_wer"][name] = round(report.best_wer, 2)
            row[f"{name}_windows"] = report.windows
        result["rows"].append(row)
        print(json.dumps(row), flush=True)
        atomic_write(given.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    restart_with_allocator()
    with shared_encoder_cache():
        main()
