"""Sphinx: the documentation as a site, with the params and the commands taken from the code itself."""

import io
import os
import re
import sys
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "Headstart"
author = "The authors of Headstart"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "reference/generated"]
html_theme = "furo"
html_title = "Headstart"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Mermaid pictures are shown as text: drawing them needs a script of another site. GitHub draws them.
suppress_warnings = ["misc.highlighting_failure"]
autodoc_typehints = "description"


def params_page() -> str:
    """Return a table for each section of params.yaml: key, value as shipped, type and range, comment."""
    from ruamel.yaml import YAML

    from stages.params import all_sections

    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    values, lines = YAML(typ="safe").load(text), text.splitlines()
    parts = []
    for name, model in sorted(all_sections().items(), key=lambda item: list(values).index(item[0])):
        parts += [f"## {name}", "", *_rows(name, values[name], model, lines), ""]
    return "\n".join(parts)


def _rows(path: str, values: dict[str, object], model: type[BaseModel], lines: list[str]) -> list[str]:
    """Return the rows of a section; a nested table of settings follows in rows of its own."""
    *above_it, name = path.split(".")
    depth, start = len(above_it) + 1, lines.index(f"{'  ' * len(above_it)}{name}:")
    rows = ["| key | shipped | accepts | meaning |", "|---|---|---|---|"] if depth == 1 else []
    schema = model.model_json_schema()
    for key, value in values.items():
        place = next(number for number in range(start, len(lines)) if lines[number].startswith(f"{'  ' * depth}{key}:"))
        field = model.model_fields[key].annotation
        if isinstance(value, dict) and isinstance(field, type) and issubclass(field, BaseModel):
            rows += _rows(f"{path}.{key}", value, field, lines)
            continue
        above = place
        while lines[above - 1].strip().startswith("#"):
            above -= 1
        comment = " ".join(line.strip().removeprefix("# ") for line in lines[above:place])
        accepts = _accepts(schema["properties"][key], schema)
        comment = "`".join(
            part if number % 2 else re.sub(r"([\[\]*_^<>\\])", r"\\\1", part)  # Markdown's own characters, outside code
            for number, part in enumerate(comment.split("`"))
        )
        cells = [f"`{path}.{key}`", "" if value is None else f"`{value}`", accepts, comment]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _accepts(schema: dict[str, object], whole: dict[str, object]) -> str:
    """Say in words what a JSON schema accepts."""
    if "anyOf" in schema:
        return " or ".join(_accepts(one, whole) for one in schema["anyOf"])  # type: ignore[attr-defined]
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])  # type: ignore[attr-defined]
    if "const" in schema:
        return f"`{schema['const']}`"
    names = {"null": "empty", "array": "list", "object": "table"}
    text = names.get(str(schema.get("type")), str(schema.get("type")))
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{words} {schema[key]:g}" for key, words in bounds.items() if key in schema]
    if schema.get("type") == "array":
        return f"list of {_accepts(schema['items'], whole)}"  # type: ignore[arg-type]
    return " ".join([text, ", ".join(limits)]).strip()


def cli_page() -> str:
    """Return what `headstart COMMAND --help` prints, for each command and for each of its own commands."""
    from headstart.__main__ import COMMANDS

    parts = []
    for name, (module, _) in COMMANDS.items():
        text = _help(module)
        parts += [f"## headstart {name}", "", "```text", text, "```", ""]
        # argparse lists a command's own commands as `{stat,verify} ...`.
        own = re.search(r"^usage: .*\{([\w,]+)\} \.\.\.$", text, flags=re.MULTILINE)
        for word in own[1].split(",") if own else ():
            parts += [f"### headstart {name} {word}", "", "```text", _help(module, word), "```", ""]
    return "\n".join(parts)


def _help(module: str, *words: str) -> str:
    """Return what a command prints when it is asked for help."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(printed), suppress(SystemExit):
        import_module(module).main([*words, "--help"])
    printed.seek(0)
    return printed.read().rstrip()


def _generate(_: Sphinx) -> None:
    folder = ROOT / "docs" / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["COLUMNS"] = "100"  # argparse folds its help by the terminal
    (folder / "params.md").write_text(params_page(), encoding="utf-8")
    (folder / "cli.md").write_text(cli_page(), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx reads any."""
    app.connect("builder-inited", _generate)
