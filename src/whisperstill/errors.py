"""Errors that the user can fix, under one root class.

    WhisperstillError            the command line prints one line and exits with 2
    ├── SettingsError            an invalid option, recipe key or combination of them
    ├── NotFoundError            a name, file or folder that does not exist; the message says where we looked
    ├── CheckpointError          a checkpoint that is truncated, has other shapes, or is not Whisper
    ├── AudioError               audio that cannot be decoded or is empty
    ├── CorpusError              a manifest or corpus that cannot be read
    ├── StoreError               a store that is damaged, unfinished, or was made with other settings
    ├── MissingExtraError        an optional library is missing; the message names the extra to install
    └── TrainingError            training cannot continue (non-finite loss); the message names step and batch

A message states what was expected, what was found and what to do. Any other exception is a bug and keeps its
traceback.
"""


class WhisperstillError(Exception):
    """Root of all errors the user can fix."""


class SettingsError(WhisperstillError):
    """An invalid option, recipe key or combination of them."""


class NotFoundError(WhisperstillError):
    """A name, file or folder that does not exist."""


class CheckpointError(WhisperstillError):
    """A checkpoint that is truncated, has other shapes, or is not Whisper."""


class AudioError(WhisperstillError):
    """Audio that cannot be decoded or is empty."""


class CorpusError(WhisperstillError):
    """A manifest or corpus that cannot be read."""


class StoreError(WhisperstillError):
    """A store that is damaged, unfinished, or was made with other settings."""


class MissingExtraError(WhisperstillError):
    """A missing optional library."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional library: pip install 'whisperstill[{extra}]'")


class TrainingError(WhisperstillError):
    """Training cannot continue."""
