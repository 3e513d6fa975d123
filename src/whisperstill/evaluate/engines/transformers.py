"""transformers: `WhisperForConditionalGeneration.generate` on Hugging Face directories.

Long recordings go through `generate` with timestamps, one after the other, each window from where the one before
ended; of a student that never saw timestamps through the pipeline's overlapping chunks of 15 s (paper, table 17). What
comes out is taken as it is.

The trap: where a network says two timestamps side by side though it was told not to, `generate` cuts there and hears
the rest of the window once more; `force_unique_generate_call` makes it one pass a window.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from whisperstill.decode.longform import STUDENT_CHUNK
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.evaluate.engines.conversion import Form, prepared
from whisperstill.evaluate.engines.engine import Waveform
from whisperstill.model.checkpoints import write_huggingface
from whisperstill.model.device import choose_device
from whisperstill.model.dims import Dims
from whisperstill.units import MAX_NEW_TOKENS, SAMPLE_RATE, WINDOW_SAMPLES

CHUNKS_TOGETHER = 8
"""Chunks of a long recording that the pipeline decodes at a time."""
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NEEDED = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json")


def _complete(directory: Path, dims: Dims) -> bool:
    weights = ("model.safetensors", "model.safetensors.index.json")
    return any((directory / name).is_file() for name in weights) and all(
        (directory / name).is_file() for name in (*_NEEDED, "merges.txt")
    )


FORM = Form("huggingface", write_huggingface, "huggingface", _complete)


class Transformers:
    """A model in transformers. Types: fp32, fp16, bf16; `auto` on a GPU is bf16 where it has that, else fp16."""

    name = "transformers"

    def __init__(self, source: str | Path, cache: Path, device: str, dtype: str) -> None:
        """See `engines.engine`."""
        try:
            from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
        except ImportError as error:
            raise MissingExtraError("the engine transformers", "transformers") from error
        self.device = choose_device(device)
        kind = _type_of(dtype, self.device)
        directory, self.about = prepared(source, cache, FORM)
        self.version, self.dtype = version("transformers"), str(kind).removeprefix("torch.")
        self.tokens = 0
        with _quiet():
            network: Any = WhisperForConditionalGeneration.from_pretrained(
                directory, dtype=kind, attn_implementation="sdpa", local_files_only=True
            )
            self._network: Any = network.eval().to(self.device)
            self._features: Any = WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True)
            self._tokenizer: Any = WhisperTokenizer.from_pretrained(directory, local_files_only=True)

    @torch.inference_mode()
    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long: bool = False
    ) -> list[str]:
        """See `Engine`."""
        codes = [self.about.spoken(one) for one in languages]
        with _quiet():
            if long:
                whole = self._sequential if self.about.timestamps else self._chunked
                return [whole(waveform, code) for waveform, code in zip(waveforms, codes, strict=True)]
            texts = [""] * len(waveforms)
            for code in dict.fromkeys(codes):  # one call has one language, or detects that of each
                rows = [row for row, other in enumerate(codes) if other == code]
                for row, text in zip(rows, self._windows([waveforms[row] for row in rows], code), strict=True):
                    texts[row] = text
            return texts

    def _windows(self, waveforms: Sequence[Waveform], language: str | None) -> list[str]:
        said = {**self._said(language), "return_timestamps": False, "force_unique_generate_call": True}
        return self._generate([one[:WINDOW_SAMPLES] for one in waveforms], said)

    def _sequential(self, waveform: Waveform, language: str | None) -> str:
        said = {**self._said(language), "return_timestamps": True, "condition_on_prev_tokens": False}
        padding = "longest" if len(waveform) > WINDOW_SAMPLES else "max_length"
        [text] = self._generate([waveform], {**said, "temperature": 0.0}, truncation=False, padding=padding)
        return text

    def _chunked(self, waveform: Waveform, language: str | None) -> str:
        from transformers import AutomaticSpeechRecognitionPipeline

        make: Any = AutomaticSpeechRecognitionPipeline
        pipeline = make(model=self._network, tokenizer=self._tokenizer, feature_extractor=self._features)
        said = {**self._said(language), "force_unique_generate_call": True}
        heard = pipeline(
            waveform,
            chunk_length_s=STUDENT_CHUNK,
            batch_size=CHUNKS_TOGETHER,
            ignore_warning=True,
            generate_kwargs=said,
        )
        text = str(heard["text"]).strip()
        self._count(self._tokenizer(text, add_special_tokens=False).input_ids)  # as joined: chunks overlap
        return text

    def _said(self, language: str | None) -> dict[str, Any]:
        """Arguments of every `generate`. An English-only network refuses both language and task; without a task any
        other one is never told `<|transcribe|>` and loops."""
        said: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "num_beams": 1, "do_sample": False}
        return {**said, "language": language, "task": "transcribe"} if self.about.vocabulary.multilingual else said

    def _generate(self, waveforms: Sequence[Waveform], said: dict[str, Any], **how: Any) -> list[str]:
        inputs = self._features(
            list(waveforms), sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True, **how
        ).to(self.device)
        features = inputs.input_features.to(self._network.dtype)
        rows = self._network.generate(features, attention_mask=inputs.attention_mask, **said).tolist()
        self._count(*rows)
        return [text.strip() for text in self._tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def _count(self, *sequences: Sequence[int]) -> None:
        is_text = self.about.vocabulary.is_text
        self.tokens += sum(is_text(token) for one in sequences for token in one)


def _type_of(dtype: str, device: str) -> torch.dtype:
    if dtype == "auto":
        if device == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float16
    if dtype not in _TYPES:
        raise SettingsError(f"transformers computes in {', '.join(_TYPES)}, got {dtype}")
    return _TYPES[dtype]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its bars, and without its advice on every call; what others told it is restored."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
