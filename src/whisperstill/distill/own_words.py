"""On-policy distillation: the student transcribes, and the teacher says what it would have said at each token.

Taught on the teacher's tokens alone, a student never sees what its own mistakes lead to. In the last stretch of
training some windows are therefore decoded greedily by the student as it is then, and it is taught the teacher's
distribution along its own words (Agarwal et al. 2024, arXiv 2306.13649); pseudo-labels, which know nothing of these
prefixes, have no say.
"""

from dataclasses import replace

import torch

from whisperstill.decode.batch import decode_batch
from whisperstill.decode.rules import Rules
from whisperstill.distill.examples import Example
from whisperstill.distill.source import Loaded
from whisperstill.model.whisper import Whisper
from whisperstill.records.random import rng
from whisperstill.units import MAX_NEW_TOKENS

SHARE = 0.5
"""Of the windows in the last stretch that the student says itself; the labels of the others keep it from drifting."""
MARGIN = 16
"""Tokens that it may say beyond the teacher's: enough to see that it should have stopped, too few to loop for long."""


def says_itself(example: Example, seed: int, step: int) -> bool:
    """Whether the student is to say this window in this step. Not where the filter dropped a part of it."""
    return all(example.kept) and bool(rng(seed, step, example.labelled.window.id, "own words").random() < SHARE)


def spoken(student: Whisper, begun: Loaded, rules: Rules) -> Loaded:
    """The batch with the student's own words."""
    was_training, batch = student.training, begun.batch
    student.eval()
    starts = batch.decoder_ids.view(len(batch.lengths), -1)
    limits = [min(MAX_NEW_TOKENS, count + MARGIN) for count in begun.said]
    states = batch.states.to(student.device, student.dtype)
    with torch.no_grad():
        found, _ = decode_batch(student, states, starts, rules, max_new_tokens=limits)
    student.train(was_training)
    end, before = rules.vocabulary.end_of_text, starts.shape[1] - 1
    sequences = [
        [*start, *one.tokens, *([end] if one.ended else [])] for start, one in zip(starts.tolist(), found, strict=True)
    ]
    scored = torch.tensor([at >= before for one in sequences for at in range(len(one) - 1)])
    said = replace(
        batch,
        lengths=tuple(len(one) - 1 for one in sequences),
        decoder_ids=torch.tensor([token for one in sequences for token in one[:-1]]),
        target_ids=torch.tensor([token for one in sequences for token in one[1:]]),
        scored=scored,
        taught=scored,
        weights=torch.ones(len(scored)),
    )
    return replace(begun, batch=said)
