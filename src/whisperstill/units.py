"""Sizes of Whisper's input and output, derived from each other by exact division.

`exact_div` fails at import if a changed constant no longer divides evenly.
"""


def exact_div(numerator: int, denominator: int) -> int:
    """`numerator / denominator`; `ValueError` when it is not an integer."""
    quotient, remainder = divmod(numerator, denominator)
    if remainder:
        raise ValueError(f"expected a multiple of {denominator}, got {numerator}")
    return quotient


SAMPLE_RATE = 16_000  # samples per second, mono
WINDOW_SECONDS = 30  # one input of the encoder
WINDOW_SAMPLES = WINDOW_SECONDS * SAMPLE_RATE  # 480 000
FFT_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms between frames
WINDOW_FRAMES = exact_div(WINDOW_SAMPLES, HOP_SAMPLES)  # 3000
WINDOW_POSITIONS = exact_div(WINDOW_FRAMES, 2)  # 1500: the second convolution has stride 2
SAMPLES_PER_POSITION = exact_div(WINDOW_SAMPLES, WINDOW_POSITIONS)  # 320: one timestamp step
TIMESTAMP_STEP_SECONDS = SAMPLES_PER_POSITION / SAMPLE_RATE  # 0.02 s
TIMESTAMP_TOKENS = WINDOW_POSITIONS + 1  # <|0.00|> ... <|30.00|>
MAX_TARGET_POSITIONS = 448  # decoder positions: prompt and output together
MAX_PROMPT_TOKENS = exact_div(MAX_TARGET_POSITIONS, 2) - 1  # 223: previous text before the start tokens
MAX_NEW_TOKENS = exact_div(MAX_TARGET_POSITIONS, 2)  # 224: maximum output of a window
