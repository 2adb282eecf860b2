"""Options that the commands of several benchmarks share."""

import argparse
from pathlib import Path


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows the docstring of a benchmark as it stands."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_photo_options(parser: argparse.ArgumentParser, num_photos: int) -> None:
    """Add `--photos`, and `--num-photos` with a default."""
    parser.add_argument("--photos", type=Path, help="folder of real JPEG photos to copy (default: generated ones)")
    parser.add_argument("--num-photos", type=int, default=num_photos, help="number of photos (default: %(default)s)")


def add_size_option(parser: argparse.ArgumentParser) -> None:
    """Add `--megapixels`."""
    text = "enlarge a few of the photos to this size, with noise, as from a camera (default: photos keep their size)"
    parser.add_argument("--megapixels", type=float, help=text)


def add_rounds_option(parser: argparse.ArgumentParser, num_rounds: int = 3) -> None:
    """Add `--num-rounds` with a default."""
    text = "how often each contestant runs (default: %(default)s)"
    parser.add_argument("--num-rounds", type=int, default=num_rounds, help=text)
