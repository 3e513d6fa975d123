"""Metadata of a model that runs in another engine."""

from dataclasses import dataclass

from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.dims import Dims
from whisperstill.text.languages import language_code
from whisperstill.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A checkpoint without weights."""

    source: str
    """Model name or path, for display."""
    sha256: str
    """Hash of the weights (`Checkpoint.sha256`); of the file for ggml."""
    dims: Dims
    suppress_tokens: tuple[int, ...] = ()
    """Suppressed tokens of the checkpoint."""
    language: str | None = None
    """Default language of a multilingual model; None: detected."""
    timestamps: bool = True
    """Whether the model predicts timestamps; False for a student that was trained without them."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "ModelDescription":
        """The metadata of a checkpoint."""
        return cls(
            source=checkpoint.source,
            sha256=checkpoint.sha256,
            dims=checkpoint.dims,
            suppress_tokens=checkpoint.generation_config.suppress_tokens,
            language=checkpoint.generation_config.language,
            timestamps=checkpoint.metadata.get("trained_with_timestamps") is not False,
        )

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_size(self.dims.vocab_size)

    def resolve_language(self, requested: str | None) -> str | None:
        """Language code to decode with, None to detect it. Raises `SettingsError` for an unsupported language."""
        if not self.vocabulary.multilingual:
            if requested is not None and language_code(requested) != "en":
                raise SettingsError(
                    f"expected English, the only language of {self.source}, got {requested}: use a multilingual model"
                )
            return "en"
        requested = requested or self.language
        if requested is None:
            return None
        self.vocabulary.language_token(requested)
        return language_code(requested)
