"""Errors that the user can fix, under one root class. The command line prints one line and exits with 2.

A message states what was expected, what was found and what to do. Any other exception is a bug and keeps its
traceback.
"""


class WhisperstillError(Exception):
    """Root of all errors the user can fix."""


class SettingsError(WhisperstillError):
    """An invalid option, recipe key or combination of them."""


class NotFoundError(WhisperstillError):
    """A name, file or folder that does not exist; the message lists the places searched."""


class CheckpointError(WhisperstillError):
    """A checkpoint that is truncated, has other shapes, or is not Whisper."""


class AudioError(WhisperstillError):
    """Audio that cannot be decoded or is empty."""


class CorpusError(WhisperstillError):
    """A manifest or corpus that cannot be read."""


class StoreError(WhisperstillError):
    """A store that is damaged, unfinished, or was made with other settings."""


class MissingExtraError(WhisperstillError):
    """A missing optional library; the message names the extra to install."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional library: pip install 'whisperstill[{extra}]'")


class TrainingError(WhisperstillError):
    """Training cannot continue (non-finite loss); the message names step and batch."""
