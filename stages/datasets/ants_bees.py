"""The 397 photos of ants and bees of the PyTorch transfer-learning tutorial.

The images come from the network, or from a copy that you have: put the zip at data/hymenoptera_data.zip, or the
unpacked folder at data/hymenoptera_data, and run again. Every file must have its digest in data/ants_bees.sha256, from
either source.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from headstart.base.download import download
from headstart.base.entry import run_main
from headstart.base.errors import DataError
from headstart.base.files import atomic_folder, sha256_file
from headstart.base.progress import Progress
from headstart.sources.folder import Folder

URL = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
OWN_FOLDER = Path("data/hymenoptera_data")
OWN_ZIP = Path("data/hymenoptera_data.zip")
STAGE = "ants_bees"
REMEDY = f"Fetch {URL} by hand, put it at {OWN_ZIP} (or its unpacked folder at {OWN_FOLDER}) and run again."
_MAX_FILE_BYTES = 2**24  # the largest photo of this data set has 0.7 MB


def read_digests(path: Path) -> dict[str, str]:
    """Read a list that `sha256sum` wrote, and return the sha256 of each file by path."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def write_ants_bees(folder: Path, digests: Mapping[str, str], own_folder: Path, own_zip: Path, url: str) -> str:
    """Make the data set from the first source that exists: own folder, own zip, network.

    Args:
        folder: Folder of the data set, with `train/ants/...` and so on. It appears whole or not at all.
        digests: sha256 of every file, by path below the folder.
        own_folder: Folder that the user unpacked; need not exist.
        own_zip: Zip file that the user fetched; need not exist.
        url: Address of the zip. It is used if there is neither.

    Returns:
        The source: a path or the address.

    Raises:
        DownloadError: The zip cannot be fetched completely.
        DataError: The source is no zip file, lacks a listed file or has other bytes for it, or the disk is full.
        FileExistsError: The folder exists already.
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_folder(folder))
        if own_folder.is_dir():
            source, opener = str(own_folder), _folder_opener(own_folder)
        else:
            if own_zip.is_file():
                source, zip_path = str(own_zip), own_zip
            else:
                source, zip_path = url, temporary / "download.zip"
                download(url, zip_path, sha256_prefix="", stage=STAGE, remedy=REMEDY)
            opener = stack.enter_context(_zip_opener(zip_path))
        _copy_listed(source, opener, digests, temporary)
        (temporary / "download.zip").unlink(missing_ok=True)
    return source


def _folder_opener(folder: Path) -> Callable[[str], IO[bytes]]:
    return lambda name: (folder / name).open("rb")


@contextmanager
def _zip_opener(path: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """Give a function that opens a file of the zip by its path below the only top folder."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is not a zip file ({error}). {REMEDY}") from error
    with archive:
        members = {"/".join(PurePosixPath(name).parts[1:]): name for name in archive.namelist()}
        yield lambda name: archive.open(members[name])


def _copy_listed(source: str, opener: Callable[[str], IO[bytes]], digests: Mapping[str, str], folder: Path) -> None:
    """Copy the listed files and check each. No other names are written, so nothing is written outside the folder."""
    with Progress(STAGE, len(digests), "file") as progress:
        for name, expected in digests.items():
            target = folder / name
            try:
                with opener(name) as file:
                    data = file.read(_MAX_FILE_BYTES)
            except (KeyError, FileNotFoundError) as error:
                raise DataError(f"{source}: has no {name}. {REMEDY}") from error
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise DataError(f"{source}: {name} cannot be unpacked ({error}). {REMEDY}") from error
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            except OSError as error:
                raise DataError(f"{target}: cannot be written ({error.strerror}). Free 50 MB of space.") from error
            found = sha256_file(target)
            if found != expected:
                raise DataError(f"{source}: {name}: sha256 is {found}, expected {expected}. {REMEDY}")
            progress.advance(1)


def check_files(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """Check that every listed file is in the folder and has its digest.

    Args:
        folder: Folder of the data set.
        digests: sha256 of every file, by path below the folder.

    Returns:
        Paths below the folder of the other files that the stage `index` would find, sorted. They are no error, because
        you may add photos.

    Raises:
        DataError: Files are missing or have other bytes. The message counts both and names the first of each.
    """
    missing = [name for name in digests if not (folder / name).is_file()]
    present = [name for name in digests if (folder / name).is_file()]
    changed = [name for name in present if sha256_file(folder / name) != digests[name]]
    faults = [f"{len(missing)} are missing, the first {missing[0]}"] if missing else []
    faults += [f"{len(changed)} have other bytes, the first {changed[0]}"] if changed else []
    if faults:
        raise DataError(
            f"{folder}: of {len(digests)} files {'; '.join(faults)}. Delete the folder and run again: "
            f"rm -r {folder} && make ants_bees"
        )
    return [path for path in Folder(folder).list_files().files if path not in digests]


def main() -> None:
    """Write the data set and print its source. If the folder exists already, check it instead."""
    folder, digests = Path("data/ants_bees"), read_digests(Path("data/ants_bees.sha256"))
    if folder.exists():
        others = check_files(folder, digests)
        print(f"ants_bees: {folder} is complete: {len(digests)} files")
        if others:
            print(f"ants_bees: WARNING: {folder} holds other files too: {len(others)}, the first {others[0]!r}")
        return
    source = write_ants_bees(folder, digests, OWN_FOLDER, OWN_ZIP, URL)
    print(f"ants_bees: {len(digests)} files in {folder}, from {source}. To use them: -S data.path={folder}")


if __name__ == "__main__":
    run_main("ants_bees", main)
