"""Views of windows: heard changed, with the teacher's answer for what is then heard.

A teacher that answers for every view anew is patient (Beyer et al. 2022, arXiv 2106.05237) and costs an encoder and a
forced decoder each time; here each view serves for some epochs, from disk. Its tokens stay those that were labelled
(and filtered): what the teacher is asked anew is how sure it is of each of them now.

The first `epochs_per_version` epochs hear what was labelled. After that the windows are gone through in blocks that fit
the disk, each block `epochs_per_version` times before the next: a view is made once, and older ones make room. All is
drawn from (seed, generation, window): a view that is lost is made again, the same to the last bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from whisperstill.atomic_io import atomic_write_path
from whisperstill.audio.augment import NoiseSampler, change_speed, spec_augment
from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.corpus.loading import load_window_waveform
from whisperstill.distill.dataset import ExampleOptions, TrainingExample, epoch_batches, tokenize_example
from whisperstill.model.whisper import Whisper
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.records.seeding import rng
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import SAMPLE_RATE, WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class AugmentedWindow:
    """A view, and what the teacher says of it."""

    states: Tensor
    """`[positions, width]`, bf16."""
    hidden: Tensor
    """The teacher's last hidden states at the window's tokens `[steps, width]`, bf16."""
    encoded: bool
    """Whether the encoder was asked: False for one from disk."""


class AugmentationCache:
    """Makes views and keeps those that will serve again. For one reader thread of each process."""

    def __init__(
        self,
        directory: Path,
        teacher: Whisper,
        vocabulary: Vocabulary,
        settings: AugmentSettings,
        seed: int,
        num_processes: int = 1,
    ) -> None:
        """`num_processes` share the directory and the disk; views of another teacher, seed or augmentation belong into
        another one. Raises `SettingsError` for noises that are not there."""
        self.settings = settings
        self._directory, self._teacher, self._vocabulary, self._seed = directory, teacher, vocabulary, seed
        self._noise_sampler = NoiseSampler(settings.noise_sources) if settings.noise_prob else None
        self._max_windows = max(
            1, int(settings.cache_gib * 2**30 / (2 * teacher.dims.max_source_positions * teacher.dims.width))
        )
        self._max_local_windows = max(1, self._max_windows // num_processes)
        if settings.epochs_per_version > 1:
            directory.mkdir(parents=True, exist_ok=True)
        self._cached_paths = sorted(directory.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)

    def get(self, example: TrainingExample, epoch: int) -> AugmentedWindow | None:
        """What this epoch hears of a window; None for what was labelled."""
        version = epoch // self.settings.epochs_per_version
        window = example.label.window
        if not version or rng(self._seed, version, window.id, "changed").random() >= self.settings.prob:
            return None
        path = self._directory / f"{window.id}-{version}.safetensors"
        try:
            tensors = load_file(path)
            return AugmentedWindow(tensors["states"], tensors["hidden"], False)
        except FileNotFoundError:  # not made yet, or made room for another
            pass
        augmented_window = self._augment(example, version)
        if self.settings.epochs_per_version > 1:
            while len(self._cached_paths) >= self._max_local_windows:
                self._cached_paths.pop(0).unlink(missing_ok=True)
            with atomic_write_path(path) as temporary:
                save_file({"states": augmented_window.states, "hidden": augmented_window.hidden}, temporary)
            self._cached_paths.append(path)
        return augmented_window

    def plan_batches(
        self, examples: Sequence[TrainingExample], batch_size: int, epochs: int
    ) -> Iterator[tuple[int, list[TrainingExample]]]:
        """The batches of all epochs: (epoch, examples). As many as without views, in an order that lets views serve."""
        epochs_per_version = self.settings.epochs_per_version
        block_size = max(1, self._max_windows // batch_size) * batch_size
        for version in range(-(-epochs // epochs_per_version)):
            version_epochs = range(version * epochs_per_version, min(epochs, (version + 1) * epochs_per_version))
            order, blocks = rng(self._seed, version, "blocks").permutation(len(examples)), [examples]
            if version:
                blocks = [
                    [examples[index] for index in order[start : start + block_size]]
                    for start in range(0, len(order), block_size)
                ]
            for block in blocks:
                for epoch in version_epochs:
                    for batch in epoch_batches(block, batch_size, self._seed, epoch):
                        yield epoch, batch

    @torch.no_grad()
    def _augment(self, example: TrainingExample, version: int) -> AugmentedWindow:
        teacher, label = self._teacher, example.label
        generator, settings = rng(self._seed, version, label.window.id, "view"), self.settings
        waveform = load_window_waveform(label.window)[: round(label.window.duration * SAMPLE_RATE)]
        if settings.speed_perturbation and not label.timestamps:
            factor = 1 + settings.speed_perturbation * (2 * generator.random() - 1)
            waveform = change_speed(waveform, max(factor, len(waveform) / (WINDOW_SECONDS * SAMPLE_RATE)))
        if self._noise_sampler is not None and generator.random() < settings.noise_prob:
            snr_db = settings.min_snr_db + (settings.max_snr_db - settings.min_snr_db) * generator.random()
            waveform = self._noise_sampler.add_to(waveform, snr_db, generator)
        mel = log_mel(torch.from_numpy(pad_or_trim(waveform))[None].to(teacher.device), teacher.dims.mels)
        if settings.spec_augment_masks:
            masked_mel = spec_augment(
                mel[0].cpu().numpy(), len(waveform) / SAMPLE_RATE, settings.spec_augment_masks, generator
            )
            mel = torch.from_numpy(masked_mel)[None].to(teacher.device)
        states = teacher.encoder(mel)
        tokenized = tokenize_example(
            example, self._vocabulary, ExampleOptions(timestamp_probability=float(label.timestamps)), 0
        )
        tokens = torch.tensor(tokenized.decoder_ids, device=teacher.device)
        hidden = teacher.decoder.forward_packed(tokens, [len(tokens)], states)[
            -_count_teacher_steps(tokenized.teacher_steps) :
        ]
        return AugmentedWindow(_to_cpu_bfloat16(states[0]), _to_cpu_bfloat16(hidden), True)


def _count_teacher_steps(steps: Sequence[int]) -> int:
    return sum(step >= 0 for step in steps)


def _to_cpu_bfloat16(x: Tensor) -> Tensor:
    return x.to(device="cpu", dtype=torch.bfloat16).clone()
