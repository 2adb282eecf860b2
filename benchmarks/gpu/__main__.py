"""Check and measure everything that runs on a GPU, offline, and write gpu.json and gpu.md.

python -m benchmarks.gpu [--checks-only] [--device cuda] [--out FOLDER] [--small] [SECTION ...]
"""

import argparse
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.outcomes import Outcome, SectionResult, dump, load, write_tables
from benchmarks.rounds import machine

_TOTAL_SECONDS = 540


@dataclass(frozen=True)
class Section:
    """A part of the benchmark, which runs in a process of its own.

    Attributes:
        function: Module below `benchmarks.gpu` and name of the function.
        is_check: Whether it checks; else it measures.
        deadline: Seconds after which it is stopped.
    """

    function: str
    is_check: bool
    deadline: int


SECTIONS = {
    "embeddings": Section("checks.embeddings", True, 90),
    "resize": Section("checks.resize", True, 45),
    "batches": Section("checks.batches", True, 45),
    "out_of_memory": Section("checks.out_of_memory", True, 60),
    "training": Section("training_checks.training", True, 240),
    "ranks": Section("rank_checks.ranks", True, 150),
    "head": Section("checks.head", True, 75),
    "predict": Section("checks.predict", True, 75),
    "machine": Section("measures.machine", False, 30),
    "forward": Section("measures.forward", False, 90),
    "decoding": Section("measures.decoding", False, 45),
    "extraction": Section("measures.extraction", False, 240),
    "finetuning": Section("measures.finetuning", False, 240),
    "head_fit": Section("measures.head_fit", False, 90),
}


def main() -> None:
    """Run the sections one after the other; exit with 1 if a check fails."""
    parser = argparse.ArgumentParser(description="Check and measure what runs on a GPU.")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="only these")
    parser.add_argument("--checks-only", action="store_true", help="no measures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path(".cache/gpu"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--small", action="store_true", help="little work, to see that every section runs")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.section:
        _run_here(given.section, given.device, given.scratch, is_small=given.small)
        return
    import torch

    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("bench-gpu: skipped, because torch sees no CUDA device here")
        return
    start, results = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.sections or SECTIONS:
            if given.checks_only and not SECTIONS[name].is_check:
                continue
            left = _TOTAL_SECONDS - (time.monotonic() - start)
            options = ["--device", given.device, "--scratch", scratch, *(["--small"] if given.small else [])]
            results.append(_run_apart(name, options, min(left, SECTIONS[name].deadline), Path(scratch)))
            given.out.mkdir(parents=True, exist_ok=True)
            text = write_tables(given.out, _describe_machine(given.device), results)  # each time: nothing is lost
    print(text)
    sys.exit(0 if all(result.ok for result in results) else 1)


def _run_apart(name: str, options: list[str], deadline: float, scratch: Path) -> SectionResult:
    """Run a section in a process of its own, so that neither its memory nor its death touches the others."""
    print(f"bench-gpu: {name}", flush=True)
    path, start = scratch / f"{name}.json", time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--section", name, *options]
    environment = os.environ | {"DVC_ROOT": str(scratch)}  # checkpoints
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            problem = "" if process.wait(max(deadline, 1)) == 0 else f"ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            problem = f"stopped after {deadline:.0f} s"
    outcomes = load(path.read_text()) if path.exists() else []
    seconds = time.monotonic() - start
    print(f"bench-gpu: {name}: {seconds:.0f} s {problem}", flush=True)
    return SectionResult(name, seconds, outcomes, problem)


def _run_here(name: str, device: str, scratch: Path, *, is_small: bool) -> None:
    from benchmarks.gpu.lab import Lab

    module, _, function = SECTIONS[name].function.partition(".")
    outcomes: list[Outcome] = []
    for outcome in getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(
        Lab(device, scratch, is_small)
    ):
        outcomes.append(outcome)
        print(f"  {outcome}", flush=True)
        (scratch / f"{name}.json").write_text(dump(outcomes))


def _describe_machine(device: str) -> str:
    import torch

    if not device.startswith("cuda"):
        return f"{machine()}, torch {torch.__version__}"
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    return f"{torch.cuda.get_device_name(0)}, {libraries}, {machine()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
