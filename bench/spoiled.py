"""Are bad labels found without a reference, and does a student lose by trusting that?

Hypothesis: what a teacher thinks of a text that it reads, and what a smaller model heard instead, tell labels that are
wrong (word error rate above 40 %) from good ones; a student taught by what is kept is as good as one taught by an
oracle's choice.
Method: the teacher's own labels of read English, three in ten spoiled on purpose, in equal parts: another clip's text,
a loop, a phrase put in, the second half cut off. The teacher reads them (`label --label-source reference`). A fifth of
the speakers are calibrated on with their true word error rates; the area under the curve is over all other speakers.
Then students of the same steps and seeds: of all labels, of those predicted to be good, of those that are (oracle). The
word error rate is of held-out speakers.
Limit: an area of 1, and the oracle.

    python bench/spoiled.py --labels runs/mini-librispeech/labels --manifest train.jsonl \\
        --second-opinion runs/tiny.en/labels --validation ../shared/speech/librispeech-mini-val/manifest.jsonl
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from whisperstill import InitSettings, LabelSettings, NullConsole, TrainSettings, run
from whisperstill.atomic_io import atomic_write
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.distill.validation import shared_encoder_cache
from whisperstill.evaluate.score import score
from whisperstill.label.filter_decisions import DecisionRow, write_decisions
from whisperstill.label.store import LabelStore, open_labels
from whisperstill.label.wer_prediction import build_features, predict_wer, read_second_opinions

SPOILED = 0.3
BAD = 40.0
"""Per cent."""
CALIBRATED = 0.2
Bools = npt.NDArray[np.bool_]
PHRASE = "thank you for watching and please subscribe to the channel"


def spoil(texts: dict[str, str], seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """The texts with some spoiled, and how each of those was."""
    random_ = random.Random(seed)
    chosen = random_.sample(sorted(texts), round(SPOILED * len(texts)))
    how = {name: ("swapped", "loop", "inserted", "truncated")[index % 4] for index, name in enumerate(chosen)}
    swapped = [name for name in chosen if how[name] == "swapped"]
    others = swapped[1:] + swapped[:1]
    found = dict(texts)
    for name in chosen:
        words = texts[name].split()
        if how[name] == "swapped":
            found[name] = texts[others[swapped.index(name)]]
        elif how[name] == "loop":
            found[name] = " ".join(words[: len(words) // 2] + 6 * words[len(words) // 2 :][:3])
        elif how[name] == "inserted":
            at = random_.randrange(len(words) + 1)
            found[name] = " ".join([*words[:at], *PHRASE.split(), *words[at:]])
        else:
            found[name] = " ".join(words[: len(words) // 2])
    return found, how


def area(scores: Sequence[float], bad: Sequence[bool]) -> float:
    """Under the receiver's curve."""
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(bad, scores)), 4)


def calibration(speakers: Sequence[str], seed: int) -> Bools:
    """Which utterances are learnt from: all of some speakers, a fifth or a little more."""
    order = np.random.default_rng(seed).permutation(sorted(set(speakers)))
    chosen: set[str] = set()
    for speaker in order:
        if sum(one in chosen for one in speakers) >= CALIBRATED * len(speakers):
            break
        chosen.add(str(speaker))
    return np.array([one in chosen for one in speakers])


def trained(name: str, kept: Sequence[bool], seed: int, store: LabelStore, given: argparse.Namespace) -> float:
    """Word error rate of a student of these utterances."""
    rows = []
    decisions = iter(kept)
    for labelled in store.read_labels():
        for seen in labelled.quality:
            stays = next(decisions)
            utterance = seen.utterance
            rule = "" if stays else name
            row = DecisionRow(labelled.window.id, utterance.id, utterance.corpus, stays, rule, 0.0, None, 0, 0.0, 1.0)
            rows.append(row)
    folder = given.work / name.replace(" ", "-")
    write_decisions(folder / "filtered", store.directory, rows, {"settings": {}})
    run(InitSettings(teacher=given.teacher, output=given.work / "init"), NullConsole())
    settings = TrainSettings(
        student=given.work / "init",
        labels=folder / "filtered",
        output=folder / f"student-{seed}",
        seed=seed,
        validation=(given.validation,),
        max_steps=given.steps,
        num_train_epochs=1000,
        learning_rate=5e-4,
        warmup_steps=25,
        freeze_embed_tokens=True,
        teacher_targets="hidden",
        hidden_loss_weight=0.05,
        eval_steps=0,
    )
    report = run(settings, NullConsole())
    if not report.finished:
        raise SystemExit("stopped; the same command goes on")
    print(name, seed, round(report.best_wer, 2), flush=True)
    return round(float(report.best_wer), 2)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="the teacher's labels of the manifest, or of more")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--second-opinion", type=Path, required=True, help="another model's labels of the manifest")
    parser.add_argument("--validation", required=True)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0, help="of what is spoiled and who is calibrated on")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the students")
    parser.add_argument("--work", type=Path, default=Path("build/spoiled"))
    parser.add_argument("--output", type=Path, default=Path("bench/results/spoiled.json"))
    given = parser.parse_args()
    given.work = given.work / f"seed-{given.seed}"
    given.work.mkdir(parents=True, exist_ok=True)

    written = {
        seen.utterance.id: seen.text
        for labelled in open_labels(given.labels).read_labels()
        if labelled.window.packing_variant == 0
        for seen in labelled.quality
    }
    lines = [json.loads(line) for line in given.manifest.read_text().splitlines()]
    references = {line["id"]: line["text"] for line in lines}
    texts, how = spoil({name: written[name] for name in references if written.get(name)}, given.seed)
    folder = given.manifest.resolve().parent
    kept_lines = [
        {**line, "audio": str(folder / line["audio"]), "text": texts[line["id"]]}
        for line in lines
        if line["id"] in texts
    ]
    manifest = given.work / "spoiled.jsonl"
    atomic_write(manifest, "".join(json.dumps(line) + "\n" for line in kept_lines))
    labelling = LabelSettings(
        teacher=given.teacher,
        manifest=(str(manifest),),
        output=given.work / "labels",
        encoder_states="bfloat16",
        label_source="reference",
        language="en",
    )
    run(labelling, NullConsole())
    store = open_labels(given.work / "labels")
    labels = list(store.read_labels())
    names = [seen.utterance.id for labelled in labels for seen in labelled.quality]
    truth = [score([references[name]], [texts[name]], normalizer="english").wer for name in names]
    bad = [wer > BAD for wer in truth]
    speakers = [seen.utterance.speaker or seen.utterance.id for labelled in labels for seen in labelled.quality]
    calibrated = calibration(speakers, given.seed)
    known = [wer if seen else None for wer, seen in zip(truth, calibrated, strict=True)]
    unseen = np.flatnonzero(~calibrated)
    result: dict[str, Any] = {
        "utterances": len(names),
        "spoiled": {kind: sum(one == kind for one in how.values()) for kind in sorted(set(how.values()))},
        "bad": int(sum(bad)),
        "calibrated_on": int(calibrated.sum()),
        "speakers_calibrated_on": len({one for one, seen in zip(speakers, calibrated, strict=True) if seen}),
        "area": {},
        "students": {},
    }
    predicted = {}
    heard_by = {name: text for (_, name), text in read_second_opinions(open_labels(given.second_opinion)).items()}
    corpus = {seen.utterance.id: seen.utterance.corpus for one in labels for seen in one.quality}
    others = {(corpus[name], name): heard_by[name] for name in names}
    for kind, heard in (("evidence", None), ("evidence and a second opinion", others)):
        rows = build_features(store, labels, heard)
        predicted[kind] = predict_wer(rows, known, speakers, given.seed).wer
        result["area"][kind] = area(predicted[kind][unseen].tolist(), [bad[at] for at in unseen])
    logprobs = [seen.mean_logprob for labelled in labels for seen in labelled.quality]
    result["area"]["mean log-probability alone"] = area([-logprobs[at] for at in unseen], [bad[at] for at in unseen])
    print(json.dumps(result), flush=True)
    choices = {
        "all": [True] * len(names),
        "predicted": (predicted["evidence and a second opinion"] <= BAD / 2).tolist(),
        "predicted from evidence alone": (predicted["evidence"] <= BAD / 2).tolist(),
        "oracle": [wer <= BAD / 2 for wer in truth],
    }
    with shared_encoder_cache():
        for name, kept in choices.items():
            one: dict[str, Any] = {"kept": int(sum(kept)), "wer": {}}
            result["students"][name] = one
            for seed in given.seeds:
                one["wer"][str(seed)] = trained(name, kept, seed, store, given)
                result["command"] = f"bench/spoiled.py --steps {given.steps} --seed {given.seed}"
                atomic_write(given.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    restart_with_allocator()
    main()
