"""Stage `ants_bees`: the zip of the PyTorch tutorial, or a copy of yours -> data/ants_bees/."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Write the data set and say where it came from."""
    from stages.ants_bees.dataset import OWN_FOLDER, OWN_ZIP, URL, read_digests, write_ants_bees

    digests = read_digests(Path("data/ants_bees.sha256"))
    source = write_ants_bees(Path("data/ants_bees"), digests, OWN_FOLDER, OWN_ZIP, URL)
    print(f"ants_bees: {len(digests)} files in data/ants_bees, from {source}")


if __name__ == "__main__":
    run_room("ants_bees", main)
