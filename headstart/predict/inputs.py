"""Inputs: the images that a command line names, as files, folders, patterns, lists and archives, in the given order."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from headstart.base.errors import DataError
from headstart.imaging.formats import known_extensions
from headstart.imaging.reader import MemoryBudget
from headstart.predict.archives import is_archive, open_archive
from headstart.predict.image_file import HeldBytes, ImageReadError, read_file

LIST = "-"
# Members of archives that were read and wait. The largest one fits in beside those of an unfinished batch.
_MEMORY_BYTES = 2**29


@dataclass(frozen=True)
class InputImage:
    """One image that has been found but not read.

    Attributes:
        name: Name for messages and rows: the file's path, or `<archive>/<member>`.
        path: Path of the file, or of the archive.
        member: Position of the image in the archive; None for a file.
    """

    name: str
    path: Path
    member: int | None = None


@dataclass(frozen=True)
class LoadedImage:
    """One image whose bytes are at hand or can be read in any order and from any thread.

    Exactly one of `path`, `data` and `problem` is set.

    Attributes:
        name: As in `InputImage`.
        path: Path of the file, which `used` opens.
        data: Bytes of a file that a client sent, or of a member of an archive, which can be used once.
        problem: Reason why there are no bytes.
    """

    name: str
    path: Path | None = None
    data: bytes | HeldBytes | None = None
    problem: str = ""

    @contextmanager
    def used(self) -> Iterator[bytes]:
        """Give the file's bytes.

        Raises:
            ImageReadError: The bytes cannot be read.
        """
        if self.problem:
            raise ImageReadError(self.problem)
        if isinstance(self.data, HeldBytes):
            with self.data.used() as data:
                yield data
        else:
            yield read_file(self.path) if self.path is not None else self.data or b""


def find_inputs(words: Sequence[str], list_file: IO[bytes]) -> list[InputImage]:
    """Return the images that the words of a command line name.

    A folder gives the images below it, sorted by path, without hidden ones. An archive gives its images in its own
    order. A file that is named directly is taken whatever its suffix.

    Args:
        words: Paths, patterns (`*`, `?`, `[...]`, `**`), or `-` for a list of paths.
        list_file: File from which `-` reads that list: one path per line, or paths separated by NUL.

    Raises:
        DataError: A file does not exist, a pattern matches nothing, a folder or an archive has no image, or an archive
            cannot be read.
    """
    found: list[InputImage] = []
    for word in words:
        if word == LIST:
            found += [InputImage(name, Path(name)) for name in _split_list(list_file.read())]
        elif os.path.lexists(word):
            found += _expand(Path(word))
        elif glob.has_magic(word):
            paths = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - a pattern may be absolute
            if not paths:
                raise DataError(f"{word}: the pattern matches no file")
            for path in paths:
                found += _expand(Path(path))
        else:
            raise DataError(f"{word}: there is no such file, folder or archive")
    if not found:
        raise DataError("the list of images is empty")
    return found


def load_inputs(inputs: Sequence[InputImage]) -> Iterator[LoadedImage]:
    """Give each image in order. Members of an archive come with their bytes, and the archive is opened once.

    The next member is read only when earlier ones have been used, if all would take too much memory. So use each in
    time, and do not make a list.

    Args:
        inputs: Images from `find_inputs`, in the same order.
    """
    budget = MemoryBudget(_MEMORY_BYTES)
    position = 0
    while position < len(inputs):
        image = inputs[position]
        if image.member is None:
            yield LoadedImage(image.name, path=image.path)
            position += 1
            continue
        end = position
        while end < len(inputs) and inputs[end].path == image.path and inputs[end].member is not None:
            if end > position and (inputs[end].member or 0) <= (inputs[end - 1].member or 0):
                break  # the same archive was named twice
            end += 1
        yield from _load_members(image.path, inputs[position:end], budget)
        position = end


def _split_list(data: bytes) -> list[str]:
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(part) for part in parts if part]


def _expand(path: Path) -> list[InputImage]:
    if path.is_dir():
        found = [InputImage(str(inner), inner) for inner in _images_below(path)]
        what = "the folder"
    elif path.is_file() and is_archive(path):
        with open_archive(path) as members:
            found = [
                InputImage(f"{path}/{member.removeprefix('./')}", path, number)
                for number, (member, _) in enumerate(members)
                if _is_image(member)
            ]
        what = "the archive"
    else:
        return [InputImage(str(path), path)]
    if not found:
        raise DataError(f"{path}: {what} has no image (.{', .'.join(known_extensions())})")
    return found


def _images_below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> NoReturn:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for inside, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(inside) / name for name in sorted(names) if _is_image(name))


def _is_image(name: str) -> bool:
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in name.split("/"))
    return name.lower().endswith(tuple(f".{extension}" for extension in known_extensions())) and not hidden


def _load_members(path: Path, inputs: Sequence[InputImage], budget: MemoryBudget) -> Iterator[LoadedImage]:
    wanted = {image.member: image for image in inputs}
    with open_archive(path) as members:
        for number, (_, read) in enumerate(members):
            image = wanted.pop(number, None)
            if image is not None:
                try:
                    yield LoadedImage(image.name, data=read(budget))
                except ImageReadError as error:
                    yield LoadedImage(image.name, problem=str(error))
    for image in wanted.values():
        yield LoadedImage(image.name, problem="is no longer in the archive")
