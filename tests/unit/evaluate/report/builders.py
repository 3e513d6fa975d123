"""Evaluation results for tests: of a full suite with plausible figures, and smaller ones."""

import math
import random
from dataclasses import replace
from typing import Any

from whisperstill.records.eval_results import (
    Ablation,
    AblationRow,
    AlignmentOp,
    CurvePoint,
    DatasetInfo,
    DatasetResult,
    DraftToken,
    DraftTrace,
    ErrorExample,
    EvalResults,
    Failure,
    HallucinationMetrics,
    ModelInfo,
    PairedDifference,
    SpeculativeResult,
    SpeedResult,
    SubsetResult,
    TrainingCurve,
    WordAlignment,
)

QUALITY = {"base": 1.0, "student": 2.3, "student-4-layers": 1.5, "tiny.en": 1.9, "base, faster-whisper int8": 1.12}
"""Model -> error rate over the teacher's."""
LATENCY = {
    "base": 497.0,
    "student": 311.0,
    "student-4-layers": 402.0,
    "tiny.en": 171.0,
    "base, faster-whisper int8": 440,
}
SHORT = {"mini-test": (4.3, True), "test-other": (8.9, False), "ljspeech": (3.8, False), "prompts": (5.3, False)}
"""Dataset -> (the teacher's error rate, in distribution)."""
LONG = {"long-librispeech": (3.9, True), "long-ljspeech": (3.5, False)}
STRATEGIES = {"chunked": 1.0, "sequential": 1.15, "vad": 1.08, "silence": 1.04}


def model(name: str, **changes: Any) -> ModelInfo:
    """A model; `student` has two layers of the six of `base`."""
    layers = {"student": 2, "student-4-layers": 4, "tiny.en": 4}.get(name, 6)
    size = 37_800_000 if name == "tiny.en" else 55_800_000 + 4_200_000 * (layers - 2)
    role = "teacher" if name == "base" else "student" if name.startswith("student") else ""
    made = ModelInfo(
        name=name,
        source="base" if name == "base" else f"runs/{name}",
        engine="faster-whisper" if "faster" in name else "whisperstill",
        role=role,
        sha256="5f3a9c" * 10 + "beef",
        parameters=size,
        parameters_encoder=20_590_592,
        parameters_decoder=size - 20_590_592,
        parameters_embedding=26_500_000,
        encoder_layers=6,
        decoder_layers=layers,
        dtype="bfloat16",
        device="cpu",
    )
    return replace(made, **changes)


def corpus(name: str, **changes: Any) -> DatasetInfo:
    """A dataset of English speech."""
    made = DatasetInfo(
        name=name,
        manifest=f"speech/{name}/manifest.jsonl",
        sha256="ab12" * 16,
        utterances=97,
        hours=0.35,
        words=3453,
        language="en",
        normalizer="english",
        unit="word",
        in_distribution=False,
        long_form=False,
    )
    return replace(made, **changes)


def hallucination(wer: float = 5.0, **changes: Any) -> HallucinationMetrics:
    """Hallucination metrics that grow with the error rate."""
    made = HallucinationMetrics(
        five_grams=3200,
        repeated_five_grams=round(3 + wer),
        repeated_in_reference=4,
        repeated_beyond_reference=round(wer),
        insertion_rate=wer / 6,
        length_ratio_p95=1.02 + wer / 400,
        length_ratio_p99=1.08 + wer / 150,
        repetition_loops=int(wer / 9),
        longest_deletion=round(2 + wer / 3),
    )
    return replace(made, **changes)


def cell(wer: float = 8.8, **changes: Any) -> DatasetResult:
    """One model on one dataset: a WER, and counts that fit it."""
    words = changes.get("words", 3453)
    errors = round(wer * words / 100)
    made = DatasetResult(
        measurement="short_form",
        model="student",
        dataset="mini-test",
        decoding="short",
        wer=wer,
        wer_low=wer * 0.83,
        wer_high=wer * 1.18,
        cer=wer * 0.45,
        cer_low=wer * 0.37,
        cer_high=wer * 0.54,
        wer_orthographic=wer * 1.6 + 6,
        substitutions=round(errors * 0.63),
        deletions=round(errors * 0.2),
        insertions=errors - round(errors * 0.63) - round(errors * 0.2),
        words=3453,
        utterances=97,
        hours=0.35,
        seconds=70.0,
        hallucination=hallucination(wer),
    )
    return replace(made, **changes)


def _paired(wer: float, teacher: float) -> PairedDifference:
    change = wer - teacher
    return PairedDifference(change, change - 0.9, change + 1.0, 0.001 if abs(change) > 1 else 0.34)


def _slices(wer: float, names: list[str], rng: random.Random) -> tuple[SubsetResult, ...]:
    rates = [wer * rng.uniform(0.4, 1.9) for _ in names]
    return tuple(
        SubsetResult(name, 12, 430, rate, rate * 0.7, rate * 1.4) for name, rate in zip(names, rates, strict=True)
    )


def _cells(models: list[str]) -> list[DatasetResult]:
    rng = random.Random(0)
    speakers = ["1272", "1462", "1673", "174", "1919", "1988", "1993", "2035"]
    durations = ["0–5 s", "5–10 s", "10–20 s", "20–30 s"]
    cells = []
    for name in models:
        against = name != "base"
        seconds = 0.14 * LATENCY[name]
        for where, (teacher, _) in SHORT.items():
            wer = teacher * QUALITY[name] * rng.uniform(0.92, 1.08) if against else teacher
            made = cell(wer, model=name, dataset=where, seconds=seconds)
            made = replace(
                made,
                difference_to_teacher=_paired(wer, teacher) if against else None,
                agreement_with_teacher=100 - 3 * wer if against else None,
                by_speaker=_slices(wer, speakers, rng),
                by_duration=_slices(wer, durations, rng),
            )
            cells.append(made)
        for where, (teacher, _) in LONG.items():
            for strategy, factor in STRATEGIES.items():
                worse = 1.35 if strategy == "sequential" and name == "student" else 1.0
                wer = teacher * QUALITY[name] * factor * worse
                paired = _paired(wer, teacher * factor) if against else None
                much = {"measurement": "long_form", "decoding": strategy, "dataset": where, "words": 7092, "hours": 0.8}
                spent = seconds * {"sequential": 8, "chunked": 1.6}.get(strategy, 1.0)
                cells.append(cell(wer, model=name, seconds=spent, utterances=6, difference_to_teacher=paired, **much))
            for length in (30.0, 25.0, 20.0, 15.0, 10.0):
                best = 30 if name == "base" else 15
                wer = teacher * QUALITY[name] * (1 + abs(length - best) / 25)
                much = {"measurement": "chunk_length", "decoding": "chunked", "chunk_length": length}
                cells.append(cell(wer, model=name, dataset=where, words=7092, hours=0.8, utterances=6, **much))
        for kind, hard in (("white", 1.0), ("babble", 1.4)):
            for decibel in range(40, -15, -5):
                spoiled = 96 / (1 + math.exp((decibel - 3 * hard) / 4.5))
                wer = 4.3 * QUALITY[name] + spoiled * min(1.4, 0.75 + 0.12 * QUALITY[name])
                cells.append(cell(wer, measurement="noise", model=name, condition=f"{kind}@{decibel}"))
        for condition, factor in (("telephone", 1.6), ("mp3@16", 1.2), ("reverb@0.9", 2.7)):
            cells.append(cell(4.3 * QUALITY[name] * factor, measurement="noise", model=name, condition=condition))
        for where, words in (("silence", 0), ("music", 14)):
            for way, num_words in (("short", round(words * QUALITY[name])), ("silence", 0)):
                silent = hallucination(
                    0.0,
                    words_on_non_speech=num_words,
                    non_speech_clips_with_words=min(num_words, 9),
                    non_speech_clips=20,
                )
                much = {"measurement": "non_speech", "decoding": way, "words": 0, "utterances": 20, "hours": 0.17}
                cells.append(cell(0.0, model=name, dataset=where, hallucination=silent, **much))
    return cells


def _steps(reference: str, hypothesis: str) -> tuple[AlignmentOp, ...]:
    """An alignment as text: `a|b` substituted, `a|` deleted, `|b` inserted."""
    steps = []
    for word in f"{reference} {hypothesis}".split():
        expected, bar, recognized = word.partition("|")
        steps.append(
            AlignmentOp(
                "=" if not bar else "d" if not recognized else "i" if not expected else "s",
                expected,
                recognized or expected,
            )
        )
    return tuple(replace(step, hypothesis="") if step.kind == "d" else step for step in steps)


def worst(audio: str = "missing.flac", **changes: Any) -> ErrorExample:
    """An utterance with one good and one bad transcript."""
    made = ErrorExample(
        dataset="test-other",
        id="367-130732-0012",
        reason="errors",
        condition="",
        audio=audio,
        start=0.0,
        duration=2.0,
        reference="the lobster has been well bred from the beginning and knows it",
        alignments=(
            WordAlignment(
                "base",
                "The lobster has been well-bread from the beginning, and knows it.",
                1,
                _steps("the lobster has been well bred|bread", "from the beginning and knows it"),
            ),
            WordAlignment(
                "student",
                "A lobster has been well breaded from the very beginning. Knows it.",
                4,
                _steps("the|a lobster has been well bred|breaded from the |very beginning and| knows it", ""),
            ),
        ),
    )
    return replace(made, **changes)


def _loop(audio: str) -> ErrorExample:
    steps = _steps("", " ".join(["|thank |you"] * 60))
    return worst(
        audio,
        dataset="music",
        id="organ-03",
        reason="words on non-speech",
        condition="white@10",
        reference="",
        alignments=(WordAlignment("base", "", 0, ()), WordAlignment("student", "Thank you. " * 60, 120, steps)),
    )


def _drafts() -> tuple[DraftTrace, ...]:
    kinds = {"+": "accepted", "!": "corrected", ".": "bonus"}
    written = (
        "+ The|+ lob|+ster|. has|+ been|! well/ all|. bred|+ from|+ the|+ beginning|.,|+ and|! knows/ know|+ it|.."
    )
    tokens = []
    for item in written.split("|"):
        text, _, proposed = item[1:].partition("/")
        tokens.append(DraftToken(text, kinds[item[0]], proposed))
    return (DraftTrace("test-other", "367-130732-0012", 5, tuple(tokens)),)


def _ablations() -> tuple[Ablation, ...]:
    def rows(values: dict[str, float], facts: dict[str, dict[str, float]] | None = None) -> tuple[AblationRow, ...]:
        return tuple(
            AblationRow(
                value,
                {
                    where: {"0": mean * share - 0.2, "1": mean * share + 0.2}
                    for where, share in (("test-other", 1.4), ("ljspeech", 0.6))
                },
                mean,
                mean - 0.8,
                mean + 0.9,
                (facts or {}).get(value, {}),
            )
            for value, mean in values.items()
        )

    dropped = {"none": 1.6, "100": 2.5, "80": 3.1, "40": 5.6, "20": 9.2, "15": 13.3, "10": 24.4, "5": 45.6}
    layers = {"6": 1.0, "4": 1.24, "3": 1.4, "2": 1.6, "1": 1.9}
    return (
        Ablation(
            "max_wer",
            "filter.max_wer",
            rows(
                dict(zip(dropped, (15.3, 14.9, 14.6, 14.1, 13.9, 13.7, 13.9, 14.8), strict=True)),
                {
                    value: {"percent_dropped": share, "hours": 4.77 * (1 - share / 100)}
                    for value, share in dropped.items()
                },
            ),
        ),
        Ablation("subset_hours", "label.manifest", rows({"0.5": 31.0, "1": 22.4, "2": 17.5, "4": 14.0, "8": 12.1})),
        Ablation(
            "decoder_layers",
            "init.decoder_layers",
            rows(
                {"6": 6.2, "4": 8.9, "3": 11.0, "2": 14.0, "1": 24.5},
                {v: {"relative_speed": fast, "parameters": 51.6e6 + 4.2e6 * int(v)} for v, fast in layers.items()},
            ),
        ),
        Ablation("objective", "train.objective", rows({"PL": 15.1, "PL + KL": 13.6, "PL + KL + hidden": 12.2})),
        Ablation("label_smoothing", "train.label_smoothing", rows({"0": 13.6, "0.1": 14.9})),
    )


def full(audio: str = "missing.flac", models: tuple[str, ...] = tuple(QUALITY)) -> EvalResults:
    """Results of a full suite."""
    names = list(models)
    sets = [corpus(name, in_distribution=near) for name, (_, near) in SHORT.items()]
    sets += [corpus(name, in_distribution=near, long_form=True, words=7092) for name, (_, near) in LONG.items()]
    sets += [corpus(name, non_speech=True, words=0, hours=0.17, language="") for name in ("silence", "music")]
    students = [name for name in names if name.startswith("student")]
    rng = random.Random(1)
    return EvalResults(
        name="Four hours of read English",
        provenance={
            "versions": {"whisperstill": "0.4.0", "torch": "2.13.0", "python": "3.11.7"},
            "processor": "AMD EPYC 9R14",
            "dtype": "bfloat16",
            "threads": 2,
            "command": "whisperstill evaluate --suite recipes/suite.toml",
            "suite_sha256": "91d0218d8b5e",
            "begun": "2026-03-01T09:00:00+00:00",
            "ended": "2026-03-01T10:12:40+00:00",
        },
        models=tuple(model(name) for name in names),
        datasets=tuple(sets),
        results=tuple(_cells(names)),
        speeds=tuple(
            SpeedResult(
                model=name,
                batch_size=size,
                encoder_ms_per_window=244.0,
                decoder_ms_per_token=LATENCY[name] / 60 / size**0.5,
                latency_ms=LATENCY[name] * size**0.7,
                real_time_factor=LATENCY[name] / 30_000 / size**0.3,
                num_tokens=96,
                weights_mib=140.0,
                peak_memory_mib=510.0 + 60 * size,
            )
            for name in names
            for size in (1, 4, 16)
        ),
        speculative=tuple(
            SpeculativeResult("base", name, size, 100.0, 100 / gain, 41.0, 97, 97, 71.4, 3.6)
            for name in students
            for size, gain in ((1, 1.52), (4, 1.21), (16, 0.96))
        ),
        draft_traces=_drafts() if students else (),
        error_examples=(worst(audio), _loop(audio)),
        ablations=_ablations(),
        training_curves=tuple(
            TrainingCurve(
                name,
                tuple(
                    CurvePoint(
                        step,
                        0.4 + 3 * math.exp(-step / 300) + rng.uniform(0, 0.1),
                        11 + 60 * math.exp(-step / 250) if step % 220 == 0 else None,
                    )
                    for step in range(10, 1770, 10)
                ),
                {"kept": 2567, "word_error_rate": 55, "empty": 1, "low_log_probability": 1},
            )
            for name in students
        ),
        failures=(
            Failure("tiny.en on german-kerstin", "tiny.en knows no German"),
            Failure("whisper.cpp", "pywhispercpp is not installed: pip install pywhispercpp"),
        ),
    )


def many(sets: int = 20) -> EvalResults:
    """Five models on many datasets with long names."""
    names = [f"corpus-of-read-speech-number-{number:02d}" for number in range(sets)]
    rng = random.Random(2)
    cells = [
        cell(
            rng.uniform(2, 20) * QUALITY[name],
            model=name,
            dataset=where,
            difference_to_teacher=None if name == "base" else PairedDifference(1.0, 0.2, 1.9, 0.01),
        )
        for where in names
        for name in QUALITY
    ]
    return replace(
        full(),
        datasets=tuple(corpus(name, in_distribution=not number) for number, name in enumerate(names)),
        results=tuple(cells),
    )


def alone(name: str = "student") -> EvalResults:
    """One model, no teacher, one dataset."""
    return EvalResults(
        name="One model",
        provenance={},
        models=(model(name, role=""),),
        datasets=(corpus("mini-test"),),
        results=(cell(8.8, wer_low=7.3, wer_high=10.3, model=name),),
    )
