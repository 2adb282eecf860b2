"""Documents: JSON files with one object of a known kind, such as the advice."""

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from headstart.base.errors import TableError

Kind = TypeVar("Kind")


def read_document(path: Path, kind: type[Kind], stage: str) -> Kind:
    """Read and check a JSON file.

    Args:
        path: JSON file to read.
        kind: Dataclass of pydantic that the content must be.
        stage: Name of the stage that writes the file, for the message.

    Raises:
        TableError: The file is missing, or its content is not of this kind. The message names the first wrong place.
    """
    remedy = f"Run: dvc repro {stage}"
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. {remedy}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"]) or "the file"
        raise TableError(f"{path}: {place}: {first['msg']}. {remedy}") from error
