"""Every error a user can mend, under one root.

    WhisperstillError            the command line prints it in one line and exits with 2
    ├── SettingsError            an option, a recipe's key or a combination that cannot be
    ├── NotFoundError            a name, a file or a folder that is not there; says where was looked
    ├── CheckpointError          a checkpoint that is truncated, of other shapes, or not Whisper
    ├── AudioError               a file that cannot be decoded, is empty or of zero length
    ├── CorpusError              a manifest or a corpus layout that cannot be read
    ├── StoreError               a store that is damaged, unfinished, or was made with other settings
    ├── MissingExtraError        an optional library is needed: names the extra to install
    └── TrainingError            training cannot go on (a loss that is not finite): names step and batch

A message says what was expected, what was found and what to do. Anything that is not a `WhisperstillError` is a
defect of ours and keeps its traceback.
"""


class WhisperstillError(Exception):
    """Root of all errors a user can mend."""


class SettingsError(WhisperstillError):
    """An option, a recipe's key or a combination of them that cannot be."""


class NotFoundError(WhisperstillError):
    """A name, a file or a folder that is not there."""


class CheckpointError(WhisperstillError):
    """A checkpoint that is truncated, of other shapes, or not Whisper."""


class AudioError(WhisperstillError):
    """Audio that cannot be decoded, is empty or of zero length."""


class CorpusError(WhisperstillError):
    """A manifest or a corpus layout that cannot be read."""


class StoreError(WhisperstillError):
    """A store that is damaged, unfinished, or was made with other settings."""


class MissingExtraError(WhisperstillError):
    """An optional library is needed for this."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional library: pip install 'whisperstill[{extra}]'")


class TrainingError(WhisperstillError):
    """Training cannot go on."""
