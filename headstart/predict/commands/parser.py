"""Command-line parser shared by the commands that load a bundle."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Parser that reports a mistake in one line and defines the options that several commands share."""

    def add_bundle(self) -> None:
        """Add the bundle and the option that names its backbone's weights."""
        self.add_argument("bundle", type=Path, help="folder of a trained model, such as models/head")
        self.add_argument(
            "--weights", type=Path, metavar="FILE", help="weights of the backbone, if the search by digest finds none"
        )

    def add_device(self) -> None:
        """Add the option that chooses the device."""
        self.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps; default: auto")

    def add_photos(self) -> None:
        """Add the option that names the folder of the training images."""
        self.add_argument(
            "--photos", type=Path, metavar="FOLDER", help="folder of the training images (data.path), to show them"
        )

    def error(self, message: str) -> NoReturn:
        """Print a mistake of the command line in one line and exit with code 2."""
        self.exit(2, f"{self.prog.rpartition(' ')[2]}: {message}. {self.prog} --help lists all options.\n")


def integer_from(minimum: int) -> Callable[[str], int]:
    """Return a converter of an option's text to an integer that is at least `minimum`."""

    def integer(text: str) -> int:  # argparse shows this name where the text is not a number
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is less than {minimum}")
        return value

    return integer
