"""How many hours are needed, and how many does the recipe save?

Hypothesis: what makes more of little data (embedding left alone, hidden states, several packings, dropout, views) is
worth a multiple of the hours to the plain recipe, the paper's losses with all of the decoder trained on one packing.
Method: utterances that the filter kept are drawn, the same ones for both and each amount within the next larger; the
others stay in their windows unscored. Both are trained for the same number of steps, validated four times on the way,
and the best counts.
Limit: the teacher's own word error rate on the same utterances.

    whisperstill run recipes/mini-librispeech.toml --only label filter
    python bench/curve.py --labels runs/mini-librispeech/filtered \\
        --validation ../shared/speech/librispeech-mini-val/manifest.jsonl

Each point is an ordinary run of `train`: stopped, the bench goes on where it was.
"""

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisperstill import InitSettings, Silent, TrainSettings, carry_out
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.files import write_whole
from whisperstill.label.store import open_labels
from whisperstill.label.verdicts import Row, read_verdicts, write_verdicts
from whisperstill.records.augmentation import Augmentation

HOURS = (0.25, 0.5, 1.0, 2.0, 4.0)


def chosen(labels: Path, hours: float, corpus: str) -> tuple[set[str], float]:
    """Utterances of a corpus up to so many hours, in an order drawn by a hash of their names; the hours found."""
    store_folder, verdicts = read_verdicts(labels)
    found: dict[str, float] = {}
    for labelled in open_labels(store_folder).labelled():
        for seen in labelled.evidence:
            one = seen.utterance
            kept = verdicts[labelled.window.id, one.corpus, one.id].kept
            if one.corpus == corpus and labelled.window.packing == 0 and kept:
                found[one.id] = one.audio.duration
    names, seconds = set[str](), 0.0
    for name in sorted(found, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if seconds + found[name] > hours * 3600:
            break
        names.add(name)
        seconds += found[name]
    return names, seconds / 3600


def restrict(labels: Path, names: set[str], output: Path) -> None:
    """Verdicts that keep only these."""
    folder, verdicts = read_verdicts(labels)
    rows = []
    for labelled in open_labels(folder).labelled():
        for seen in labelled.evidence:
            key = (labelled.window.id, seen.utterance.corpus, seen.utterance.id)
            verdict = verdicts[key]
            kept = verdict.kept and key[2] in names
            rule = "" if kept else verdict.rule or "not drawn"
            rows.append(Row(key[0], key[2], key[1], kept, rule, verdict.value, None, 0, 0.0, verdict.weight))
    write_verdicts(output, folder, rows, {"settings": {}})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--labels", type=Path, required=True, help="a filter's output")
    parser.add_argument("--corpus", default="librispeech-mini-train")
    parser.add_argument("--validation", required=True)
    parser.add_argument("--hours", nargs="+", type=float, default=HOURS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("build/curve"))
    parser.add_argument("--output", type=Path, default=Path("bench/results/curve.json"))
    given = parser.parse_args()

    student = given.work / "init"
    carry_out(InitSettings(teacher=given.teacher, decoder_layers=2, language="en", output=student), Silent())
    plain = TrainSettings(
        student=student,
        labels=Path(),
        output=Path(),
        validation=(given.validation,),
        targets="hidden",
        packings=1,
        epochs=10_000,
        max_steps=given.steps,
        eval_every=max(1, given.steps // 4),
    )
    ours = replace(
        plain,
        packings=None,
        learning_rate=5e-4,
        freeze_embedding=True,
        alpha_hidden=0.05,
        dropout=0.1,
        views=Augmentation(uses=4, share=0.7),
    )
    result: dict[str, Any] = {"question": "how many hours are needed", "teacher": given.teacher, "steps": given.steps}
    result["rows"] = []
    for hours in given.hours:
        names, there = chosen(given.labels, hours, given.corpus)
        labels = given.work / f"labels-{hours:g}"
        restrict(given.labels, names, labels)
        row: dict[str, Any] = {"hours": round(there, 2), "utterances": len(names), "validation_wer": {}}
        for name, settings in (("plain", plain), ("ours", ours)):
            output = given.work / f"{given.steps}-{name}-{hours:g}"
            report = carry_out(replace(settings, labels=labels, output=output), Silent())
            row["validation_wer"][name] = round(report.best_wer, 2)
            row[f"{name}_windows"] = report.windows
        result["rows"].append(row)
        print(json.dumps(row), flush=True)
        write_whole(given.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    restart_with_allocator()
    main()
