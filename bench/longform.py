"""Which long-form strategy has the lowest WER: chunked, sequential, vad or silence, compared with other libraries?

Hypothesis: overlapping chunks that are merged by matching words come within 0.3 points of the best sequential decoding.
Method: WER (Whisper's English normalizer) on longform-librispeech and longform-ljspeech, full recordings;
faster-whisper and transformers (sequential, with their defaults) load the same weights. With --joined all recordings
are joined into one of an hour with many speakers. Time is not measured.
Limit: the WER of the same model on the separate utterances.

    python bench/longform.py --speech ../shared/speech --models base tiny.en runs/mini-librispeech/student
    python bench/longform.py ... --joined --models base --systems "chunked 30 s" vad faster-whisper

Rows of earlier runs stay in the result file.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from harness import Clip, argument_parser, read_clips, set_threads, write_result

from whisperstill.audio.audio_files import load_audio
from whisperstill.decode.transcriber import load
from whisperstill.evaluate.engines import load_engine
from whisperstill.evaluate.metrics import Scoring, score
from whisperstill.text.markdown import markdown_table
from whisperstill.units import SAMPLE_RATE

DATASETS = ("longform-librispeech", "longform-ljspeech")
STRATEGIES: dict[str, dict[str, Any]] = {
    "silence": {"long_form": "silence"},
    "vad": {"long_form": "vad"},
    "sequential": {"long_form": "sequential"},
    "chunked 30 s": {"long_form": "chunked", "chunk_length": 30.0},
    "chunked 15 s": {"long_form": "chunked", "chunk_length": 15.0},
}
Transcribe = Callable[[str], str]
"""Path of a recording -> text."""


def our_transcribe(model: str, options: dict[str, Any]) -> Transcribe:
    """Our `transcribe`."""
    transcriber = load(model, device="cpu", dtype="float32")
    return lambda path: transcriber.transcribe(path, language="en", **options).text


def faster_whisper(model: str, cache: Path) -> Transcribe:
    """faster-whisper's sequential algorithm with temperature fallback, first attempt greedy."""
    engine: Any = load_engine("faster-whisper", model, cache, device="cpu", dtype="float32")
    # A student trained without timestamps and prompts loses four words of five if decoded with them.
    limits = {} if engine.description.timestamps else {"without_timestamps": True, "condition_on_previous_text": False}

    def transcribe(path: str) -> str:
        segments, _ = engine.model.transcribe(path, language="en", beam_size=1, best_of=5, **limits)
        return " ".join(segment.text.strip() for segment in segments)

    return transcribe


def transformers(model: str, cache: Path) -> Transcribe:
    """transformers' sequential algorithm with temperature fallback: `generate` on the full recording."""
    from transformers import WhisperProcessor

    from whisperstill.evaluate.engines.external_engine import prepare_checkpoint
    from whisperstill.evaluate.engines.transformers import HUGGINGFACE_FORMAT

    engine: Any = load_engine("transformers", model, cache, device="cpu", dtype="float32")
    directory, _ = prepare_checkpoint(model, cache, HUGGINGFACE_FORMAT)
    processor: Any = WhisperProcessor.from_pretrained(directory)
    options = {"language": "en", "task": "transcribe"} if engine.description.vocabulary.multilingual else {}

    def transcribe(path: str) -> str:
        inputs = processor(
            load_audio(path),
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            truncation=False,
            padding="longest",
            return_attention_mask=True,
        )
        with torch.inference_mode():
            ids = engine.network.generate(
                **inputs,
                **options,
                return_timestamps=True,
                condition_on_prev_tokens=True,
                temperature=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
                compression_ratio_threshold=2.4,
                logprob_threshold=-1.0,
                no_speech_threshold=0.6,
            )
        return str(processor.batch_decode(ids, skip_special_tokens=True)[0])

    return transcribe


PEERS: dict[str, Callable[[str, Path], Transcribe]] = {"faster-whisper": faster_whisper, "transformers": transformers}


def join_recordings(recordings: list[Clip], path: Path) -> Clip:
    """All recordings joined to one file."""
    soundfile.write(path, np.concatenate([load_audio(recording.path) for recording in recordings]), SAMPLE_RATE)
    return Clip("joined", "joined", str(path), " ".join(recording.text for recording in recordings), 0.0, {})


def measure(model: str, system: str, recordings: list[Clip], options: dict[str, Any]) -> dict[str, Any]:
    """WER and edit counts of one model with one strategy or library, by dataset."""
    with tempfile.TemporaryDirectory() as cache:
        transcribe = (
            PEERS[system](model, Path(cache))
            if system in PEERS
            else our_transcribe(model, {**STRATEGIES[system], **options})
        )
        texts = [transcribe(recording.path) for recording in recordings]
    row: dict[str, Any] = {"model": model, "system": system}
    for dataset in dict.fromkeys(recording.dataset for recording in recordings):
        pairs = [
            (recording.text, text)
            for recording, text in zip(recordings, texts, strict=True)
            if recording.dataset == dataset
        ]
        result = score([reference for reference, _ in pairs], [text for _, text in pairs], Scoring("english"))
        row[dataset] = {
            "wer": round(result.wer, 2),
            "words": result.edits.reference_length,
            "insertions": result.edits.insertions,
            "deletions": result.edits.deletions,
            "substitutions": result.edits.substitutions,
        }
    return row


def render(result: dict[str, Any]) -> str:
    """The table of docs/results/longform.md: WER (insertions, deletions, substitutions)."""
    datasets = [*DATASETS, "joined"]
    rows = []
    for row in result["rows"]:
        cells = [
            f"{cell['wer']:.2f} ({cell['insertions']}, {cell['deletions']}, {cell['substitutions']})" if cell else "-"
            for cell in map(row.get, datasets)
        ]
        rows.append([Path(row["model"]).name, row["system"], *cells])
    columns = ["model", "strategy or library", *(f"{dataset}, WER %" for dataset in datasets)]
    return markdown_table(columns, rows, text_columns=(0, 1))


def main() -> None:
    systems = [*STRATEGIES, *PEERS]
    parser = argument_parser(__doc__, "longform.json")
    parser.add_argument("--speech", type=Path, help="directory of the datasets")
    parser.add_argument("--models", nargs="+", default=["base", "tiny.en"])
    parser.add_argument("--systems", nargs="+", choices=systems, default=systems)
    parser.add_argument("--recordings", nargs="+", default=[], help="ids; default: all")
    parser.add_argument("--joined", action="store_true", help="join all recordings into one")
    parser.add_argument("--ours", type=json.loads, default={}, help="further keywords of our transcribe, as JSON")
    parser.add_argument("--render", type=Path, help="print the table of a result file and exit")
    options = parser.parse_args()
    if options.render:
        print(render(json.loads(options.render.read_text())))
        return
    if options.speech is None:
        parser.error("--speech: expected the directory of the datasets")
    set_threads(options.threads)
    known_rows = json.loads(options.output.read_text())["rows"] if options.output.exists() else []
    rows: dict[tuple[str, str], dict[str, Any]] = {(row["model"], row["system"]): row for row in known_rows}
    with tempfile.TemporaryDirectory() as folder:
        recordings = read_clips(options.speech, DATASETS, options.recordings)
        if options.joined:
            recordings = [join_recordings(recordings, Path(folder) / "joined.flac")]
        for model in options.models:
            for system in options.systems:
                row = measure(model, system, recordings, options.ours)
                rows[model, system] = rows.get((model, system), {}) | row
                print(json.dumps(row), flush=True)
                write_result(options.output, "WER of long-form strategies", {"rows": list(rows.values())})


if __name__ == "__main__":
    main()
