"""Utterances with the worst errors of each kind, aligned word by word.

An utterance is listed once, under the first reason that applies. Reasons take turns, so that many deletions do not
crowd out a single repetition loop.
"""

from collections.abc import Callable, Mapping, Sequence

from whisperstill.evaluate.hallucination import has_repetition_loop, longest_deletion
from whisperstill.evaluate.metrics import SystemOutput
from whisperstill.records.eval_results import AlignmentOp, ErrorExample, WordAlignment
from whisperstill.text.edit_distance import AlignedPair
from whisperstill.text.repetition import count_ngram_repeats

SeverityFn = Callable[[SystemOutput, int], float]
"""Severity of one kind of error in the utterance at an index; 0 if there is none."""


def _loop_severity(output: SystemOutput, index: int) -> float:
    looping = has_repetition_loop(output.references[index], output.hypotheses[index])
    return float(count_ngram_repeats(output.hypotheses[index])) if looping else 0.0


def _non_speech_severity(output: SystemOutput, index: int) -> float:
    return 0.0 if output.references[index] else float(len(output.hypotheses[index]))


def _insertion_severity(output: SystemOutput, index: int) -> float:
    return float(output.edits[index].insertions)


def _deletion_severity(output: SystemOutput, index: int) -> float:
    return float(longest_deletion(output.alignments[index]))


def _error_rate_severity(output: SystemOutput, index: int) -> float:
    return output.edits[index].error_rate if output.references[index] else 0.0


REASONS: tuple[tuple[str, SeverityFn, float], ...] = (
    ("repetition loop", _loop_severity, 1.0),
    ("words on non-speech", _non_speech_severity, 1.0),
    ("insertions", _insertion_severity, 3.0),
    ("deletions", _deletion_severity, 3.0),
    ("errors", _error_rate_severity, 0.1),
)
"""Reason, its severity, and the smallest severity to list."""


def select_error_examples(
    dataset: str,
    condition: str,
    outputs_by_model: Mapping[str, SystemOutput],
    target_model: str,
    num_examples: int,
    leading_models: Sequence[str] = (),
) -> list[ErrorExample]:
    """Up to `num_examples` worst utterances of `target_model` on a dataset; `leading_models` come first in each."""
    target_output = outputs_by_model[target_model]
    # 1. A queue per reason, the most severe utterance first.
    queues: list[tuple[str, list[int]]] = []
    for reason, severity_fn, min_severity in REASONS:
        scored = [(severity_fn(target_output, index), index) for index in range(len(target_output.utterances))]
        ranked = sorted(scored, key=lambda item: (-item[0], item[1]))
        queues.append((reason, [index for severity, index in ranked if severity >= min_severity]))
    # 2. Take from the queues in turns; no utterance twice.
    chosen: dict[int, str] = {}
    while len(chosen) < num_examples and any(queue for _, queue in queues):
        for reason, queue in queues:
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < num_examples:
                chosen[queue.pop(0)] = reason
    # 3. Align the hypotheses of all models.
    model_order = [
        *(model for model in leading_models if model in outputs_by_model),
        *(model for model in outputs_by_model if model not in leading_models),
    ]
    return [
        _build_error_example(
            dataset, condition, reason, index, target_output, {model: outputs_by_model[model] for model in model_order}
        )
        for index, reason in chosen.items()
    ]


def _build_error_example(
    dataset: str,
    condition: str,
    reason: str,
    index: int,
    target_output: SystemOutput,
    outputs_by_model: Mapping[str, SystemOutput],
) -> ErrorExample:
    utterance = target_output.utterances[index]
    alignments = []
    for model, output in outputs_by_model.items():
        index_by_id = {utterance.id: i for i, utterance in enumerate(output.utterances)}
        if utterance.id in index_by_id:
            output_index = index_by_id[utterance.id]
            ops = alignment_ops(
                output.references[output_index], output.hypotheses[output_index], output.alignments[output_index]
            )
            alignments.append(WordAlignment(model, output.texts[output_index], output.edits[output_index].errors, ops))
    return ErrorExample(
        dataset=dataset,
        id=utterance.id,
        reason=reason,
        condition=condition,
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
        kind = (
            "i"
            if reference_index is None
            else "d"
            if hypothesis_index is None
            else "="
            if reference_word == hypothesis_word
            else "s"
        )
        ops.append(AlignmentOp(kind, reference_word, hypothesis_word))
    return tuple(ops)
