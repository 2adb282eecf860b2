"""The pages name what is there: files, modules, params, the identifiers of the recipes, the stages and their arrows."""

import ast
import itertools
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from docs.conf import cli_page
from headstart.__main__ import COMMANDS
from tests.support.source import ROOT, modules, tracked_files

PAGES = [ROOT / name for name in tracked_files() if name.startswith("docs/") and name.endswith(".md")]
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PARAMS: dict[str, Any] = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
TRACKED = {str(place) for name in tracked_files() for place in (Path(name), *Path(name).parents)}
SUFFIXES = (".csv", ".h5", ".html", ".json", ".lock", ".md", ".onnx", ".pt", ".py", ".safetensors", ".toml", ".yaml")
# Folders that git ignores, where runs and users put files.
IGNORED = (".cache", ".venv", "data", "dist", "docs/_build", "dvc_plots", "weights")
# Paths inside a data set of the reader's own, a name of timm's, and the schemas of two files.
EXAMPLES = {"animal/cat", "animal/cat/x.jpg", "labels.csv", "timm/<name>", "val/"}
EXAMPLES |= {"headstart.bundle/4", "headstart.features/3"}
# Tensors in a bundle, which are called like sections of params.yaml.
TENSORS = {"head.bias", "head.weight"}
# Words of the data in the part of the architecture page whose other single words in backticks are modules.
WORDS = {"layer", "ok", "repaired", "ship", "similarity", "size", "textContent", "train", "unknown", "val"}


def by_track(stage: str, names: list[Any]) -> set[str]:
    """Return the paths in a list of dvc.yaml; of a stage for each track, those of both tracks."""
    paths = [name if isinstance(name, str) else next(iter(name)) for name in names]
    return {path.replace("${item}", item) for path in paths for item in STAGES[stage].get("foreach", [""])}


def outputs_of(stage: str) -> set[str]:
    """Return the files and folders that a stage writes."""
    content = STAGES[stage].get("do", STAGES[stage])
    return by_track(stage, [*content["outs"], *content.get("metrics", [])])


def deps_of(stage: str) -> set[str]:
    """Return what a stage reads."""
    return by_track(stage, STAGES[stage].get("do", STAGES[stage])["deps"])


OUTPUTS = set().union(*map(outputs_of, STAGES))


def words_of(page: str) -> Iterator[str]:
    """Give each text in backticks outside code blocks that has no spaces."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    yield from (word for word in re.findall(r"`([^`\n]+)`", text) if " " not in word)


def is_path(word: str) -> bool:
    """Whether a word names a file or a folder of the project, not an address or a place of the user's own."""
    return ("/" in word or word.endswith(SUFFIXES)) and not word.startswith(("/", "~", "<")) and word not in EXAMPLES


@cache
def file_names_in_code() -> set[str]:
    """Return the last part of every path that the code has as a string."""
    nodes = [node for file in modules() for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {text.rsplit("/", 1)[-1] for text in texts if text.endswith(SUFFIXES)}


def exists(path: str) -> bool:
    """Whether a path is in git (whole, or its end), is an output of DVC, or is made by a run."""
    pattern = re.sub(r"<[^>]+>", "*", path.rstrip("/"))
    places = TRACKED | OUTPUTS | {str(Path(out).parent) for out in OUTPUTS}
    if any(fnmatchcase(f"/{name}", f"*/{one}") for name in places for one in (pattern, f"{pattern}.py")):
        return True
    if any(Path(path).is_relative_to(folder) for folder in IGNORED):
        name = path if Path(path).suffix else f"{path}/"  # .gitignore may say that it means folders
        return subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT).returncode == 0
    in_output = "/" not in path or any(Path(path).is_relative_to(out) for out in OUTPUTS)
    return in_output and Path(path).name in file_names_in_code()


def is_defined(name: str, module: Path) -> bool:
    """Whether a module defines a name: a function, a class, a variable, or a field of a class (`Class.field`)."""
    return _defined(name.split("."), ast.parse(module.read_text(encoding="utf-8")).body)


def _defined(names: list[str], body: list[ast.stmt]) -> bool:
    """Whether the statements of a module or of a class define the first name, and inside it the others."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == names[0]:
            return len(names) == 1 or _defined(names[1:], node.body)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if len(names) == 1 and any(ast.unparse(target) == names[0] for target in targets):
            return True
    return False


def drawn_dag() -> set[tuple[str, str]]:
    """Return the arrows of the README's picture of the pipeline, `images` left out, as pairs of stages."""
    picture = README.split("```mermaid")[1].split("```")[0]
    arrows = set()
    for line in picture.splitlines():
        names = [re.sub(r"\W.*", "", name.strip()) for name in line.split("-->")]
        arrows |= set(itertools.pairwise(names))
    return {(left, right) for left, right in arrows if left != "images"}


def true_dag() -> set[tuple[str, str]]:
    """Return the pairs of stages of which the second reads an output of the first, but for those that others imply."""
    readers = {
        name: {
            other
            for other in STAGES
            if any(Path(dep).is_relative_to(out) for dep in deps_of(other) for out in outputs_of(name))
        }
        for name in STAGES
    }

    def after(name: str) -> set[str]:
        return readers[name].union(*map(after, readers[name]))

    return {(name, other) for name in STAGES for other in readers[name] - set().union(*map(after, readers[name]))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_of_the_pages_exist(page: Path) -> None:
    """Every file and folder that a page names is in git, or is made by a run."""
    words = {word for word in words_of(page.read_text(encoding="utf-8")) if is_path(word)}

    assert [word for word in sorted(words) if not exists(word)] == []


def test_most_pages_name_paths() -> None:
    """The paths are found at all: the test above would pass on an empty list."""
    found = [word for page in PAGES for word in words_of(page.read_text(encoding="utf-8")) if is_path(word)]

    assert len(found) > 150
    assert not exists("headstart/base/nothing.py")
    assert not exists("models/nothing.json")
    assert not exists("data/nothing.csv")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_dotted_names_of_the_pages_exist(page: Path) -> None:
    """A dotted name of our packages is a module, or something that a module defines."""
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"(?<![\w/.-])(?:headstart|stages|benchmarks|tests)(?:\.\w+)+(?![\w/])", text)):
        parts = name.split(".")
        lengths = [
            size for size in range(len(parts), 1, -1) if ROOT.joinpath(*parts[:size]).with_suffix(".py").is_file()
        ]
        if lengths and parts[lengths[0] :]:
            assert is_defined(".".join(parts[lengths[0] :]), ROOT.joinpath(*parts[: lengths[0]]).with_suffix(".py")), (
                name
            )
        else:
            assert lengths or ROOT.joinpath(*parts).is_dir() or exists(name) or parts[1] == "x", name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_params_in_the_text_exist(page: Path) -> None:
    """Every `section.key` in the text of a page is a key of params.yaml; `section.*` stands for all of them."""
    for word in words_of(page.read_text(encoding="utf-8")):
        match = re.match(r"(\w+)((?:\.\w+)+)(?=[=:]|$)", word)
        if match and match[1] in PARAMS and not is_path(word) and word not in TENSORS:
            section = PARAMS
            for key in word.split("=")[0].rstrip(":").split("."):
                assert key in section, word
                section = section[key]


def test_the_architecture_page_names_modules() -> None:
    """In its part on each stage, every single word in backticks is a module of that stage or of the library."""
    text = ARCHITECTURE.split("## Inside each stage")[1].split("\n## ")[0]
    library = {part for file in (ROOT / "headstart").rglob("*.py") for part in (file.stem, file.parent.name)}
    for paragraph in text.strip().split("\n\n"):
        heading = paragraph.split("**")[1] if paragraph.startswith("**") else ""
        folders = [ROOT / "stages" / name for name in re.findall(r"`(\w+)`", heading)] or [ROOT / "stages"]
        own = {file.stem for folder in folders for file in folder.rglob("*.py")}
        words = {word for word in words_of(paragraph) if word.isidentifier()}

        assert words - library - own - set(STAGES) - WORDS == set(), paragraph[:60]


def test_identifiers_of_the_recipes_are_defined_where_they_say() -> None:
    """A name in a recipe is defined in the module that its sentence names next, else in the one that was named last."""
    recipes = CONTRIBUTING.split("## Recipes\n")[1].strip().split("\n\n")
    # Stages, keys of an entry in dvc.yaml, sections of params.yaml, make targets.
    others = {*STAGES, *STAGES["report"], *PARAMS, *re.findall(r"^([\w-]+):", MAKEFILE, flags=re.MULTILINE)}
    found = []
    for recipe in recipes:
        modules_named = [(at.start(), at[1]) for at in re.finditer(r"`((?:\w+/)+(?:\w+\.py)?)`", recipe)]
        for at in re.finditer(r"`(\w+(?:\.\w+)*)`", recipe):
            name = at[1]
            if name.split(".")[0] in others or is_path(name):
                continue
            end = re.compile(r"\.\s").search(recipe, at.end())
            after = [path for start, path in modules_named if at.end() < start < (end.start() if end else len(recipe))]
            before = [path for start, path in modules_named if start < at.start()]
            assert after or before, f"{name}: the recipe names no module that defines it: {recipe[:60]}"
            place = ROOT / (after[0] if after else before[-1])
            files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
            found.append(name)

            assert any(is_defined(name, file) for file in files), f"{name} in {place.relative_to(ROOT)}: {recipe[:60]}"
    assert len(recipes) >= 12
    assert len(found) >= 15


def test_the_picture_of_the_pipeline_is_true() -> None:
    """The README draws exactly the stages of dvc.yaml and the arrows between them, but for those that others imply."""
    assert drawn_dag() == true_dag()
    assert {name for arrow in drawn_dag() for name in arrow} == set(STAGES)


def test_the_tables_of_stages_are_true() -> None:
    """The README's table has every stage; the architecture page's table has every stage with exactly its outputs."""
    rows = [line for line in README.split("| stage |")[1].split("\n\n")[0].splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(STAGES)

    rows = [line for line in ARCHITECTURE.split("| stage |")[1].split("\n\n")[0].splitlines() if line.startswith("| `")]
    written = {}
    for row in rows:
        _, names, _, writes, *_ = row.split("|")
        stage = re.findall(r"`(\w+)", names)[0]
        paths = [path.rstrip("/") for path in re.findall(r"`([^`]+)`", writes)]
        written[stage] = {path.replace("<track>", track) for path in paths for track in ("head", "finetune")}
    assert written == {name: outputs_of(name) for name in STAGES}


def test_the_reference_has_the_options_of_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of the command line shows the help of each command, and of the commands below `store`."""
    monkeypatch.setenv("COLUMNS", "100")
    page = cli_page()

    for name in (*COMMANDS, "store stat", "store verify", "store prune", "store gc"):
        assert f"usage: headstart {name} [-h]" in page
    for option in ("--coverage", "--max-bytes", "--self-contained", "--unused-days", "--delete"):
        assert f" {option} " in page
