"""The picture of a training run, with matplotlib: losses above, agreement and word error rate below."""

from pathlib import Path

from whisperstill.distill.metrics import read_metrics
from whisperstill.plotting import new_figure, save_png, use_log_scale


def plot_training_curve(metrics_path: Path, image_path: Path) -> None:
    """Draw `metrics.jsonl` as PNG. Raises `MissingExtraError` without matplotlib."""
    lines = read_metrics(metrics_path)
    steps = [line for line in lines if "loss" in line]
    labeled = [line for line in steps if line.get("tokens", 1)]  # steps that trained on pseudo-labels
    validations = [line for line in lines if "validation_wer" in line]
    has_hidden_loss = any(line["hidden"] for line in steps)
    figure = new_figure(6.4, 6.4 if has_hidden_loss else 5.0, "a picture of the training")
    axes = figure.subplots(2 + has_hidden_loss, sharex=True)
    loss_ax, rate_ax = axes[0], axes[-1]
    curves = [
        (loss_ax, labeled, "cross_entropy", "pseudo-label loss", "#3182bd"),
        (loss_ax, steps, "kl", "KL loss", "#e6550d"),
        (axes[1], steps, "hidden", "squared error of last hidden states", "#756bb1"),
        (rate_ax, labeled, "token_accuracy", "agreement with labels, %", "#31a354"),
        (rate_ax, validations, "validation_wer", "validation WER, %", "#a63603"),
    ]
    for ax, points, key, title, color in curves:
        is_drawn = validations if key == "validation_wer" else any(line[key] for line in steps)
        if is_drawn:
            x = [line["step"] for line in points]
            y = [line[key] * (100 if key == "token_accuracy" else 1) for line in points]
            ax.plot(x, y, color=color, marker="o" if key == "validation_wer" else None, label=title)
    for ax, label in ((loss_ax, "nats per token"), *([(axes[1], "mean square")] if has_hidden_loss else [])):
        use_log_scale(ax, "y")
        ax.set_ylabel(label)
    rate_ax.set_ylim(0, 100)
    rate_ax.set_xlabel("step")
    rate_ax.set_ylabel("%")
    for ax in axes:
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="center right" if ax is rate_ax else "upper right", frameon=False)
        ax.grid(alpha=0.25)
    save_png(figure, image_path)
