"""What makes a 2-layer student learn more from four hours?

Hypothesis: a plain student spends its data on the token embedding (three quarters of its trained weights) and on
what the words are; told what the teacher's last layer says, it needs less of both.
Method: one label store, one number of steps, one change at a time; the word error rate on held-out speakers after a
schedule that ends at 0, so that every row is a finished run, if a short one. Two runs of a seed see the same windows
in the same order (but where windows or batches are what is changed), so differences are taken seed by seed.
Limit: the teacher's own word error rate on the same utterances.

    whisperstill run recipes/mini-librispeech.toml --only label
    python bench/ingredients.py --labels runs/mini-librispeech/labels --seeds 0 1 2 \\
        --validation ../shared/speech/librispeech-mini-val/manifest.jsonl

Views begin where windows are seen again: their rows, and the row that they are changes of, learn from one hour. Each
row is an ordinary run of `train`: stopped, the bench goes on where it was; of a finished one only the figure is kept.
"""

import argparse
import json
import shutil
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scipy.stats import t

from whisperstill import FilterSettings, InitSettings, NullConsole, TrainSettings, run
from whisperstill.atomic_io import atomic_write
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.distill.validation import shared_encoder_cache
from whisperstill.label.store import open_labels
from whisperstill.records.augment_settings import AugmentSettings


@dataclass(frozen=True)
class Row:
    """One run: a change to another row."""

    name: str
    against: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    hours: float | None = None


PLAIN = "plain: the paper's losses, all of the decoder trained"
FROZEN = "token embedding frozen"
LITTLE = "+ last hidden states, weight 0.05"
HIDDEN = "+ last hidden states, weight 1"
HOUR = "one hour: embedding frozen, + last hidden states, weight 0.05, one packing"
ROWS = (
    Row(PLAIN),
    Row(FROZEN, PLAIN, {"freeze_embed_tokens": True}),
    Row(LITTLE, FROZEN, {"hidden_loss_weight": 0.05}),
    Row("+ last hidden states, weight 0.2", FROZEN, {"hidden_loss_weight": 0.2}),
    Row(HIDDEN, FROZEN, {"hidden_loss_weight": 1.0}),
    Row("last hidden states alone", HIDDEN, {"kl_weight": 0.0, "ce_weight": 0.0}),
    Row("learning rate 2e-4", FROZEN, {"learning_rate": 2e-4}),
    Row("learning rate 1e-3", FROZEN, {"learning_rate": 1e-3}),
    Row("dropout 0.1", FROZEN, {"dropout": 0.1}),
    Row("one token in ten read wrongly", LITTLE, {"decoder_input_noise": 0.1}),
    Row("one token in four read wrongly", LITTLE, {"decoder_input_noise": 0.25}),
    Row("a tenth of the states hidden", LITTLE, {"encoder_mask_prob": 0.1}),
    Row("three tenths of the states hidden", LITTLE, {"encoder_mask_prob": 0.3}),
    Row("average over the last weights, decay 0.98", LITTLE, {"ema_decay": 0.98}),
    Row(HOUR, None, {"freeze_embed_tokens": True, "hidden_loss_weight": 0.05, "packing_variants": 1}, hours=1.0),
    Row("one hour: three packings", HOUR, {"packing_variants": None}, hours=1.0),
    Row("one hour: views, each for 2 epochs", HOUR, {"augment": AugmentSettings(epochs_per_version=2)}, hours=1.0),
    Row("one hour: views, a new one every epoch", HOUR, {"augment": AugmentSettings(epochs_per_version=1)}, hours=1.0),
    Row("+ what layers hand on, weight 1", LITTLE, {"teacher_targets": "online", "layer_loss_weight": 1.0}),
    Row("+ where layers look, weight 1", LITTLE, {"teacher_targets": "online", "attention_loss_weight": 1.0}),
    Row("the last third along the student's own words", LITTLE, {"on_policy_fraction": 0.33}),
    Row("reverse KL", LITTLE, {"divergence": "reverse-kl"}),
    Row("Jensen-Shannon divergence", LITTLE, {"divergence": "jsd"}),
    Row("total variation", LITTLE, {"divergence": "tv"}),
    Row("skewed KL", LITTLE, {"divergence": "skewed-kl"}),
    Row("temperature 1", LITTLE, {"temperature": 1.0}),
    Row("KL alone", LITTLE, {"ce_weight": 0.0}),
    Row("pseudo-labels alone", LITTLE, {"kl_weight": 0.0}),
    Row("batches of 4", LITTLE, {"batch_size": 4}),
    Row("layers 0, 4", FROZEN, layers=(0, 4)),
    Row("layers 1, 5", FROZEN, layers=(1, 5)),
    Row("layers 4, 5", FROZEN, layers=(4, 5)),
)


def changes_of(row: Row) -> dict[str, Any]:
    """All changes from the plain run, those of the rows it builds on included."""
    before = {} if row.against is None else changes_of(next(other for other in ROWS if other.name == row.against))
    return before | row.changes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--labels", type=Path, required=True, help="what `label` left")
    parser.add_argument("--max-wer", type=float, default=20.0)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the rows to run")
    parser.add_argument("--work", type=Path, default=Path("build/ingredients"))
    parser.add_argument("--output", type=Path, default=Path("bench/results/ingredients.json"))
    options = parser.parse_args()

    plain = TrainSettings(
        student=Path(),
        labels=Path(),
        output=Path(),
        validation=(options.validation,),
        teacher_targets="hidden",
        num_train_epochs=100,
        learning_rate=5e-4,
        max_steps=options.steps,
        eval_steps=options.steps,
        warmup_steps=min(50, options.steps // 4),
    )
    asked = {"teacher": options.teacher, "steps": options.steps, "batch_size": plain.batch_size}
    asked |= {"max_wer": options.max_wer, "labels_sha256": open_labels(options.labels).sha256}
    known = json.loads(options.output.read_text()) if options.output.exists() else {}
    found = {row["name"]: row for row in known["rows"]} if asked.items() <= known.items() else {}
    for row in ROWS:
        if options.only and not any(part in row.name for part in options.only):
            continue
        changes = changes_of(row)
        student = options.work / ("init-" + "-".join(map(str, row.layers or ("spaced",))))
        initial = InitSettings(teacher=options.teacher, decoder_layers=2, language="en", output=student)
        run(replace(initial, layers=row.layers), NullConsole())
        labels = options.work / f"filtered-{row.hours or 'all'}"
        drawn = FilterSettings(labels=options.labels, output=labels, max_wer=options.max_wer, subset_hours=row.hours)
        run(drawn, NullConsole())
        slug = "".join(letter if letter.isalnum() else "-" for letter in row.name)
        known_rates = found.get(row.name, {}).get("validation_wer", {})
        for seed in options.seeds:
            if str(seed) in known_rates:
                continue
            output = options.work / f"{options.steps}-{slug}-{seed}"
            one = replace(plain, student=student, labels=labels, output=output, seed=seed)
            report = run(replace(one, **changes), NullConsole())
            if not report.finished:
                raise SystemExit("stopped; the same command goes on")
            found[row.name] = {
                "name": row.name,
                "against": row.against,
                "validation_wer": known_rates | {str(seed): round(report.best_wer, 2)},
                "weights_trained": report.parameters_trained,
                "epochs": round(options.steps * plain.batch_size / report.windows, 1),
            }
            shutil.rmtree(output)
            known_rates = found[row.name]["validation_wer"]
            print(json.dumps(found[row.name]), flush=True)
            rows = [found[other.name] for other in ROWS if other.name in found]
            result = {"question": "what helps a small student", **asked, "rows": rows}
            atomic_write(options.output, json.dumps(result, indent=1) + "\n")
    print("| run | one change to | validation WER % | difference | weights trained, M |")
    print("| --- | --- | ---: | ---: | ---: |")
    for one in found.values():
        rates = list(one["validation_wer"].values())
        shown = f"{statistics.mean(rates):.1f}" + (f" ({min(rates):.1f} to {max(rates):.1f})" if rates[1:] else "")
        change = difference(one, found.get(one["against"]))
        print(f"| {one['name']} | {one['against'] or '-'} | {shown} | {change} | {one['weights_trained'] / 1e6:.1f} |")


def difference(one: dict[str, Any], other: dict[str, Any] | None) -> str:
    """Mean difference of the seeds that both have, seed by seed, with its 95 % interval (Student's t)."""
    seeds = [seed for seed in one["validation_wer"] if other and seed in other["validation_wer"]]
    if other is None or not seeds:
        return ""
    differences = [one["validation_wer"][seed] - other["validation_wer"][seed] for seed in seeds]
    mean = statistics.mean(differences)
    if len(seeds) == 1:
        return f"{mean:+.1f}"
    wide = float(t.ppf(0.975, len(seeds) - 1)) * statistics.stdev(differences) / len(seeds) ** 0.5
    return f"{mean:+.1f} ({mean - wide:+.1f} to {mean + wide:+.1f})"


if __name__ == "__main__":
    restart_with_allocator()
    with shared_encoder_cache():
        main()
