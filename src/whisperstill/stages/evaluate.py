"""`evaluate`: word error rate, size and speed of one or more models on one or more corpora.

Each pair of a model and a corpus is decoded once: what came out is kept under a hash of the weights, of the corpus
and of the settings that matter, and found again by the next run.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whisperstill.errors import CorpusError, SettingsError
from whisperstill.files import write_whole
from whisperstill.records import Skipped, Utterance
from whisperstill.stages.console import Console

if TYPE_CHECKING:
    from whisperstill.decode.recogniser import Recogniser
    from whisperstill.evaluate.shelf import Shelf
    from whisperstill.model.checkpoints import Checkpoint
    from whisperstill.stages.suite import SuiteReport


@dataclass(frozen=True)
class EvaluateSettings:
    """Measure models against references."""

    model: tuple[str, ...] = ()
    """Checkpoints to compare: directories, installed weights packages (`tiny.en`), or hub ids. With a suite they take
    the place of its models: the teacher, and students."""
    manifest: tuple[str, ...] = ()
    """Corpora with references: JSONL manifests, or folders in any layout that is known."""
    output: Path | None = None
    """Folder for results.json, results.md and the hypotheses; of a suite for findings.json and its report (default
    there: where the suite says)."""
    suite: Path | None = None
    """A TOML file that names models, sets, ways of decoding and measurements (see suites/); instead of `manifest`."""
    language: str | None = None
    """Language of utterances that do not state theirs (ISO 639-1); default: detected by the model."""
    batch_size: int = 16
    """Windows decoded at a time."""
    layout: str = "auto"
    """Layout of the corpora; `auto` looks at the files."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of computation; `auto` takes bf16 where the hardware multiplies it fast."""
    true_length: bool = False
    """The encoder computes no more of a window than holds sound: faster for short clips, nearly the same."""
    normaliser: Literal["auto", "english", "basic", "none"] = "auto"
    """What makes texts comparable; `auto` takes `english` for English and `basic` else, as the Whisper authors do."""
    bootstrap_resamples: int = 1000
    """Draws of the bootstrap behind the 95 % intervals."""
    seed: int = 0
    """Seed of the bootstrap."""
    limit: int | None = None
    """Only the first so many utterances of each corpus; of a suite's so many, spread over it."""
    measure_speed: bool = True
    """Time encoder and decoder at batch 1, models in turns; `--no-measure-speed` leaves that out."""
    strict: bool = False
    """Exit with status 1 if anything was skipped."""


@dataclass(frozen=True)
class EvaluateReport:
    """What was measured."""

    output: str
    results: tuple[dict[str, Any], ...]
    """One for each model and corpus, as in results.json."""
    decoded: int
    """Pairs decoded in this run."""
    resumed: int
    """Pairs found finished."""
    problems: tuple[Skipped, ...]


@dataclass(frozen=True)
class _Set:
    """A corpus to be scored."""

    manifest: str
    name: str
    utterances: tuple[Utterance, ...]
    sha256: str
    normaliser: str
    unit: str


def run(settings: EvaluateSettings, console: Console) -> "EvaluateReport | SuiteReport":
    """Evaluate, or finish evaluating; utterances that cannot be read are listed in `problems`.

    Raises `SettingsError`, `CheckpointError`, `NotFoundError`, `CorpusError` when no corpus has references.
    """
    _check(settings)
    if settings.suite is not None:
        from whisperstill.stages.suite import run_suite

        return run_suite(settings, console)
    assert settings.output is not None
    problems: list[Skipped] = []
    sets = _read_sets(settings, problems, console)

    import torch

    from whisperstill.decode.recogniser import Recogniser
    from whisperstill.evaluate.shelf import Shelf
    from whisperstill.evaluate.tables import COLUMNS, markdown, rows_of
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.stages.outcomes import Outcomes

    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    outcomes = Outcomes(settings.output)
    results: list[dict[str, Any]] = []
    decoded = 0
    checkpoints = {model: load_checkpoint(model) for model in dict.fromkeys(settings.model)}
    encoders = {checkpoint.encoder_sha256 for checkpoint in checkpoints.values()}
    recognisers: dict[str, Recogniser] = {}
    computing: dict[str, Any] = {"device": device, "dtype": dtype, "true_length": settings.true_length}
    for one in sets:
        shelf = Shelf(shared=len(encoders) < len(checkpoints))
        for model, checkpoint in checkpoints.items():
            key = outcomes.key(
                weights=checkpoint.sha256,
                tokenizer=outcomes.digest(checkpoint.tokenizer_json),
                generation=repr(checkpoint.generation),
                corpus=one.sha256,
                normaliser=one.normaliser,
                unit=one.unit,
                batch_size=settings.batch_size,
                dtype=str(dtype),
                device=device,
                seed=settings.seed,
                resamples=settings.bootstrap_resamples,
                **({"true_length": True} if settings.true_length else {}),
            )
            outcome = outcomes.find(key)
            if outcome is None:
                if model not in recognisers:
                    recognisers[model] = Recogniser(checkpoint, **computing)
                try:
                    outcome = _evaluate(recognisers[model], checkpoint, one, shelf, settings, console)
                    outcome["figures"]["threads"] = torch.get_num_threads()
                except (SettingsError, CorpusError) as error:
                    problems.append(Skipped(f"{model} on {one.name}", str(error)))
                    continue
                outcomes.keep(key, outcome)
                decoded += 1
            elif (threads := outcome["figures"].get("threads")) not in (None, torch.get_num_threads()):
                console.warn(f"{model} heard {one.name} before, with {threads} threads: so says its real-time factor")
            problems += [Skipped(**skipped) for skipped in outcome["skipped"]]
            results.append({"model": model, "manifest": one.manifest, "set": one.name, **outcome["figures"]})
            outcomes.write_hypotheses(model, one.name, outcome["hypotheses"])
    results.sort(key=lambda result: list(checkpoints).index(result["model"]))
    if not results:
        raise SettingsError(f"nothing could be evaluated: {problems[0].reason}")
    if settings.measure_speed:
        _add_speed(results, checkpoints, device, dtype, outcomes, console)

    write_whole(settings.output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_whole(settings.output / "results.md", markdown(results))
    console.table("results", COLUMNS, rows_of(results))
    for problem in problems[:20]:
        console.warn(f"{problem.source} was left out: {problem.reason}")
    if len(problems) > 20:
        console.warn(f"and {len(problems) - 20} more were left out")
    return EvaluateReport(str(settings.output), tuple(results), decoded, len(results) - decoded, tuple(problems))


def _read_sets(settings: EvaluateSettings, problems: list[Skipped], console: Console) -> list[_Set]:
    """The corpora, without utterances that have no reference; those without any reference are a problem."""
    from whisperstill.corpus import read_corpus
    from whisperstill.stages.outcomes import corpus_digest

    sets: list[_Set] = []
    for manifest in dict.fromkeys(settings.manifest):
        corpus = read_corpus(manifest, layout=settings.layout, language=settings.language)
        problems += corpus.skipped
        utterances = tuple(one for one in corpus.utterances if one.text is not None)
        if not any((one.text or "").strip() for one in utterances):
            problems.append(
                Skipped(manifest, f"expected references in {corpus.name}, got none; evaluate on a set with transcripts")
            )
            continue
        if missing := len(corpus.utterances) - len(utterances):
            problems.append(Skipped(manifest, f"{missing} of {len(corpus.utterances)} utterances have no reference"))
        utterances = utterances[: settings.limit]
        normaliser, unit = _how_to_score(utterances, settings, corpus.name, console)
        sets.append(_Set(manifest, corpus.name, utterances, corpus_digest(utterances), normaliser, unit))
    if not sets:
        raise CorpusError(f"nothing to evaluate on: {problems[-1].reason}")
    names = Counter(one.name for one in sets)
    return [one if names[one.name] == 1 else replace(one, name=one.manifest) for one in sets]


def _how_to_score(
    utterances: Sequence[Utterance], settings: EvaluateSettings, name: str, console: Console
) -> tuple[str, str]:
    """(normaliser, unit), the same for every model: by the language of the set."""
    from whisperstill.text.normalise import normaliser_for, unit_for_all

    languages = Counter(one.language or settings.language for one in utterances)
    language = next(iter(languages)) if len(languages) == 1 else None
    if language is None and settings.normaliser == "auto":
        console.warn(
            f"{name} is of {'several languages' if len(languages) > 1 else 'unknown language'}: scored with the basic "
            f"normaliser, by {unit_for_all(languages)}; a manifest of each language, --language where none is stated, "
            "or --normaliser say otherwise"
        )
    chosen = normaliser_for(language) if settings.normaliser == "auto" else settings.normaliser
    return chosen, unit_for_all(languages)


def _evaluate(
    recogniser: "Recogniser",
    checkpoint: "Checkpoint",
    one: _Set,
    shelf: "Shelf",
    settings: EvaluateSettings,
    console: Console,
) -> dict[str, Any]:
    """Decode a corpus and score it: figures, hypotheses, and what was skipped."""
    import time
    from dataclasses import asdict

    from whisperstill.evaluate.hypotheses import decode_utterances
    from whisperstill.evaluate.score import score, utterance_edits

    for language in {utterance.language for utterance in one.utterances}:
        recogniser.known_language(language)
    hours = sum(utterance.audio.duration for utterance in one.utterances) / 3600
    shelf.credited = 0.0
    begun = time.perf_counter()
    with console.progress(f"{checkpoint.source} on {one.name}", hours, "h") as bar:
        heard = decode_utterances(
            recogniser,
            one.utterances,
            batch_size=settings.batch_size,
            advance=lambda seconds: bar.advance(seconds / 3600),
            encode=lambda batch, waveforms: shelf.encode(recogniser, checkpoint.encoder_sha256, batch, waveforms),
        )
    took = time.perf_counter() - begun + shelf.credited
    kept = [utterance for utterance in one.utterances if utterance.id in heard.texts]
    if not kept:
        raise SettingsError(f"no utterance of {one.name} could be read: {heard.skipped[0].reason}")
    references = [utterance.text or "" for utterance in kept]
    hypotheses = [heard.texts[utterance.id] for utterance in kept]
    scored = score(
        references,
        hypotheses,
        normaliser=one.normaliser,
        unit=one.unit,
        seed=settings.seed,
        resamples=settings.bootstrap_resamples,
    )
    edits = utterance_edits(references, hypotheses, normaliser=one.normaliser, unit=one.unit)
    seconds = sum(utterance.audio.duration for utterance in kept)
    figures = {
        "wer": scored.wer,
        "wer_low": scored.wer_low,
        "wer_high": scored.wer_high,
        "cer": scored.cer,
        "cer_low": scored.cer_low,
        "cer_high": scored.cer_high,
        "substitutions": scored.edits.substitutions,
        "deletions": scored.edits.deletions,
        "insertions": scored.edits.insertions,
        "utterances": scored.utterances,
        "words": scored.words,
        "empty_references": scored.empty_references,
        "normaliser": scored.normaliser,
        "unit": scored.unit,
        "hours": seconds / 3600,
        "tokens": heard.tokens,
        "real_time_factor": took / seconds,
        "batch_size": settings.batch_size,
        "parameters": checkpoint.parameters.total,
        "parameters_encoder": checkpoint.parameters.encoder,
        "parameters_decoder": checkpoint.parameters.decoder,
        "parameters_embedding": checkpoint.parameters.embedding,
        "sha256": checkpoint.sha256,
        "dtype": str(recogniser.network.dtype).removeprefix("torch."),
        "device": recogniser.network.device.type,
    }
    rows = [
        {"id": utterance.id, "reference": utterance.text, "hypothesis": text, "edits": asdict(counts)}
        for utterance, text, counts in zip(kept, hypotheses, edits, strict=True)
    ]
    return {"figures": figures, "hypotheses": rows, "skipped": [asdict(skipped) for skipped in heard.skipped]}


def _add_speed(
    results: list[dict[str, Any]],
    checkpoints: dict[str, "Checkpoint"],
    device: str,
    dtype: Any,
    outcomes: Any,
    console: Console,
) -> None:
    """Encoder and decoder times of every model, measured together; found again for the same models."""
    import torch

    from whisperstill.evaluate.speed import measure_speed
    from whisperstill.model.whisper import Whisper

    names = [name for name in checkpoints if any(result["model"] == name for result in results)]
    key = outcomes.key(
        speed=[checkpoints[name].sha256 for name in names],
        device=device,
        dtype=str(dtype),
        threads=torch.get_num_threads(),
    )
    found = outcomes.find(key)
    if found is None:
        console.info("timing encoder and decoder at batch 1")
        networks = [
            Whisper.from_state(checkpoints[name].dims, checkpoints[name].state, dtype, device) for name in names
        ]
        speeds = measure_speed(networks)
        found = {
            name: [one.encoder_ms_per_window, one.decoder_ms_per_token]
            for name, one in zip([checkpoints[name].sha256 for name in names], speeds, strict=True)
        }
        outcomes.keep(key, found)
    for result in results:
        result["encoder_ms_per_window"], result["decoder_ms_per_token"] = found[result["sha256"]]


def _check(settings: EvaluateSettings) -> None:
    problems = []
    if settings.suite is not None and settings.manifest:
        problems.append("a suite names its own sets: give either suite or manifest")
    if settings.suite is None:
        for name, what in (("model", "at least one checkpoint"), ("manifest", "at least one corpus")):
            if not getattr(settings, name):
                problems.append(f"{name} must name {what}")
        if settings.output is None:
            problems.append("output must name a folder")
    for name in ("batch_size", "bootstrap_resamples", "limit"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            problems.append(f"{name} must be at least 1, got {value}")
    if settings.output is not None and settings.output.exists() and not settings.output.is_dir():
        problems.append(f"output must be a folder, but {settings.output} is a file")
    if problems:
        raise SettingsError("; ".join(problems))
