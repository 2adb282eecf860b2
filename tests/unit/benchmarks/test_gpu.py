"""The GPU benchmark: what it reports, also where a section fails or there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.outcomes import Check, Measure, Outcome, SectionResult, Skip, below, dump, load, write_tables
from tests.support.source import ROOT

OUTCOMES: list[Outcome] = [
    below("largest difference", 0.5, 0.1),
    Measure("copy", 1234.5, "GB/s", 0.02),
    Check("layer", True, "a", "a"),
    Skip("two GPUs", "this machine has 1"),
]


def test_outcomes_pass_from_process_to_process() -> None:
    """What a section found is the same after it was written and read."""
    assert load(dump(OUTCOMES)) == OUTCOMES


def test_a_failed_check_and_a_dead_section_are_named(tmp_path: Path) -> None:
    """Both tables and the exit status tell a check that fails and a section that did not end."""
    results = [SectionResult("embeddings", 1.0, OUTCOMES, ""), SectionResult("head", 9.0, [], "stopped after 9 s")]
    text = write_tables(tmp_path, "a machine", results)

    assert [result.ok for result in results] == [False, False]
    assert SectionResult("layers", 1.0, OUTCOMES[1:], "").ok
    assert "| largest difference | 0.5 | below 0.1 | **fails** |" in text
    assert "| head | stopped after 9 s | ends well | **fails** |" in text
    assert "| layer | a | a | ok |" in text
    assert "| two GPUs | this machine has 1 | | skipped |" in text
    assert "| copy | 1,234 GB/s (+-2 %) |" in text
    assert (tmp_path / "gpu.md").read_text() == text
    assert json.loads((tmp_path / "gpu.json").read_text())["sections"][1]["problem"] == "stopped after 9 s"


@pytest.mark.slow
def test_a_section_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The sections run on a CPU too, with little work, and their outcomes reach the files."""
    found = _run("--device", "cpu", "--small", "--out", str(tmp_path), "head", "ranks")

    assert found.returncode == 0, found.stderr
    text = (tmp_path / "gpu.md").read_text()
    assert "| head: strength as on the CPU |" in text
    assert text.count("| fine-tune, two GPUs against one: ") == 2


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    """Where torch sees no CUDA device, the benchmark says that it is skipped, and succeeds."""
    found = _run("--out", str(tmp_path))

    assert found.returncode == 0
    assert found.stdout == "bench-gpu: skipped, because torch sees no CUDA device here\n"
    assert not list(tmp_path.iterdir())


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
