"""The table of `make sweep`: the heads on several backbones, ranked by cross-validation on the training images.

python -m benchmarks.sweep [--add]

With `--add` it notes the results in the workspace, else it prints what was noted. `dvc exp show` cannot do this: it
shows only metrics, and scores on training images are none here.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import markdown
from benchmarks.options import make_parser
from headstart.base.files import write_json
from headstart.base.params import read_yaml

NOTED = Path(".cache/sweep.json")


def results(project: Path) -> dict[str, Any]:
    """Return what the workspace holds: the backbone, and scores of the cross-validation and on the test images."""
    params = read_yaml(project / "params.yaml")
    trained, tested = (
        json.loads((project / name).read_text(encoding="utf-8"))
        for name in ("diagnostics/head_training.json", "metrics/head.json")
    )
    return {
        "backbone": params["backbone"]["name"],
        "cv_log_loss": trained["cv_log_loss"],
        "cv_accuracy": trained["cv_accuracy"],
        "accuracy": tested["accuracy"],
        "log_loss": tested["log_loss"],
    }


def add(project: Path) -> None:
    """Note the results in the workspace. Those of the same backbone are replaced."""
    rows = {row["backbone"]: row for row in [*noted(project), results(project)]}
    write_json(project / NOTED, {"rows": list(rows.values())})


def noted(project: Path) -> list[dict[str, Any]]:
    """Return the results that were noted, in the order of the notes."""
    path = project / NOTED
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table, the lowest cross-validated log loss first, and a line that recommends this backbone."""
    if not rows:
        return 'No backbone was tried. Run: make sweep BACKBONES="efficientnet_lite0 resnet18"'
    ranked = sorted(rows, key=lambda row: row["cv_log_loss"])
    names = {"cv_log_loss": "cross-validated log loss", "cv_accuracy": "cross-validated accuracy"}
    names |= {"accuracy": "test accuracy", "log_loss": "test log loss"}
    body = [[row["backbone"], *(f"{row[name]:.4f}" for name in names)] for row in ranked]
    return "\n".join([
        *markdown(["backbone", *names.values()], body),
        "",
        f"Recommended: {ranked[0]['backbone']}, which has the lowest cross-validated log loss. The test images play no "
        "part in this choice.",
    ])  # fmt: skip


def main() -> None:
    """Note or print."""
    parser = make_parser(__doc__)
    parser.add_argument("--add", action="store_true", help="note the results in the workspace")
    given = parser.parse_args()
    if given.add:
        add(Path())
    else:
        print(table(noted(Path())))


if __name__ == "__main__":
    main()
