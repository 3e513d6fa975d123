"""The picture of a training run, with matplotlib: losses above, agreement and word error rate below."""

from pathlib import Path
from typing import Any

from whisperstill.distill.metrics import read_metrics
from whisperstill.errors import MissingExtraError
from whisperstill.files import whole

SERIES = (
    ("cross_entropy", "pseudo-label loss", "#3182bd"),
    ("kl", "KL loss", "#e6550d"),
)


def plot(metrics: Path, picture: Path) -> None:
    """Draw `metrics.jsonl` as PNG. Raises `MissingExtraError` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a picture of the training", "plots") from error

    lines = read_metrics(metrics)
    steps = [line for line in lines if "loss" in line]
    checks = [line for line in lines if "validation_wer" in line]
    at = [line["step"] for line in steps]
    labelled = [line for line in steps if line.get("tokens", 1)]  # else the student's own words alone were learnt from
    with_hidden = any(line["hidden"] for line in steps)
    figure = Figure(figsize=(6.4, 6.4 if with_hidden else 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 + with_hidden, sharex=True)
    losses, rates = panels[0], panels[-1]
    for key, name, colour in SERIES:
        if any(line[key] for line in steps):
            seen = labelled if key == "cross_entropy" else steps
            losses.plot([line["step"] for line in seen], [line[key] for line in seen], color=colour, label=name)
    _logarithmic(losses, "nats a token")
    if with_hidden:
        panels[1].plot(
            at, [line["hidden"] for line in steps], color="#756bb1", label="squared error of last hidden states"
        )
        _logarithmic(panels[1], "mean square")
    if any(line["agreement"] for line in steps):
        agreement = [100 * line["agreement"] for line in labelled]
        rates.plot([line["step"] for line in labelled], agreement, color="#31a354", label="agreement with labels, %")
    if checks:
        rates.plot(
            [line["step"] for line in checks],
            [line["validation_wer"] for line in checks],
            color="#a63603",
            marker="o",
            label="validation WER, %",
        )
    rates.set_ylim(0, 100)
    rates.set_xlabel("step")
    rates.set_ylabel("%")
    for panel in panels:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(loc="center right" if panel is rates else "upper right", frameon=False)
        panel.grid(alpha=0.25)
    with whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png", metadata={"Software": None})


def _logarithmic(panel: Any, unit: str) -> None:
    """A logarithmic axis with plain numbers (0.5, 1, 2, 5, 10) on it."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_ylabel(unit)
