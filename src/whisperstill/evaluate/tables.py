"""The results of an evaluation as rows of a table and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "model",
    "dataset",
    "WER %",
    "95 %",
    "CER %",
    "sub/del/ins",
    "words",
    "params M",
    "encoder ms",
    "token ms",
    "RTF",
)
"""Encoder: per 30-second window; token: one decoder step; both at batch 1. RTF: time over audio, batched."""

Result = Mapping[str, Any]


def format_rows(results: Sequence[Result]) -> list[list[str]]:
    """One formatted row per result, in the order of `COLUMNS`; a figure that was not measured is `-`."""
    models = shorten_names([str(result["model"]) for result in results])
    return [_format_row(result, models[str(result["model"])]) for result in results]


def render_markdown(results: Sequence[Result], title: str = "Word error rates") -> str:
    """A Markdown page: the table, and how it was measured."""
    lines = [f"# {title}", "", markdown_table(COLUMNS, format_rows(results)), ""]
    normalizers = sorted({f"{result['normalizer']}" for result in results})
    lines += [
        f"WER after the normalizer `{'`, `'.join(normalizers)}`, with 95 % intervals by bootstrap over utterances. "
        "Encoder and decoder times are medians at batch 1 (per 30-second window, per token); RTF is computing time "
        "over audio time for the set, batched.",
    ]
    return "\n".join(lines) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns from the third on are aligned to the right."""
    rule = ["---" if index < 2 else "---:" for index in range(len(columns))]
    lines = ([*columns], rule, *([cell.replace("|", "\\|") for cell in row] for row in rows))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Paths by their last part, or by as many of the last parts as tell them apart; names as they are."""
    parts = {name: [part for part in name.replace("\\", "/").split("/") if part] or [name] for name in names}
    for depth in range(1, max((len(path_parts) for path_parts in parts.values()), default=0) + 1):
        short = {name: "/".join(path_parts[-depth:]) for name, path_parts in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in parts}


def _format_row(result: Result, model: str) -> list[str]:
    edits = "/".join(str(result[key]) for key in ("substitutions", "deletions", "insertions"))
    return [
        model,
        str(result.get("dataset", result["manifest"])),
        _format_number(result["wer"], 1),
        f"{_format_number(result['wer_low'], 1)}–{_format_number(result['wer_high'], 1)}",
        _format_number(result.get("cer"), 1),
        edits,
        str(result["words"]),
        _format_number(result.get("parameters"), 1, 1e6),
        _format_number(result.get("encoder_ms_per_window"), 0),
        _format_number(result.get("decoder_ms_per_token"), 1),
        _format_number(result.get("real_time_factor"), 3),
    ]


def _format_number(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
