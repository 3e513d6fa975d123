"""transformers: `WhisperForConditionalGeneration.generate` on Hugging Face directories.

Long recordings: sequential `generate` with timestamps, one recording at a time; for a student that was trained without
timestamps, the pipeline's overlapping chunks of 15 s (paper, table 17).

Pitfall. A model may predict two adjacent timestamps although they are switched off; `generate` then cuts there and
decodes the rest of the window again. `force_unique_generate_call` makes it one pass per window.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from whisperstill.corpus.loading import Waveform
from whisperstill.decode.longform.strategy import STUDENT_CHUNK_S
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.evaluate.engines.external_engine import EngineFormat, prepare_checkpoint
from whisperstill.model.checkpoints import write_huggingface
from whisperstill.model.device import choose_device
from whisperstill.model.dims import Dims
from whisperstill.units import MAX_NEW_TOKENS, SAMPLE_RATE, WINDOW_SAMPLES

CHUNK_BATCH_SIZE = 8
"""Batch size of the pipeline for the chunks of a long recording."""
_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CONFIG_FILES = {"config.json", "generation_config.json", "preprocessor_config.json"}
_TOKENIZER_FILES = {"tokenizer.json", "vocab.json", "merges.txt"}
_WEIGHTS_FILES = {"model.safetensors", "model.safetensors.index.json"}


def _is_complete(directory: Path, dims: Dims) -> bool:
    names = {entry.name for entry in directory.iterdir()}
    return names >= _CONFIG_FILES | _TOKENIZER_FILES and bool(names & _WEIGHTS_FILES)


HUGGINGFACE_FORMAT = EngineFormat("huggingface", write_huggingface, "huggingface", _is_complete)


class Transformers:
    """A model in transformers.

    Compute types: float32, float16, bfloat16; `auto` is float32 on a CPU, and on a GPU bfloat16 if supported, else
    float16.
    """

    def __init__(self, source: str | Path, cache: Path, device: str, dtype: str) -> None:
        """See `engines.load_engine`."""
        try:
            from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
        except ImportError as error:
            raise MissingExtraError("the engine transformers", "transformers") from error
        self.device = choose_device(device)
        torch_dtype = _resolve_dtype(dtype, self.device)
        directory, self.description = prepare_checkpoint(source, cache, HUGGINGFACE_FORMAT)
        self.version, self.dtype = version("transformers"), str(torch_dtype).removeprefix("torch.")
        with _suppress_logging():
            network: Any = WhisperForConditionalGeneration.from_pretrained(
                directory, dtype=torch_dtype, attn_implementation="sdpa", local_files_only=True
            )
            self.network: Any = network.eval().to(self.device)
            self._feature_extractor: Any = WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True)
            self._tokenizer: Any = WhisperTokenizer.from_pretrained(directory, local_files_only=True)

    @torch.inference_mode()
    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """See `ExternalEngine`."""
        codes = [self.description.resolve_language(language) for language in languages]
        transcribe_long = self._transcribe_sequential if self.description.timestamps else self._transcribe_chunked
        with _suppress_logging():
            if long_form:
                return [transcribe_long(waveform, code) for waveform, code in zip(waveforms, codes, strict=True)]
            texts: dict[int, str] = {}
            for code in dict.fromkeys(codes):  # one language per call, or detection per row
                indices = [index for index, other_code in enumerate(codes) if other_code == code]
                windows = [waveforms[index][:WINDOW_SAMPLES] for index in indices]
                options = {"return_timestamps": False, "force_unique_generate_call": True}
                texts |= zip(indices, self._generate(windows, code, options, {}), strict=True)
            return [texts[index] for index in range(len(waveforms))]

    def _transcribe_sequential(self, waveform: Waveform, language: str | None) -> str:
        options = {"return_timestamps": True, "condition_on_prev_tokens": False, "temperature": 0.0}
        padding = "longest" if len(waveform) > WINDOW_SAMPLES else "max_length"
        [text] = self._generate([waveform], language, options, {"truncation": False, "padding": padding})
        return text

    def _transcribe_chunked(self, waveform: Waveform, language: str | None) -> str:
        from transformers import AutomaticSpeechRecognitionPipeline

        create: Any = AutomaticSpeechRecognitionPipeline
        pipeline = create(model=self.network, tokenizer=self._tokenizer, feature_extractor=self._feature_extractor)
        result = pipeline(
            waveform,
            chunk_length_s=STUDENT_CHUNK_S,
            batch_size=CHUNK_BATCH_SIZE,
            ignore_warning=True,
            generate_kwargs={**self._generate_kwargs(language), "force_unique_generate_call": True},
        )
        return str(result["text"]).strip()

    def _generate_kwargs(self, language: str | None) -> dict[str, Any]:
        """Arguments of every `generate` call. An English-only model refuses language and task; without a task a
        multilingual model gets no `<|transcribe|>` token and loops."""
        generate_kwargs: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "num_beams": 1, "do_sample": False}
        if self.description.vocabulary.multilingual:
            generate_kwargs |= {"language": language, "task": "transcribe"}
        return generate_kwargs

    def _generate(
        self, waveforms: list[Waveform], language: str | None, options: dict[str, Any], feature_options: dict[str, Any]
    ) -> list[str]:
        inputs = self._feature_extractor(
            waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True, **feature_options
        ).to(self.device)
        features = inputs.input_features.to(self.network.dtype)
        options = self._generate_kwargs(language) | options
        tokens = self.network.generate(features, attention_mask=inputs.attention_mask, **options)
        return [text.strip() for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def _resolve_dtype(dtype: str, device: str) -> torch.dtype:
    if dtype == "auto":
        if device == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float16
    if dtype not in _TORCH_DTYPES:
        raise SettingsError(f"expected a dtype of transformers out of {', '.join(_TORCH_DTYPES)}, got {dtype}")
    return _TORCH_DTYPES[dtype]


@contextmanager
def _suppress_logging() -> Iterator[None]:
    """Silence progress bars and warnings of transformers; the previous settings are restored."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, progress_bar_enabled = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bar_enabled:
            logging.enable_progress_bar()
