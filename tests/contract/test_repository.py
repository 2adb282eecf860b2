"""The repository keeps what its first pages promise."""

import ast
import itertools
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from headstart.predict.commands import export, predict, serve
from headstart.revisions import command as compare
from stages.finetune.params import FinetuneParams
from tests.support.source import ROOT, imported_modules, modules, tracked_files

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FILES = [ROOT / name for name in tracked_files()]
PAGES = [file for file in FILES if file.suffix == ".md" and "stages" not in file.parts]
COMMANDS = sorted({
    line.split("  #")[0].strip()
    for page in PAGES
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
})  # fmt: skip
EXECUTED = {
    "remote add",
    "push",
    "metrics show",
    "params diff",
    "plots show",
    "exp run",
    "exp show",
    "dag",
    "repro",
    "stage list",
    "artifacts get",
}
PARSERS: dict[str, Callable[[list[str]], object]] = {
    "compare": compare.parse,
    "predict": predict.parse,
    "export": export.parse,
    "serve": serve.parse,
}


def test_the_pages_have_commands() -> None:
    """The commands are found at all: the other tests would pass on an empty list."""
    assert {"make", "make test", "make docs", "make wheel"} <= set(COMMANDS)
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_pages_exist(command: str) -> None:
    """Each names a make target, a DVC command that the tests run, or a part of the environment."""
    words = shlex.split(command.rsplit("| ", maxsplit=1)[-1])
    match words[0]:
        case "make":
            for target in [word for word in words[1:] if "=" not in word]:
                assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE)
        case "dvc":
            assert any(command.startswith(f"dvc {known}") for known in EXECUTED)
        case "python":
            assert words[1:3] == ["-m", "headstart"]
            if words[3] == "store":
                assert words[4] in ("stat", "verify", "gc", "prune")  # run by the tests of the store
            else:
                PARSERS[words[3]](words[4:])  # exits if it does not know the words
        case "torchrun":
            assert words[-1] in ("stages.extract", "stages.finetune")  # run by the tests of several processes
        case _:
            assert command.startswith(("git tag ", "curl ", "find ")) or command in (
                "source .venv/bin/activate",
                "git clone <this repository> headstart && cd headstart",
            )


@pytest.mark.parametrize("command", [command for command in COMMANDS if "-S" in command])
def test_params_of_the_pages_exist(command: str) -> None:
    """Every key set in an example is a key of params.yaml."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    words = shlex.split(command)
    for flag, setting in itertools.pairwise(words):
        if flag == "-S":
            section: Any = params
            for key in setting.split("=")[0].split("."):
                assert key in section
                section = section[key]


def test_the_preset_is_the_tutorial_to_the_letter() -> None:
    """`make tutorial` sets valid params: SGD 0.001 with momentum 0.9, StepLR 7 and 0.1, batches of 4, 25 epochs."""
    content: Any = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    spec = MAKEFILE.split("\ntutorial:")[1].split("\n\n")[0]
    for key, value in re.findall(r"-S ([\w.]+)=(\S+)", spec):
        section = content
        for name in key.split(".")[:-1]:
            section = section[name]
        section[key.split(".")[-1]] = YAML(typ="safe").load(value)
    params = FinetuneParams(**content["finetune"])
    optimizer, schedule = params.optimizer, params.schedule

    assert (optimizer.kind, optimizer.backbone_rate, optimizer.head_rate, optimizer.momentum) == (
        "sgd",
        1e-3,
        1e-3,
        0.9,
    )
    assert (optimizer.layer_decay, optimizer.weight_decay, optimizer.clip) == (1, 0, None)
    assert (schedule.kind, schedule.step_epochs, schedule.gamma, schedule.warmup_epochs) == ("step", 7, 0.1, 0)
    assert (params.batch, params.epochs, params.init, params.unfreeze, params.batch_norm) == (
        4,
        25,
        "random",
        "all",
        "train",
    )
    assert (params.augmentation.kind, params.augmentation.min_area) == ("crop", 0.08)


def test_links_of_the_pages_lead_somewhere() -> None:
    """Every relative link in the Markdown pages is a file of the project."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short_and_prose_is_narrow() -> None:
    """A stranger reads the README in one go; no line of prose in any page is wider than 120 columns."""
    assert len(README.splitlines()) <= 150
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        wide = [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
        assert [line for line in wide if "](http" not in line] == [], page


def test_the_private_words_are_gone() -> None:
    """Code and pages use the words of the field (docs/glossary.md): no rooms, taps, ledgers or knobs."""
    words = re.compile(r"\b(?:rooms?|ledgers?|knobs?|taps?)\b", flags=re.IGNORECASE)
    files = [*modules(), *PAGES, ROOT / "params.yaml", ROOT / "dvc.yaml", ROOT / "Makefile"]
    # An earlier version wrote stores and params with taps; the changelog tells what it called things.
    library = ROOT / "headstart"
    exempt = {library / "store" / "upkeep.py", library / "base" / "params.py", ROOT / "CHANGELOG.md"}
    found = {str(file.relative_to(ROOT)): words.findall(file.read_text(encoding="utf-8")) for file in files}

    assert {name: hits for name, hits in found.items() if hits and ROOT / name not in exempt} == {}


def test_the_library_is_never_installed_here() -> None:
    """Stages import the copy beside them, also in DVC's temporary workspaces. An installed one would be another."""
    with pytest.raises(PackageNotFoundError):
        distribution("headstart")


def test_ci_calls_the_readmes_commands() -> None:
    """CI runs what the README tells a stranger to run."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    targets = [line for line in script if line.startswith("make")]

    assert targets == ["make", "make check", "make test", "make docs", "make wheel"]
    assert set(targets) <= set(COMMANDS)


@pytest.mark.parametrize("target", ["repro", "sweep", "tutorial"])
def test_targets_that_need_git_say_so_first(tmp_path: Path, target: str) -> None:
    """Outside a git repository, a target that runs DVC prints one line with the way out and installs nothing."""
    (tmp_path / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    done = subprocess.run(["make", "--silent", target], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stdout.startswith("make: DVC needs a git repository, and this folder is none. Run: git init")
    assert len(done.stdout.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["Makefile"]


@pytest.mark.parametrize("target", ["repro", "sweep"])
def test_targets_on_the_built_in_data_write_it(tmp_path: Path, target: str) -> None:
    """A clone has no data/digits: the targets that run the pipeline on it write it before anything else."""
    (tmp_path / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    (tmp_path / ".git").touch()
    for name in ("requirements.txt", "requirements-uv.txt", ".venv/installed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    command = ["make", "--silent", "--dry-run", target, "BACKBONES=resnet18"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("python -m") or " dvc " in f" {line}"]

    assert lines[0] == "python -m stages.datasets.digits"
    assert len(lines) > 1


def test_no_registry_is_named() -> None:
    """Nobody's package registry is committed: the lock works with whatever registry a machine has."""
    hosts = re.compile(rb"pypi\.org|pythonhosted|index-url|extra-index|find-links")
    found = [file.name for file in FILES if hosts.search(file.read_bytes()) and file != Path(__file__)]

    assert found == []


def test_the_lock_pins_every_package_by_hash() -> None:
    """Each requirement has an exact version and hashes, and each direct dependency is among them."""
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    pinned = {block.split("==")[0].split("[")[0].lower(): block for block in blocks if not block.startswith("#")}
    for name, block in pinned.items():
        assert re.match(r"\S+==\S+", block), name
        assert "--hash=sha256:" in block, name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    direct = [*project["project"]["dependencies"], *itertools.chain(*project["dependency-groups"].values())]
    assert {re.split(r"[<>=]", name)[0].lower().replace(".", "-") for name in direct} <= set(pinned)


def test_dvc_is_quiet_and_stages_its_files() -> None:
    """No analytics, no update checks; dvc.lock is staged without being asked."""
    config = (ROOT / ".dvc" / "config").read_text(encoding="utf-8").replace(" ", "")

    assert {"analytics=false", "check_update=false", "autostage=true"} <= set(config.splitlines())


def test_results_and_caches_are_ignored_by_git() -> None:
    """What runs leave behind never shows up in `git status`."""
    for name in ("data/my_photos/a.jpg", "dvc_plots/index.html", ".cache/x", ".venv/x", "features/features.h5",
                 "models/head/config.json", "predictions/head.csv", "plots/head/roc.csv"):  # fmt: skip
        assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT).returncode == 0, name
    for name in ("data/label_fixes/digits.csv", "metrics/head.json", "dvc.lock"):
        assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT).returncode == 1, name


def test_no_unsafe_loading() -> None:
    """No module that runs code from data is imported, and torch.load is told weights_only wherever it is called."""
    for file in modules():
        assert not {"pickle", "joblib", "dill", "marshal", "shelve"} & set(imported_modules(file)), file
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert options.get("allow_pickle") != "True", file
                if ast.unparse(node.func) == "torch.load":
                    assert options["weights_only"] == "True", file
                assert ast.unparse(node.func).rsplit(".")[-1] not in ("extractall", "exec"), file
