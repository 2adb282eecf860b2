"""Stage `digits`: scikit-learn's scanned digits -> data/digits/."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Write the data set and say how many images it has."""
    from stages.digits.dataset import write_digits

    folder = Path("data/digits")
    print(f"digits: {write_digits(folder)} images in {folder}")


if __name__ == "__main__":
    run_room("digits", main)
