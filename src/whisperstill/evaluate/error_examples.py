"""Utterances with the worst errors of each kind, aligned word by word.

An utterance is listed once, under the first reason that applies. Reasons take turns, so that many deletions do not
crowd out a single repetition loop.
"""

from collections.abc import Mapping, Sequence

from whisperstill.evaluate.hallucination import has_repetition_loop, longest_deletion
from whisperstill.evaluate.metrics import SystemOutput
from whisperstill.records.eval_results import AlignmentOp, ErrorExample, WordAlignment
from whisperstill.text.edit_distance import AlignedPair
from whisperstill.text.repetition import count_ngram_repeats

MIN_SEVERITY = {"repetition loop": 1.0, "words on non-speech": 1.0, "insertions": 3.0, "deletions": 3.0, "errors": 0.1}
"""Reason -> smallest severity to list, in the order in which reasons take turns."""


def error_severities(output: SystemOutput, index: int) -> dict[str, float]:
    """Reason -> severity in the utterance at an index; 0 if there is no such error."""
    reference, hypothesis, edits = output.references[index], output.hypotheses[index], output.edits[index]
    loops = has_repetition_loop(reference, hypothesis)
    return {
        "repetition loop": count_ngram_repeats(hypothesis) if loops else 0,
        "words on non-speech": 0 if reference else len(hypothesis),
        "insertions": edits.insertions,
        "deletions": longest_deletion(output.alignments[index]),
        "errors": edits.error_rate if reference else 0.0,
    }


def select_error_examples(
    dataset: str, outputs: Mapping[str, SystemOutput], model: str, num_examples: int, teacher: str | None = None
) -> list[ErrorExample]:
    """Up to `num_examples` worst utterances of `model` on a dataset, with the outputs of all models, the teacher's
    first."""
    # 1. A queue per reason, the most severe utterance first.
    severities = [error_severities(outputs[model], index) for index in range(len(outputs[model].utterances))]
    queues: dict[str, list[int]] = {}
    for reason, min_severity in MIN_SEVERITY.items():
        severe = [index for index, by_reason in enumerate(severities) if by_reason[reason] >= min_severity]
        queues[reason] = sorted(severe, key=lambda index: -severities[index][reason])
    # 2. Take from the queues in turns; no utterance twice.
    chosen: dict[int, str] = {}
    while len(chosen) < num_examples and any(queues.values()):
        for reason, queue in queues.items():
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < num_examples:
                chosen[queue.pop(0)] = reason
    # 3. Align the hypotheses of all models.
    ordered = {name: outputs[name] for name in sorted(outputs, key=lambda name: name != teacher)}
    return [_build_error_example(dataset, reason, index, model, ordered) for index, reason in chosen.items()]


def _build_error_example(
    dataset: str, reason: str, index: int, model: str, outputs: Mapping[str, SystemOutput]
) -> ErrorExample:
    utterance = outputs[model].utterances[index]
    alignments = []
    for name, output in outputs.items():
        if utterance in output.utterances:
            i = output.utterances.index(utterance)
            ops = alignment_ops(output.references[i], output.hypotheses[i], output.alignments[i])
            alignments.append(WordAlignment(name, output.texts[i], output.edits[i].errors, ops))
    return ErrorExample(
        dataset=dataset,
        id=utterance.id,
        reason=reason,
        condition="",
        audio=utterance.audio.path,
        start=utterance.audio.start,
        duration=utterance.audio.duration,
        reference=utterance.text or "",
        alignments=tuple(alignments),
    )


def alignment_ops(
    reference: Sequence[str], hypothesis: Sequence[str], pairs: Sequence[AlignedPair]
) -> tuple[AlignmentOp, ...]:
    """An alignment by indices as operations on words."""
    ops = []
    for reference_index, hypothesis_index in pairs:
        reference_word = "" if reference_index is None else reference[reference_index]
        hypothesis_word = "" if hypothesis_index is None else hypothesis[hypothesis_index]
        if reference_index is None or hypothesis_index is None:
            kind = "i" if reference_index is None else "d"
        else:
            kind = "=" if reference_word == hypothesis_word else "s"
        ops.append(AlignmentOp(kind, reference_word, hypothesis_word))
    return tuple(ops)
