"""The section `data` of params.yaml."""

from pathlib import Path

from pydantic import field_validator

from headstart.base.params import Section

# Folders of the project, in which its code, its results and its history lie.
_OF_THE_PROJECT = frozenset(
    [
        *(".cache", ".ci", ".dvc", ".git", ".venv", "benchmarks", "diagnostics", "docs", "features", "headstart"),
        *("metrics", "models", "plots", "predictions", "reports", "stages", "tests"),
    ]
)


class DataParams(Section):
    """`data:` which images."""

    path: str

    @field_validator("path")
    @classmethod
    def _is_a_folder_of_its_own(cls, path: str) -> str:
        if not path.strip() or "\0" in path:
            raise ValueError("the path of a folder")
        project, folder = Path.cwd().resolve(), (Path.cwd() / path).resolve()
        inside = folder.relative_to(project).parts if folder.is_relative_to(project) else ()
        if project.is_relative_to(folder) or inside == ("data",) or (inside and inside[0] in _OF_THE_PROJECT):
            raise ValueError("a folder that holds nothing but the data set, such as data/my_photos")
        return path
