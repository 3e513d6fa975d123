"""Which training options lower the WER of a 2-layer student trained on four hours of speech?

Hypothesis: plain training needs most of its data for the token embedding (three quarters of the trained weights) and
for the vocabulary; with a frozen embedding and a loss on the teacher's last hidden states, less data suffices.
Method: one label store, one number of steps, one change at a time; WER on held-out speakers after a learning-rate
schedule that ends at 0, so that every row is a finished, if short, training. Two runs with the same seed use the same
windows in the same order (unless windows or batches are the change), so differences are paired by seed.
Limit: the teacher's own WER on the same utterances.

    whisperstill run recipes/mini-librispeech.toml --only label
    python bench/ingredients.py --labels runs/mini-librispeech/labels --seeds 0 1 2 \\
        --validation ../shared/speech/librispeech-mini-val/manifest.jsonl

Augmentation needs several epochs, so its rows and the row that they change train on one hour. Each row is a `train`
run; after an interruption the same command resumes. Only the WER of a finished run is stored.
"""

import argparse
import json
import shutil
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import argument_parser, set_threads, write_result
from scipy.stats import t  # type: ignore[import-untyped]

import whisperstill as ws
from whisperstill import FilterSettings, InitSettings, NullConsole, TrainSettings
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.distill.validation import shared_encoder_cache
from whisperstill.label.store import open_labels
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.text.markdown import markdown_table


@dataclass(frozen=True)
class Row:
    """One training run: changes to another row."""

    name: str
    against: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    hours: float | None = None


PLAIN = "plain: the paper's losses, all of the decoder trained"
FROZEN = "token embedding frozen"
SMALL_HIDDEN_LOSS = "+ last hidden states, weight 0.05"
FULL_HIDDEN_LOSS = "+ last hidden states, weight 1"
ONE_HOUR = "one hour: embedding frozen, + last hidden states, weight 0.05, one packing"
ROWS = (
    Row(PLAIN),
    Row(FROZEN, PLAIN, {"freeze_embed_tokens": True}),
    Row(SMALL_HIDDEN_LOSS, FROZEN, {"hidden_loss_weight": 0.05}),
    Row("+ last hidden states, weight 0.2", FROZEN, {"hidden_loss_weight": 0.2}),
    Row(FULL_HIDDEN_LOSS, FROZEN, {"hidden_loss_weight": 1.0}),
    Row("last hidden states alone", FULL_HIDDEN_LOSS, {"kl_weight": 0.0, "ce_weight": 0.0}),
    Row("learning rate 2e-4", FROZEN, {"learning_rate": 2e-4}),
    Row("learning rate 1e-3", FROZEN, {"learning_rate": 1e-3}),
    Row("dropout 0.1", FROZEN, {"dropout": 0.1}),
    Row("decoder input noise 0.1", SMALL_HIDDEN_LOSS, {"decoder_input_noise": 0.1}),
    Row("decoder input noise 0.25", SMALL_HIDDEN_LOSS, {"decoder_input_noise": 0.25}),
    Row("encoder mask 0.1", SMALL_HIDDEN_LOSS, {"encoder_mask_prob": 0.1}),
    Row("encoder mask 0.3", SMALL_HIDDEN_LOSS, {"encoder_mask_prob": 0.3}),
    Row("EMA, decay 0.98", SMALL_HIDDEN_LOSS, {"ema_decay": 0.98}),
    Row(ONE_HOUR, None, {"freeze_embed_tokens": True, "hidden_loss_weight": 0.05, "packing_variants": 1}, hours=1.0),
    Row("one hour: three packings", ONE_HOUR, {"packing_variants": None}, hours=1.0),
    Row(
        "one hour: augmentation, 2 epochs per version",
        ONE_HOUR,
        {"augment": AugmentSettings(epochs_per_version=2)},
        hours=1.0,
    ),
    Row(
        "one hour: augmentation, 1 epoch per version",
        ONE_HOUR,
        {"augment": AugmentSettings(epochs_per_version=1)},
        hours=1.0,
    ),
    Row("+ layer outputs, weight 1", SMALL_HIDDEN_LOSS, {"teacher_targets": "online", "layer_loss_weight": 1.0}),
    Row("+ cross-attention, weight 1", SMALL_HIDDEN_LOSS, {"teacher_targets": "online", "attention_loss_weight": 1.0}),
    Row("on-policy for the last third", SMALL_HIDDEN_LOSS, {"on_policy_fraction": 0.33}),
    Row("reverse KL", SMALL_HIDDEN_LOSS, {"divergence": "reverse-kl"}),
    Row("Jensen-Shannon divergence", SMALL_HIDDEN_LOSS, {"divergence": "jsd"}),
    Row("total variation", SMALL_HIDDEN_LOSS, {"divergence": "tv"}),
    Row("skewed KL", SMALL_HIDDEN_LOSS, {"divergence": "skewed-kl"}),
    Row("temperature 1", SMALL_HIDDEN_LOSS, {"temperature": 1.0}),
    Row("KL alone", SMALL_HIDDEN_LOSS, {"ce_weight": 0.0}),
    Row("pseudo-labels alone", SMALL_HIDDEN_LOSS, {"kl_weight": 0.0}),
    Row("batches of 4", SMALL_HIDDEN_LOSS, {"batch_size": 4}),
    Row("layers 0, 4", FROZEN, layers=(0, 4)),
    Row("layers 1, 5", FROZEN, layers=(1, 5)),
    Row("layers 4, 5", FROZEN, layers=(4, 5)),
)


def all_changes(row: Row) -> dict[str, Any]:
    """All changes from the plain run, including those of the rows that it changes."""
    before = {} if row.against is None else all_changes(next(other for other in ROWS if other.name == row.against))
    return before | row.changes


def parse_options() -> argparse.Namespace:
    """Command line."""
    parser = argument_parser(__doc__, "ingredients.json")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--labels", type=Path, required=True, help="output of `label`")
    parser.add_argument("--max-wer", type=float, default=20.0)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the rows to run")
    parser.add_argument("--work", type=Path, default=Path("build/ingredients"))
    return parser.parse_args()


def row_settings(row: Row, plain: TrainSettings, options: argparse.Namespace) -> TrainSettings:
    """Training of a row, without output and seed; writes its initial student and its filtered labels."""
    student = options.work / ("init-" + "-".join(map(str, row.layers or ("spaced",))))
    initial = InitSettings(teacher=options.teacher, decoder_layers=2, language="en", output=student)
    ws.init(replace(initial, layers=row.layers), NullConsole())
    labels = options.work / f"filtered-{row.hours or 'all'}"
    filter_settings = FilterSettings(
        labels=options.labels, output=labels, max_wer=options.max_wer, subset_hours=row.hours
    )
    ws.filter(filter_settings, NullConsole())
    return replace(replace(plain, student=student, labels=labels), **all_changes(row))


def main() -> None:
    options = parse_options()
    set_threads(options.threads)
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
    setup = {"teacher": options.teacher, "steps": options.steps, "batch_size": plain.batch_size}
    setup |= {"max_wer": options.max_wer, "labels_sha256": open_labels(options.labels).sha256}
    earlier = json.loads(options.output.read_text()) if options.output.exists() else {}
    results = {row["name"]: row for row in earlier["rows"]} if setup.items() <= earlier.items() else {}
    for row in ROWS:
        if options.only and not any(part in row.name for part in options.only):
            continue
        settings = row_settings(row, plain, options)
        slug = "".join(letter if letter.isalnum() else "-" for letter in row.name)
        known_rates = results.get(row.name, {}).get("validation_wer", {})
        for seed in options.seeds:
            if str(seed) in known_rates:
                continue
            output = options.work / f"{options.steps}-{slug}-{seed}"
            report = ws.train(replace(settings, output=output, seed=seed), NullConsole())
            if not report.finished or report.best_wer is None:
                raise SystemExit("interrupted; the same command resumes")
            results[row.name] = {
                "name": row.name,
                "against": row.against,
                "validation_wer": known_rates | {str(seed): round(report.best_wer, 2)},
                "weights_trained": report.parameters_trained,
                "epochs": round(options.steps * plain.batch_size / report.windows, 1),
            }
            shutil.rmtree(output)
            known_rates = results[row.name]["validation_wer"]
            print(json.dumps(results[row.name]), flush=True)
            rows = [results[other.name] for other in ROWS if other.name in results]
            write_result(options.output, "which training options help a small student", {**setup, "rows": rows})
    print(render(results))


def render(results: dict[str, dict[str, Any]]) -> str:
    """The table of docs/results/mini-librispeech.md."""
    rows = []
    for result in results.values():
        rates = list(result["validation_wer"].values())
        spread = f" ({min(rates):.1f} to {max(rates):.1f})" if rates[1:] else ""
        baseline = result["against"] or "-"
        change = paired_difference(result, results.get(result["against"]))
        millions = f"{result['weights_trained'] / 1e6:.1f}"
        rows.append([result["name"], baseline, f"{statistics.mean(rates):.1f}{spread}", change, millions])
    columns = ("run", "change to", "validation WER %", "WER difference", "trained weights, M")
    return markdown_table(columns, rows, text_columns=(0, 1))


def paired_difference(result: dict[str, Any], baseline: dict[str, Any] | None) -> str:
    """Mean difference over the seeds that both have, with its 95 % interval (Student's t)."""
    seeds = [seed for seed in result["validation_wer"] if baseline and seed in baseline["validation_wer"]]
    if baseline is None or not seeds:
        return ""
    differences = [result["validation_wer"][seed] - baseline["validation_wer"][seed] for seed in seeds]
    mean = statistics.mean(differences)
    if len(seeds) == 1:
        return f"{mean:+.1f}"
    half_width = float(t.ppf(0.975, len(seeds) - 1)) * statistics.stdev(differences) / len(seeds) ** 0.5
    return f"{mean:+.1f} ({mean - half_width:+.1f} to {mean + half_width:+.1f})"


if __name__ == "__main__":
    restart_with_allocator()
    with shared_encoder_cache():
        main()
