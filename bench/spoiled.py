"""Can bad labels be found without a reference, and does a student trained without them match an oracle selection?

Hypothesis: the teacher's token statistics on a given text, and a smaller model's transcript, separate wrong labels
(WER above 40 %) from good ones; a student trained on the predicted good labels is as good as one trained on an oracle
selection.
Method: the teacher's own labels of read English, 30 % corrupted in equal parts: text of another clip, a repetition
loop, an inserted phrase, the second half cut off. The teacher scores them (`label --label-source reference`). The
predictor is calibrated on the true WER of a fifth of the utterances, by separate speakers; the area under the ROC curve
is over the others. Then students with the same steps and seeds are trained on all labels, on the predicted good ones,
and on the truly good ones (oracle). WER is on held-out speakers.
Limit: an area of 1, and the WER of the oracle selection.

    python bench/spoiled.py --labels runs/mini-librispeech/labels --manifest train.jsonl \\
        --second-opinion runs/tiny.en/labels --validation ../shared/speech/librispeech-mini-val/manifest.jsonl
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import argument_parser, set_threads, write_result

import whisperstill as ws
from whisperstill import InitSettings, LabelSettings, NullConsole, TrainSettings
from whisperstill.atomic_io import atomic_write
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.distill.validation import shared_encoder_cache
from whisperstill.evaluate.metrics import Scoring, score
from whisperstill.label.filter_decisions import DECISIONS_SCHEMA, write_decisions
from whisperstill.label.store import LabelStore, open_labels
from whisperstill.label.wer_prediction import build_features, predict_wer, read_second_opinions
from whisperstill.records.pseudo_label import LabelQuality

CORRUPTED_SHARE = 0.3
BAD_WER_PERCENT = 40.0
CALIBRATION_SHARE = 0.2
STATISTICS, WITH_SECOND_OPINION = "statistics", "statistics and second opinion"
Bools = npt.NDArray[np.bool_]
PHRASE = "thank you for watching and please subscribe to the channel"


def corrupt(texts: dict[str, str], seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """The texts, some of them corrupted, and the kind of each corruption."""
    rng = random.Random(seed)
    chosen = rng.sample(sorted(texts), round(CORRUPTED_SHARE * len(texts)))
    kinds = {name: ("swapped", "loop", "inserted", "truncated")[index % 4] for index, name in enumerate(chosen)}
    swapped = [name for name in chosen if kinds[name] == "swapped"]
    others = swapped[1:] + swapped[:1]
    corrupted = dict(texts)
    for name in chosen:
        words = texts[name].split()
        if kinds[name] == "swapped":
            corrupted[name] = texts[others[swapped.index(name)]]
        elif kinds[name] == "loop":
            corrupted[name] = " ".join(words[: len(words) // 2] + 6 * words[len(words) // 2 :][:3])
        elif kinds[name] == "inserted":
            position = rng.randrange(len(words) + 1)
            corrupted[name] = " ".join([*words[:position], *PHRASE.split(), *words[position:]])
        else:
            corrupted[name] = " ".join(words[: len(words) // 2])
    return corrupted, kinds


def roc_area(scores: Sequence[float], bad: Sequence[bool]) -> float:
    """Area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(bad, scores)), 4)


def select_calibration(speakers: Sequence[str], seed: int) -> Bools:
    """Mask of the calibration utterances: all of some speakers, a fifth or a little more."""
    order = np.random.default_rng(seed).permutation(sorted(set(speakers)))
    chosen: set[str] = set()
    for speaker in order:
        if sum(name in chosen for name in speakers) >= CALIBRATION_SHARE * len(speakers):
            break
        chosen.add(str(speaker))
    return np.array([speaker in chosen for speaker in speakers])


def train_student(
    name: str, keep_mask: Sequence[bool], seed: int, store: LabelStore, options: argparse.Namespace
) -> float:
    """WER of a student trained on the utterances of a mask."""
    rows = []
    keep_flags = iter(keep_mask)
    for label in store.read_labels():
        for quality in label.quality:
            keep = next(keep_flags)
            utterance = quality.utterance
            rule = "" if keep else name
            row = (label.window.id, utterance.id, utterance.corpus, keep, rule, 0.0, None, 0, 0.0, 1.0)
            rows.append(dict(zip(DECISIONS_SCHEMA.names, row, strict=True)))
    folder = options.work / name.replace(" ", "-")
    write_decisions(folder / "filtered", store.directory, rows, {"settings": {}})
    ws.init(InitSettings(teacher=options.teacher, output=options.work / "init"), NullConsole())
    settings = TrainSettings(
        student=options.work / "init",
        labels=folder / "filtered",
        output=folder / f"student-{seed}",
        seed=seed,
        validation=(options.validation,),
        max_steps=options.steps,
        num_train_epochs=1000,
        learning_rate=5e-4,
        warmup_steps=25,
        freeze_embed_tokens=True,
        teacher_targets="hidden",
        hidden_loss_weight=0.05,
        eval_steps=0,
    )
    report = ws.train(settings, NullConsole())
    if not report.finished or report.best_wer is None:
        raise SystemExit("interrupted; the same command resumes")
    print(name, seed, round(report.best_wer, 2), flush=True)
    return round(float(report.best_wer), 2)


def parse_options() -> argparse.Namespace:
    """Command line; `work` is the folder of the corruption seed."""
    parser = argument_parser(__doc__, "spoiled.json")
    parser.add_argument("--labels", type=Path, required=True, help="the teacher's labels of the manifest or a superset")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--second-opinion", type=Path, required=True, help="another model's labels of the manifest")
    parser.add_argument("--validation", required=True)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0, help="seed of the corruption and the calibration speakers")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of the students")
    parser.add_argument("--work", type=Path, default=Path("build/spoiled"))
    options = parser.parse_args()
    options.work = options.work / f"seed-{options.seed}"
    options.work.mkdir(parents=True, exist_ok=True)
    return options


@dataclass(frozen=True)
class CorruptedLabels:
    """Labels of corrupted texts, with the WER of each utterance's text against its reference."""

    store: LabelStore
    wers: list[float]
    kinds: dict[str, str]
    """Utterance id -> kind of corruption."""

    @cached_property
    def utterances(self) -> list[LabelQuality]:
        """Every utterance in the order of the store."""
        return [quality for label in self.store.read_labels() for quality in label.quality]

    @cached_property
    def speakers(self) -> list[str]:
        """Speaker of every utterance."""
        return [quality.utterance.speaker or quality.utterance.id for quality in self.utterances]

    @cached_property
    def is_bad(self) -> list[bool]:
        """Whether the WER of each text is above `BAD_WER_PERCENT`."""
        return [wer > BAD_WER_PERCENT for wer in self.wers]


def label_corrupted_texts(options: argparse.Namespace) -> CorruptedLabels:
    """Corrupt the teacher's texts, and label the corrupted texts as references."""
    teacher_texts = {
        quality.utterance.id: quality.text
        for label in open_labels(options.labels).read_labels()
        if label.window.packing_variant == 0
        for quality in label.quality
    }
    lines = [json.loads(line) for line in options.manifest.read_text().splitlines()]
    references = {line["id"]: line["text"] for line in lines}
    texts, kinds = corrupt({name: teacher_texts[name] for name in references if teacher_texts.get(name)}, options.seed)
    folder = options.manifest.resolve().parent
    manifest_lines = [
        {**line, "audio": str(folder / line["audio"]), "text": texts[line["id"]]}
        for line in lines
        if line["id"] in texts
    ]
    manifest = options.work / "spoiled.jsonl"
    atomic_write(manifest, "".join(json.dumps(line) + "\n" for line in manifest_lines))
    label_settings = LabelSettings(
        teacher=options.teacher,
        manifest=(str(manifest),),
        output=options.work / "labels",
        encoder_states="bfloat16",
        label_source="reference",
        language="en",
    )
    ws.label(label_settings, NullConsole())
    store = open_labels(options.work / "labels")
    names = [quality.utterance.id for label in store.read_labels() for quality in label.quality]
    wers = [score([references[name]], [texts[name]], Scoring("english")).wer for name in names]
    return CorruptedLabels(store, wers, kinds)


def predict_wers(
    labels: CorruptedLabels, calibrated: Bools, second_opinion: Path, seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Predicted WERs from the teacher's statistics, without and with another model's transcripts."""
    calibration_wers = [wer if is_known else None for wer, is_known in zip(labels.wers, calibrated, strict=True)]
    second_opinions = {name: text for (_, name), text in read_second_opinions(open_labels(second_opinion)).items()}
    utterances = [quality.utterance for quality in labels.utterances]
    hypotheses = {(utterance.corpus, utterance.id): second_opinions[utterance.id] for utterance in utterances}
    pseudo_labels = list(labels.store.read_labels())
    predicted = {}
    for features, other_texts in ((STATISTICS, None), (WITH_SECOND_OPINION, hypotheses)):
        rows = build_features(labels.store, pseudo_labels, other_texts)
        predicted[features] = predict_wer(rows, calibration_wers, labels.speakers, seed).wer
    return predicted


def main() -> None:
    options = parse_options()
    set_threads(options.threads)
    labels = label_corrupted_texts(options)
    calibrated = select_calibration(labels.speakers, options.seed)
    predicted = predict_wers(labels, calibrated, options.second_opinion, options.seed)
    scores = {features: wers.tolist() for features, wers in predicted.items()}
    scores["mean log-probability alone"] = [-quality.mean_logprob for quality in labels.utterances]
    tested = np.flatnonzero(~calibrated)
    is_bad = [labels.is_bad[index] for index in tested]
    kinds = sorted(labels.kinds.values())
    result: dict[str, Any] = {
        "utterances": len(labels.utterances),
        "corrupted": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "bad": sum(labels.is_bad),
        "calibrated_on": int(calibrated.sum()),
        "speakers_calibrated_on": len(set(np.array(labels.speakers)[calibrated].tolist())),
        "area": {name: roc_area([values[index] for index in tested], is_bad) for name, values in scores.items()},
        "students": {},
    }
    print(json.dumps(result), flush=True)
    choices = {
        "all": [True] * len(labels.utterances),
        "predicted": (predicted[WITH_SECOND_OPINION] <= BAD_WER_PERCENT / 2).tolist(),
        "predicted from statistics": (predicted[STATISTICS] <= BAD_WER_PERCENT / 2).tolist(),
        "oracle": [wer <= BAD_WER_PERCENT / 2 for wer in labels.wers],
    }
    with shared_encoder_cache():
        for name, keep_mask in choices.items():
            student: dict[str, Any] = {"kept": int(sum(keep_mask)), "wer": {}}
            result["students"][name] = student
            for seed in options.seeds:
                student["wer"][str(seed)] = train_student(name, keep_mask, seed, labels.store, options)
                write_result(options.output, "finding bad labels without a reference", result)


if __name__ == "__main__":
    restart_with_allocator()
    main()
