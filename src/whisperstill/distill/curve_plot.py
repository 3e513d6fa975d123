"""The picture of a training run, with matplotlib: losses above, validation word error rate below."""

from pathlib import Path

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
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    losses, agreement = figure.subplots(2, sharex=True)
    for key, name, colour in SERIES:
        if any(line[key] for line in steps):
            losses.plot([line["step"] for line in steps], [line[key] for line in steps], color=colour, label=name)
    losses.set_yscale("log")
    losses.set_ylabel("nats a token")
    if any(line["hidden"] for line in steps):
        distance = losses.twinx()
        distance.plot([line["step"] for line in steps], [line["hidden"] for line in steps], color="#756bb1", ls="--")
        distance.set_yscale("log")
        distance.set_ylabel("squared error of hidden states (dashed)", color="#756bb1")
    if losses.get_legend_handles_labels()[0]:
        losses.legend(loc="upper right", frameon=False)
    if any(line["agreement"] for line in steps):
        share = [100 * line["agreement"] for line in steps]
        agreement.plot([line["step"] for line in steps], share, color="#31a354", label="agreement with labels, %")
    if checks:
        agreement.plot(
            [line["step"] for line in checks],
            [line["validation_wer"] for line in checks],
            color="#a63603",
            marker="o",
            label="validation WER, %",
        )
    agreement.set_ylim(0, 100)
    agreement.set_xlabel("step")
    agreement.set_ylabel("%")
    if agreement.get_legend_handles_labels()[0]:
        agreement.legend(loc="center right", frameon=False)
    with whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png", metadata={"Software": None})
