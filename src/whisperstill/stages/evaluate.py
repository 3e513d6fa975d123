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

from whisperstill.atomic_io import atomic_write
from whisperstill.errors import CorpusError, SettingsError
from whisperstill.records import Skipped, Utterance
from whisperstill.stages.console import Console

if TYPE_CHECKING:
    from whisperstill.decode.whisper_model import WhisperModel
    from whisperstill.evaluate.encoder_cache import EncoderCache
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
    """Folder for results.json, results.md and the hypotheses; of a suite for its results.json and report (default
    there: where the suite says)."""
    suite: Path | None = None
    """A TOML file that names models, datasets, ways of decoding and measurements (see suites/); instead of
    `manifest`."""
    language: str | None = None
    """Language of utterances that do not state theirs (ISO 639-1); default: detected by the model."""
    batch_size: int = 16
    """Windows decoded at a time."""
    layout: str = "auto"
    """Layout of the corpora; `auto` looks at the files."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of computation; `auto` takes bfloat16 where the hardware multiplies it fast."""
    trim_padding: bool = False
    """The encoder computes no more of a window than holds sound: faster for short clips, nearly the same."""
    normalizer: Literal["auto", "english", "basic", "none"] = "auto"
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
    num_decoded: int
    """Pairs decoded in this run."""
    num_cached: int
    """Pairs found finished."""
    problems: tuple[Skipped, ...]


@dataclass(frozen=True)
class _Dataset:
    """A corpus to be scored."""

    manifest: str
    name: str
    utterances: tuple[Utterance, ...]
    sha256: str
    normalizer: str
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
    datasets = _read_datasets(settings, problems, console)

    import torch

    from whisperstill.decode.whisper_model import WhisperModel
    from whisperstill.evaluate.encoder_cache import EncoderCache
    from whisperstill.evaluate.tables import COLUMNS, format_rows, render_markdown
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.stages.result_cache import ResultCache

    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    result_cache = ResultCache(settings.output)
    results: list[dict[str, Any]] = []
    num_decoded = 0
    checkpoints = {model: load_checkpoint(model) for model in dict.fromkeys(settings.model)}
    encoder_hashes = {checkpoint.encoder_sha256 for checkpoint in checkpoints.values()}
    loaded_models: dict[str, WhisperModel] = {}
    load_options: dict[str, Any] = {"device": device, "dtype": dtype, "trim_padding": settings.trim_padding}
    for dataset in datasets:
        encoder_cache = EncoderCache(shared=len(encoder_hashes) < len(checkpoints))
        for model, checkpoint in checkpoints.items():
            key = result_cache.compute_key(
                weights=checkpoint.sha256,
                tokenizer=result_cache.digest(checkpoint.tokenizer_json),
                generation=repr(checkpoint.generation_config),
                corpus=dataset.sha256,
                normalizer=dataset.normalizer,
                unit=dataset.unit,
                batch_size=settings.batch_size,
                dtype=str(dtype),
                device=device,
                seed=settings.seed,
                resamples=settings.bootstrap_resamples,
                **({"trim_padding": True} if settings.trim_padding else {}),
            )
            entry = result_cache.get(key)
            if entry is None:
                if model not in loaded_models:
                    loaded_models[model] = WhisperModel(checkpoint, **load_options)
                try:
                    entry = _evaluate_dataset(
                        loaded_models[model], checkpoint, dataset, encoder_cache, settings, console
                    )
                    entry["metrics"]["threads"] = torch.get_num_threads()
                except (SettingsError, CorpusError) as error:
                    problems.append(Skipped(f"{model} on {dataset.name}", str(error)))
                    continue
                result_cache.put(key, entry)
                num_decoded += 1
            elif (threads := entry["metrics"].get("threads")) not in (None, torch.get_num_threads()):
                console.warn(
                    f"{model} heard {dataset.name} before, with {threads} threads: so says its real-time factor"
                )
            problems += [Skipped(**skipped) for skipped in entry["skipped"]]
            results.append({"model": model, "manifest": dataset.manifest, "dataset": dataset.name, **entry["metrics"]})
            result_cache.write_hypotheses(model, dataset.name, entry["hypotheses"])
    results.sort(key=lambda result: list(checkpoints).index(result["model"]))
    if not results:
        raise SettingsError(f"nothing could be evaluated: {problems[0].reason}")
    if settings.measure_speed:
        _add_speed(results, checkpoints, device, dtype, result_cache, console)

    atomic_write(settings.output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    atomic_write(settings.output / "results.md", render_markdown(results))
    console.table("results", COLUMNS, format_rows(results))
    for problem in problems[:20]:
        console.warn(f"{problem.source} was left out: {problem.reason}")
    if len(problems) > 20:
        console.warn(f"and {len(problems) - 20} more were left out")
    return EvaluateReport(
        str(settings.output), tuple(results), num_decoded, len(results) - num_decoded, tuple(problems)
    )


def _read_datasets(settings: EvaluateSettings, problems: list[Skipped], console: Console) -> list[_Dataset]:
    """The corpora, without utterances that have no reference; those without any reference are a problem."""
    from whisperstill.corpus import read_corpus
    from whisperstill.stages.result_cache import hash_utterances

    datasets: list[_Dataset] = []
    for manifest in dict.fromkeys(settings.manifest):
        corpus = read_corpus(manifest, layout=settings.layout, language=settings.language)
        problems += corpus.skipped
        utterances = tuple(utterance for utterance in corpus.utterances if utterance.text is not None)
        if not any((utterance.text or "").strip() for utterance in utterances):
            problems.append(
                Skipped(manifest, f"expected references in {corpus.name}, got none; evaluate on a set with transcripts")
            )
            continue
        if missing := len(corpus.utterances) - len(utterances):
            problems.append(Skipped(manifest, f"{missing} of {len(corpus.utterances)} utterances have no reference"))
        utterances = utterances[: settings.limit]
        normalizer, unit = _choose_scoring(utterances, settings, corpus.name, console)
        datasets.append(_Dataset(manifest, corpus.name, utterances, hash_utterances(utterances), normalizer, unit))
    if not datasets:
        raise CorpusError(f"nothing to evaluate on: {problems[-1].reason}")
    names = Counter(dataset.name for dataset in datasets)
    return [dataset if names[dataset.name] == 1 else replace(dataset, name=dataset.manifest) for dataset in datasets]


def _choose_scoring(
    utterances: Sequence[Utterance], settings: EvaluateSettings, name: str, console: Console
) -> tuple[str, str]:
    """(normalizer, unit), the same for every model: by the language of the set."""
    from whisperstill.text.normalizers import common_error_rate_unit, normalizer_name_for

    languages = Counter(utterance.language or settings.language for utterance in utterances)
    language = next(iter(languages)) if len(languages) == 1 else None
    if language is None and settings.normalizer == "auto":
        console.warn(
            f"{name} is of {'several languages' if len(languages) > 1 else 'unknown language'}: scored with the basic "
            f"normalizer, by {common_error_rate_unit(languages)}; a manifest of each language, --language where none "
            "is stated, or --normalizer say otherwise"
        )
    normalizer = normalizer_name_for(language) if settings.normalizer == "auto" else settings.normalizer
    return normalizer, common_error_rate_unit(languages)


def _evaluate_dataset(
    model: "WhisperModel",
    checkpoint: "Checkpoint",
    dataset: _Dataset,
    encoder_cache: "EncoderCache",
    settings: EvaluateSettings,
    console: Console,
) -> dict[str, Any]:
    """Decode a corpus and score it: figures, hypotheses, and what was skipped."""
    import time
    from dataclasses import asdict

    from whisperstill.evaluate.inference import decode_utterances
    from whisperstill.evaluate.score import score, utterance_edits

    for language in {utterance.language for utterance in dataset.utterances}:
        model.resolve_language(language)
    hours = sum(utterance.audio.duration for utterance in dataset.utterances) / 3600
    encoder_cache.saved_seconds = 0.0
    start_time = time.perf_counter()
    with console.progress(f"{checkpoint.source} on {dataset.name}", hours, "h") as bar:
        outputs = decode_utterances(
            model,
            dataset.utterances,
            batch_size=settings.batch_size,
            advance=lambda seconds: bar.advance(seconds / 3600),
            encode=lambda batch, waveforms: encoder_cache.encode(model, checkpoint.encoder_sha256, batch, waveforms),
        )
    elapsed_seconds = time.perf_counter() - start_time + encoder_cache.saved_seconds
    decoded = [utterance for utterance in dataset.utterances if utterance.id in outputs.texts]
    if not decoded:
        raise SettingsError(f"no utterance of {dataset.name} could be read: {outputs.skipped[0].reason}")
    references = [utterance.text or "" for utterance in decoded]
    hypotheses = [outputs.texts[utterance.id] for utterance in decoded]
    scores = score(
        references,
        hypotheses,
        normalizer=dataset.normalizer,
        unit=dataset.unit,
        seed=settings.seed,
        resamples=settings.bootstrap_resamples,
    )
    edits = utterance_edits(references, hypotheses, normalizer=dataset.normalizer, unit=dataset.unit)
    seconds = sum(utterance.audio.duration for utterance in decoded)
    metrics = {
        "wer": scores.wer,
        "wer_low": scores.wer_low,
        "wer_high": scores.wer_high,
        "cer": scores.cer,
        "cer_low": scores.cer_low,
        "cer_high": scores.cer_high,
        "substitutions": scores.edits.substitutions,
        "deletions": scores.edits.deletions,
        "insertions": scores.edits.insertions,
        "utterances": scores.utterances,
        "words": scores.words,
        "empty_references": scores.empty_references,
        "normalizer": scores.normalizer,
        "unit": scores.unit,
        "hours": seconds / 3600,
        "num_tokens": outputs.num_tokens,
        "real_time_factor": elapsed_seconds / seconds,
        "batch_size": settings.batch_size,
        "parameters": checkpoint.parameter_counts.total,
        "parameters_encoder": checkpoint.parameter_counts.encoder,
        "parameters_decoder": checkpoint.parameter_counts.decoder,
        "parameters_embedding": checkpoint.parameter_counts.embedding,
        "sha256": checkpoint.sha256,
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "device": model.network.device.type,
    }
    rows = [
        {"id": utterance.id, "reference": utterance.text, "hypothesis": text, "edits": asdict(counts)}
        for utterance, text, counts in zip(decoded, hypotheses, edits, strict=True)
    ]
    return {"metrics": metrics, "hypotheses": rows, "skipped": [asdict(skipped) for skipped in outputs.skipped]}


def _add_speed(
    results: list[dict[str, Any]],
    checkpoints: dict[str, "Checkpoint"],
    device: str,
    dtype: Any,
    result_cache: Any,
    console: Console,
) -> None:
    """Encoder and decoder times of every model, measured together; found again for the same models."""
    import torch

    from whisperstill.evaluate.speed import measure_speed
    from whisperstill.model.whisper import Whisper

    names = [name for name in checkpoints if any(result["model"] == name for result in results)]
    key = result_cache.compute_key(
        speed=[checkpoints[name].sha256 for name in names],
        device=device,
        dtype=str(dtype),
        threads=torch.get_num_threads(),
    )
    timings = result_cache.get(key)
    if timings is None:
        console.info("timing encoder and decoder at batch 1")
        networks = [
            Whisper.from_state(checkpoints[name].dims, checkpoints[name].state, dtype, device) for name in names
        ]
        speeds = measure_speed(networks)
        timings = {
            name: [speed.encoder_ms_per_window, speed.decoder_ms_per_token]
            for name, speed in zip([checkpoints[name].sha256 for name in names], speeds, strict=True)
        }
        result_cache.put(key, timings)
    for result in results:
        result["encoder_ms_per_window"], result["decoder_ms_per_token"] = timings[result["sha256"]]


def _check(settings: EvaluateSettings) -> None:
    problems = []
    if settings.suite is not None and settings.manifest:
        problems.append("a suite names its own datasets: give either suite or manifest")
    if settings.suite is None:
        for name, expected in (("model", "at least one checkpoint"), ("manifest", "at least one corpus")):
            if not getattr(settings, name):
                problems.append(f"{name} must name {expected}")
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
