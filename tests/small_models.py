"""Random checkpoints of a few megabytes with Whisper's vocabulary, and a corpus of noise with transcripts."""

import json
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from whisperstill.console import NullConsole
from whisperstill.model.checkpoints import Checkpoint, expected_shapes, write_huggingface
from whisperstill.model.checkpoints.shapes import key_bias_rows
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.pipeline.recipe import STAGE_ORDER
from whisperstill.stages import init

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet".split()


RECIPE = """
output = "{output}"
[label]
teacher = "{teacher}"
manifest = ["{corpus}"]
encoder_states = "float32"
max_new_tokens = 12
[filter]
max_wer = 100000
min_logprob = -100
max_tokens_per_second = 1000
max_compression_ratio = 1000
drop_empty = false
[init]
decoder_layers = 2
[train]
validation = ["{corpus}"]
validation_limit = 2
teacher_targets = "hidden"
num_train_epochs = 1
batch_size = 2
warmup_steps = 1
[evaluate]
manifest = ["{corpus}"]
"""
"""Recipe of a small labelling; format with `output`, `teacher` and `corpus`."""


def count_runs(monkeypatch: pytest.MonkeyPatch, runs: list[str]) -> None:
    """Make every stage of a recipe append the name of its settings to `runs` when it runs."""

    def counted(run: Callable[[Any, Any], Any], settings: Any, console: Any) -> Any:
        runs.append(type(settings).__name__)
        return run(settings, console)

    for verb in STAGE_ORDER:
        module = import_module(f"whisperstill.stages.{verb}")
        monkeypatch.setattr(module, "run", partial(counted, module.run))


def make_tokenizer(texts: int, languages: int) -> bytes:
    """Byte-level tokenizer without merges: the bytes, fillers up to `texts`, then the special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    vocab = {letter: index for index, letter in enumerate(letters)}
    vocab |= {f"filler{index}": index for index in range(len(vocab), texts)}
    codes = ["en", "zh", "de", "es"] + [f"x{index}" for index in range(languages - 4)]
    names = ["endoftext", "startoftranscript", *codes, "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech", "notimestamps"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": texts + index, "content": f"<|{name}|>", **flags} for index, name in enumerate(names)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": ""}
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {**model, "end_of_word_suffix": "", "fuse_unk": False, "vocab": vocab, "merges": []},
    }
    return json.dumps(content).encode()


def make_checkpoint(dims: Dims, tokenizer_json: bytes, seed: int = 0) -> Checkpoint:
    """Random weights with the key's bias at zero, as every reader gives them."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(dims).items():
        state[name] = torch.randn(shape, generator=generator) * 0.05
        if rows := key_bias_rows(name, dims.width):
            state[name][rows] = 0.0
    heads = ((0, 1), (2, 0), (2, 1)) if dims.decoder_layers > 2 else ((0, 0),)
    return Checkpoint(dims, state, GenerationConfig((1, 2, 7), (220, 50257), heads), tokenizer_json, "random")


def make_teacher(directory: Path) -> Path:
    """Two encoder and three decoder layers of width 32, as a Hugging Face directory."""
    dims = Dims(
        mels=80, vocab_size=51865, width=32, encoder_heads=2, encoder_layers=2, decoder_heads=2, decoder_layers=3
    )
    write_huggingface(make_checkpoint(dims, make_tokenizer(50257, 99)), directory)
    return directory


def make_student_of(teacher: Path, directory: Path) -> Path:
    """A student with two of the teacher's decoder layers."""
    init.run(init.InitSettings(teacher=str(teacher), output=directory), NullConsole())
    return directory


def make_corpus(directory: Path) -> Path:
    """A manifest of 14 stretches of noise by two speakers in two sessions each, 3 to 9 s."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    lines = []
    for index in range(14):
        seconds = 3 + index % 7
        sound = generator.normal(0, 0.1, seconds * 16_000).astype(np.float32)
        soundfile.write(directory / f"{index:02d}.wav", sound, 16_000)
        line = {
            "id": f"u{index:02d}",
            "audio": f"{index:02d}.wav",
            "text": " ".join(WORDS[: 2 + index % 5]),
            "duration_s": float(seconds),
            "speaker": f"s{index // 7}",
            "session": f"c{index // 4}",
            "language": "en",
        }
        lines.append(json.dumps(line))
    manifest = directory / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def small_world(directory: Path) -> tuple[Path, Path, Path]:
    """Teacher, student and manifest under a directory."""
    teacher = make_teacher(directory / "teacher")
    return teacher, make_student_of(teacher, directory / "student-init"), make_corpus(directory / "corpus")
