"""Check the wheel as a stranger would use it: `python -m tests.support.wheel FOLDER`, run by `make wheel`.

The wheel in the folder is installed in a new environment outside the checkout, with the versions of the lock. There the
command `headstart` predicts photos with a bundle, and must print exactly what the checkout prints.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.source import ROOT

BUNDLE, PHOTOS = ROOT / "models" / "head", ROOT / "data" / "digits" / "3"


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without the checkout on Python's path, and return what it printed.

    Raises:
        SystemExit: The command failed. The message has its output.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"wheel: {' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Install the wheel, predict with it and with the checkout, and compare what both print."""
    (wheel,) = Path(sys.argv[1]).resolve().glob("headstart-*.whl")
    if not (BUNDLE / "config.json").is_file() or not PHOTOS.is_dir():
        sys.exit(f"wheel: {BUNDLE} or {PHOTOS} is missing. Run: make")
    uv = Path(sys.executable).parent / "uv"
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = Path(folder)
        run(uv, "venv", "--quiet", "--python", sys.executable, elsewhere / "venv", cwd=elsewhere)
        python, command = elsewhere / "venv" / "bin" / "python", elsewhere / "venv" / "bin" / "headstart"
        versions = elsewhere / "versions.txt"
        versions.write_text(run(uv, "pip", "freeze", "--quiet", "--python", sys.executable, cwd=elsewhere))
        run(uv, "pip", "install", "--quiet", "--python", python, "--constraint", versions, wheel, cwd=elsewhere)
        words = ("predict", BUNDLE, PHOTOS, "--format", "jsonl", "--top", "10")
        installed = run(command, *words, cwd=elsewhere)
        run(command, "--help", cwd=elsewhere)
        estimator = "from headstart.predict.estimator import BundleClassifier"
        run(python, "-c", f"{estimator}; import sys; assert not {{'dvc', 'fastapi'}} & set(sys.modules)", cwd=elsewhere)
    checkout = run(sys.executable, "-m", "headstart", *words, cwd=ROOT)
    if installed != checkout:
        sys.exit("wheel: the installed command and the checkout give other predictions")
    print(f"wheel: {wheel.name} predicts {len(installed.splitlines())} photos as the checkout does, bit for bit")


if __name__ == "__main__":
    main()
