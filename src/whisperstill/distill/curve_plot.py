"""The picture of a training run, with matplotlib: losses above, agreement and word error rate below."""

from pathlib import Path

from whisperstill.distill.metrics import read_metrics
from whisperstill.plotting import new_figure, save_png, use_log_scale

LOSS_CURVES = (
    ("cross_entropy", "pseudo-label loss", "#3182bd"),
    ("kl", "KL loss", "#e6550d"),
)


def plot_training_curve(metrics_path: Path, image_path: Path) -> None:
    """Draw `metrics.jsonl` as PNG. Raises `MissingExtraError` without matplotlib."""
    lines = read_metrics(metrics_path)
    step_lines = [line for line in lines if "loss" in line]
    validation_lines = [line for line in lines if "validation_wer" in line]
    step_numbers = [line["step"] for line in step_lines]
    labeled_lines = [
        line for line in step_lines if line.get("tokens", 1)
    ]  # else the student's own words alone were learnt from
    has_hidden_loss = any(line["hidden"] for line in step_lines)
    figure = new_figure(6.4, 6.4 if has_hidden_loss else 5.0, "a picture of the training")
    axes = figure.subplots(2 + has_hidden_loss, sharex=True)
    loss_ax, rate_ax = axes[0], axes[-1]
    for key, title, color in LOSS_CURVES:
        if any(line[key] for line in step_lines):
            plotted_lines = labeled_lines if key == "cross_entropy" else step_lines
            loss_ax.plot(
                [line["step"] for line in plotted_lines],
                [line[key] for line in plotted_lines],
                color=color,
                label=title,
            )
    use_log_scale(loss_ax, "y")
    loss_ax.set_ylabel("nats per token")
    if has_hidden_loss:
        axes[1].plot(
            step_numbers,
            [line["hidden"] for line in step_lines],
            color="#756bb1",
            label="squared error of last hidden states",
        )
        use_log_scale(axes[1], "y")
        axes[1].set_ylabel("mean square")
    if any(line["token_accuracy"] for line in step_lines):
        token_accuracy = [100 * line["token_accuracy"] for line in labeled_lines]
        rate_ax.plot(
            [line["step"] for line in labeled_lines], token_accuracy, color="#31a354", label="agreement with labels, %"
        )
    if validation_lines:
        rate_ax.plot(
            [line["step"] for line in validation_lines],
            [line["validation_wer"] for line in validation_lines],
            color="#a63603",
            marker="o",
            label="validation WER, %",
        )
    rate_ax.set_ylim(0, 100)
    rate_ax.set_xlabel("step")
    rate_ax.set_ylabel("%")
    for ax in axes:
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="center right" if ax is rate_ax else "upper right", frameon=False)
        ax.grid(alpha=0.25)
    save_png(figure, image_path)
