"""Augmented versions of the windows, with the teacher's targets for the augmented audio.

A teacher that runs on every augmented version is patient and consistent (Beyer et al. 2022, arXiv 2106.05237) and costs
an encoder and a decoder pass each time. Here a version is used for several epochs, from disk. Its tokens stay those of
the (filtered) pseudo-label; its encoder states and the teacher's distribution at these tokens are computed anew.

The first `epochs_per_version` epochs use the windows as labelled. After that the windows are visited in blocks that fit
the cache, each block `epochs_per_version` times before the next one, so a version is computed once. All random choices
depend on (seed, version, window): a lost version is computed again with the same bits.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from whisperstill.atomic_io import atomic_write_path
from whisperstill.audio.augment import change_speed, spec_augment
from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.audio.noise import NoiseSampler
from whisperstill.corpus.loading import load_window_waveform
from whisperstill.distill.dataset import TrainingExample, epoch_batches, tokenize_example
from whisperstill.distill.encoder_states import EncoderStateSource, WindowStates
from whisperstill.distill.settings import ExampleOptions
from whisperstill.model.whisper import Whisper
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.records.seeding import rng
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import SAMPLE_RATE, WINDOW_SECONDS


class AugmentationCache:
    """Computes augmented windows and stores those that are used again. For one reader thread per process."""

    runs_encoder = True

    def __init__(
        self,
        directory: Path,
        teacher: Whisper,
        original_states: EncoderStateSource,
        settings: AugmentSettings,
        seed: int,
        num_processes: int = 1,
    ) -> None:
        """`original_states`: of windows that are not augmented. `num_processes` share the directory and the size limit.

        Each teacher, seed and `settings` needs its own directory. Raises `SettingsError` for noise sources that do not
        exist.
        """
        self.settings = settings
        self._directory, self._teacher, self._original_states, self._seed = directory, teacher, original_states, seed
        self._vocabulary = Vocabulary.from_size(teacher.dims.vocab_size)
        self._noise_sampler = NoiseSampler(settings.noise_sources) if settings.noise_prob else None
        self._max_windows = max(
            1, int(settings.cache_gib * 2**30 / (2 * teacher.dims.max_source_positions * teacher.dims.width))
        )
        self._max_local_windows = max(1, self._max_windows // num_processes)
        if settings.epochs_per_version > 1:
            directory.mkdir(parents=True, exist_ok=True)
        self._cached_paths = sorted(directory.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)

    def load(self, examples: Sequence[TrainingExample], epoch: int) -> list[WindowStates]:
        """The states of each example in this epoch."""
        augmented = [self.get(example, epoch) for example in examples]
        original_examples = [example for example, states in zip(examples, augmented, strict=True) if states is None]
        originals = iter(self._original_states.load(original_examples, epoch))
        return [next(originals) if states is None else states for states in augmented]

    def get(self, example: TrainingExample, epoch: int) -> WindowStates | None:
        """States of the augmented window of this epoch; None if this epoch uses the window as labelled."""
        version = epoch // self.settings.epochs_per_version
        window = example.label.window
        if not version or rng(self._seed, version, window.id, "changed").random() >= self.settings.prob:
            return None
        path = self._directory / f"{window.id}-{version}.safetensors"
        try:
            tensors = load_file(path)
            return WindowStates(tensors["states"], tensors["hidden"])
        except FileNotFoundError:  # not computed yet, or evicted
            pass
        states, hidden = self._augment(example, version)
        if self.settings.epochs_per_version > 1:
            while len(self._cached_paths) >= self._max_local_windows:
                self._cached_paths.pop(0).unlink(missing_ok=True)
            with atomic_write_path(path) as temporary:
                save_file({"states": states, "hidden": hidden}, temporary)
            self._cached_paths.append(path)
        return WindowStates(states, hidden, encoded=True)

    def plan_batches(
        self, examples: Sequence[TrainingExample], batch_size: int, epochs: int
    ) -> Iterator[tuple[int, list[TrainingExample]]]:
        """(epoch, examples) of every step, ordered so that cached windows are reused."""
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
    def _augment(self, example: TrainingExample, version: int) -> tuple[Tensor, Tensor]:
        """Encoder states and the teacher's last hidden states at its own decoding steps, in bfloat16 on the CPU."""
        teacher, label = self._teacher, example.label
        # 1. Waveform: speed, noise.
        generator, settings = rng(self._seed, version, label.window.id, "view"), self.settings
        waveform = load_window_waveform(label.window)[: round(label.window.duration * SAMPLE_RATE)]
        if settings.speed_perturbation and not label.timestamps:
            factor = 1 + settings.speed_perturbation * (2 * generator.random() - 1)
            waveform = change_speed(waveform, max(factor, len(waveform) / (WINDOW_SECONDS * SAMPLE_RATE)))
        if self._noise_sampler is not None and generator.random() < settings.noise_prob:
            snr_db = settings.min_snr_db + (settings.max_snr_db - settings.min_snr_db) * generator.random()
            waveform = self._noise_sampler.add_to(waveform, snr_db, generator)
        # 2. Spectrogram: SpecAugment.
        mel = log_mel(torch.from_numpy(pad_or_trim(waveform))[None].to(teacher.device), teacher.dims.mels)
        if settings.spec_augment_masks:
            masked_mel = spec_augment(
                mel[0].cpu().numpy(), len(waveform) / SAMPLE_RATE, settings.spec_augment_masks, generator
            )
            mel = torch.from_numpy(masked_mel)[None].to(teacher.device)
        # 3. Encoder, and the decoder on the tokens of the label.
        states = teacher.encoder(mel)
        tokenized = tokenize_example(
            example, self._vocabulary, ExampleOptions(timestamp_probability=float(label.timestamps)), 0
        )
        tokens = torch.tensor(tokenized.decoder_ids, device=teacher.device)
        num_steps = sum(step >= 0 for step in tokenized.teacher_steps)
        hidden = teacher.decoder.forward_packed(tokens, [len(tokens)], states)[-num_steps:]
        return _to_cpu_bfloat16(states[0]), _to_cpu_bfloat16(hidden)


def _to_cpu_bfloat16(x: Tensor) -> Tensor:
    return x.to(device="cpu", dtype=torch.bfloat16).clone()
