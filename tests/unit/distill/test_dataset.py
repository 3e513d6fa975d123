"""Token sequences of examples: masks, timestamps, prompts, and random choices that depend only on their key."""

from dataclasses import replace

import pytest

from whisperstill.distill.dataset import (
    MASK_SPAN_POSITIONS,
    build_examples,
    epoch_batches,
    masked_positions,
    tokenize_example,
)
from whisperstill.distill.settings import ExampleOptions
from whisperstill.errors import SettingsError
from whisperstill.records import AudioSpan, FilterDecision, LabelQuality, PseudoLabel, Utterance, Window
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_TARGET_POSITIONS

VOCABULARY = Vocabulary.from_size(51865)
TIME = VOCABULARY.timestamp_begin
EOT = VOCABULARY.end_of_text


def make_label(name: str, tokens: tuple[int, ...], cuts: tuple[int, ...], **changes: object) -> PseudoLabel:
    """A label whose tokens are cut into utterances."""
    ends = (*cuts, len(tokens))
    utterances = tuple(
        Utterance(
            f"{name}-{i}", "c", AudioSpan("x.wav", 0.0, 2.0), "text", "en", "s1", str(changes.get("session", "a"))
        )
        for i in range(len(ends))
    )
    quality = tuple(
        LabelQuality(u, start, stop, "text", -0.1, -0.2, 0.1, 0.0, 1.0, 1, 2.0, None)
        for u, start, stop in zip(utterances, (0, *cuts), ends, strict=True)
    )
    return PseudoLabel(
        window=Window(name, utterances, int(changes.get("packing", 0))),
        language="en",
        tokens=tokens,
        text="text",
        ended=bool(changes.get("ended", True)),
        timestamps=bool(changes.get("timestamps", False)),
        quality=quality,
        shard="00000",
    )


def decisions(label: PseudoLabel, *keeps: bool) -> dict[tuple[str, str, str], FilterDecision]:
    return {
        (label.window.id, quality.utterance.corpus, quality.utterance.id): FilterDecision(
            keep, "" if keep else "wer", 0.0
        )
        for quality, keep in zip(label.quality, keeps, strict=True)
    }


def test_dropped_utterance_is_masked_and_its_neighbours_are_not() -> None:
    label = make_label("w", (11, 12, 13, 14, 15), (2, 3))
    (example,) = build_examples([label], decisions(label, True, False, True), EOT)
    view = tokenize_example(example, VOCABULARY, ExampleOptions(), 0)
    assert view.decoder_ids == (*VOCABULARY.sot_sequence("en"), 11, 12, 13, 14, 15)
    assert view.target_ids[-6:] == (11, 12, 13, 14, 15, EOT)
    assert view.loss_mask == (False,) * 3 + (True, True, False, True, True, True)
    assert view.teacher_steps == (-1,) * 3 + (0, 1, 2, 3, 4, 5)
    assert view.matches_teacher_input


def test_tokens_have_the_weight_of_their_utterance() -> None:
    label = make_label("w", (11, 12, 13, 14, 15), (2, 3))
    weighted = {
        key: replace(decision, weight=weight)
        for (key, decision), weight in zip(decisions(label, True, True, True).items(), (0.5, 1.0, 0.25), strict=True)
    }
    (example,) = build_examples([label], weighted, EOT)
    view = tokenize_example(example, VOCABULARY, ExampleOptions(), 0)
    assert view.weights == (1.0,) * 3 + (0.5, 0.5, 1.0, 0.25, 0.25, 0.25)  # the end token belongs to the last utterance


def test_end_token_is_masked_with_the_last_utterance() -> None:
    label = make_label("w", (11, 12), (1,))
    (example,) = build_examples([label], decisions(label, True, False), EOT)
    assert tokenize_example(example, VOCABULARY, ExampleOptions(), 0).loss_mask[-2:] == (False, False)


def test_no_end_token_if_the_teacher_generated_none() -> None:
    label = make_label("w", (11, 12), (), ended=False)
    (example,) = build_examples([label], None, EOT)
    assert EOT not in tokenize_example(example, VOCABULARY, ExampleOptions(), 0).target_ids


def test_window_without_kept_utterance_is_left_out() -> None:
    label = make_label("w", (11, 12), (1,))
    assert build_examples([label], decisions(label, False, False), EOT) == []


def test_prompt_is_the_previous_window_of_the_session() -> None:
    first = make_label("a", (TIME, 1, 2, TIME + 9), (), session="x", timestamps=True)
    second = make_label("b", (3, 4), (), session="x")
    third = make_label("c", (5, 6), (), session="y")
    examples = build_examples([first, second, third], None, EOT)
    assert [example.previous_tokens for example in examples] == [(), (1, 2), ()]
    view = tokenize_example(examples[1], VOCABULARY, ExampleOptions(condition_on_prev_probability=1.0), 0)
    assert view.decoder_ids[:3] == (VOCABULARY.start_of_previous, 1, 2)
    assert view.decoder_ids.count(VOCABULARY.start_of_previous) == 1
    assert view.loss_mask == (False,) * 6 + (True, True, True)
    assert not view.matches_teacher_input
    # windows of a reshuffled packing variant have no prompt
    assert (
        build_examples([first, make_label("d", (3,), (), session="x", packing=1)], None, EOT)[1].previous_tokens == ()
    )


def test_long_prompt_is_cut_to_fit() -> None:
    first = make_label("a", tuple(range(300)), (), session="x")
    second = make_label("b", tuple(range(1000, 1224)), (), session="x")
    view = tokenize_example(
        build_examples([first, second], None, EOT)[1], VOCABULARY, ExampleOptions(condition_on_prev_probability=1.0), 0
    )
    assert len(view.decoder_ids) <= MAX_TARGET_POSITIONS
    assert view.target_ids[-1] == EOT
    assert view.decoder_ids[: view.decoder_ids.index(VOCABULARY.start_of_transcript)][-1] == 299


def test_timestamps_are_drawn_per_epoch() -> None:
    label = make_label("w", (TIME, 11, TIME + 50), (), timestamps=True)
    (example,) = build_examples([label], None, EOT)
    drawing = ExampleOptions(timestamp_probability=0.5)
    views = [tokenize_example(example, VOCABULARY, drawing, epoch) for epoch in range(40)]
    with_times = [view for view in views if TIME in view.decoder_ids]
    assert 5 < len(with_times) < 35
    for view in views:
        assert (VOCABULARY.no_timestamps in view.decoder_ids) == (view not in with_times)
        assert view.matches_teacher_input == (view in with_times)
    assert views == [tokenize_example(example, VOCABULARY, drawing, epoch) for epoch in range(40)]
    assert views != [tokenize_example(example, VOCABULARY, ExampleOptions(1, 0.5), epoch) for epoch in range(40)]


def test_timestamps_need_labels_with_timestamps() -> None:
    (example,) = build_examples([make_label("w", (11,), ())], None, EOT)
    with pytest.raises(SettingsError, match="label with --timestamps"):
        tokenize_example(example, VOCABULARY, ExampleOptions(timestamp_probability=0.5), 0)


def test_epoch_has_every_example_once_in_its_own_order() -> None:
    examples = build_examples([make_label(f"w{i}", tuple(range(1, 2 + i % 7)), ()) for i in range(45)], None, EOT)
    first, second = (epoch_batches(examples, 4, 0, epoch) for epoch in (0, 1))
    for epoch in (first, second):
        assert sorted(e.label.window.id for b in epoch for e in b) == sorted(e.label.window.id for e in examples)
        assert max(map(len, epoch)) == 4
    assert first != second
    assert first == epoch_batches(examples, 4, 0, 0)


def test_noise_changes_inputs_and_not_targets() -> None:
    (example,) = build_examples([make_label("w", (TIME, *range(1000, 1200), TIME + 9), (), timestamps=True)], None, EOT)
    clean = tokenize_example(example, VOCABULARY, ExampleOptions(timestamp_probability=1.0), 0)
    drawing = ExampleOptions(timestamp_probability=1.0, decoder_input_noise=0.2)
    noisy = tokenize_example(example, VOCABULARY, drawing, 0)
    assert (noisy.target_ids, noisy.loss_mask, noisy.teacher_steps) == (
        clean.target_ids,
        clean.loss_mask,
        clean.teacher_steps,
    )
    wrong = [
        position for position, (a, b) in enumerate(zip(noisy.decoder_ids, clean.decoder_ids, strict=True)) if a != b
    ]
    assert 20 <= len(wrong) <= 60
    assert [
        position for position in wrong if not 1000 <= clean.decoder_ids[position] < 1200
    ] == []  # neither start tokens nor timestamps
    assert [position for position in wrong if not noisy.decoder_ids[position] < EOT] == []
    loud = tokenize_example(
        example, VOCABULARY, ExampleOptions(timestamp_probability=1.0, decoder_input_noise=0.95), 0
    ).decoder_ids
    start = len(VOCABULARY.sot_sequence("en", "transcribe", True))
    assert loud[: start + 1] == clean.decoder_ids[: start + 1] and loud[-1] == clean.decoder_ids[-1]
    assert noisy != tokenize_example(example, VOCABULARY, drawing, 1)
    assert noisy == tokenize_example(example, VOCABULARY, drawing, 0)


def test_masks_are_spans_within_the_audio() -> None:
    (example,) = build_examples([make_label("w", (1, 2), ())], None, EOT)  # 2 s
    drawing = ExampleOptions(encoder_mask_prob=0.4)
    hidden = [masked_positions(example, drawing, epoch) for epoch in range(50)]
    assert [position for positions in hidden for position in positions if not 0 <= position < 100] == []
    lengths = [len(positions) for positions in hidden if positions[-1] < 99]
    assert MASK_SPAN_POSITIONS <= min(lengths) and max(lengths) <= 4 * MASK_SPAN_POSITIONS
    assert len({tuple(positions) for positions in hidden}) == 50
    assert hidden[3] == masked_positions(example, drawing, 3)
    assert masked_positions(example, ExampleOptions(), 0) == []


def test_dropped_utterances_are_no_prompt() -> None:
    first, second = make_label("a", (11, 12, 13, 14), (1, 3)), make_label("b", (21,), ())

    def previous(*keeps: bool) -> tuple[int, ...]:
        return build_examples([first, second], decisions(first, *keeps) | decisions(second, True), EOT)[
            -1
        ].previous_tokens

    assert previous(True, True, True) == (11, 12, 13, 14)
    assert previous(True, False, True) == (14,)
    assert previous(True, True, False) == previous(False, False, False) == ()


def test_speaker_without_session_gives_no_prompt() -> None:
    """The sentences of a speaker in a crowd-sourced corpus are unrelated."""
    windows = [make_label(name, (11,), ()) for name in "ab"]
    assert build_examples(windows, None, EOT)[1].previous_tokens == (11,)
    alone = [
        replace(
            label,
            window=replace(label.window, utterances=tuple(replace(u, session=None) for u in label.window.utterances)),
        )
        for label in windows
    ]
    assert build_examples(alone, None, EOT)[1].previous_tokens == ()
