"""What an engine has to know of the model that it runs, and whoever reports on it."""

from dataclasses import dataclass

from whisperstill.decode.generate.language_detection import resolve_language
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.dims import Dims
from whisperstill.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model without its weights."""

    source: str
    """What was read, for people."""
    sha256: str
    """Of the weights (`Checkpoint.sha256`); of the file where only whisper.cpp reads it."""
    dims: Dims
    suppress_tokens: tuple[int, ...] = ()
    """Tokens that are never said, as the checkpoint has it."""
    language: str | None = None
    """What a multilingual model hears where nobody says; None: it is detected."""
    timestamps: bool = True
    """Whether it may be asked for timestamps: not a student that never saw any."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "ModelDescription":
        """The same of a checkpoint."""
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
        """The code of the language to decode, None where it is to be detected; `SettingsError` if it is not known."""
        return resolve_language(requested, self.language, self.vocabulary, self.source)
