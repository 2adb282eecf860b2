"""Stage `index`: read every file of the data set once -> data/index.csv."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Write the ledger and say its sums and what was left out."""
    from stages.core.params import load_params
    from stages.core.tables import IndexRow, write_rows
    from stages.index.ledger import build_ledger, describe
    from stages.index.params import Params

    params = load_params(Params)
    rows = build_ledger(Path(params.data.path), params.index, params.runtime.num_workers)
    write_rows(Path("data/index.csv"), rows, IndexRow)
    for row in [row for row in rows if row.status in ("quarantined", "skipped")][:10]:
        print(f"index: {row.status}: {row.path!r}: {row.reason}")
    print(f"index: {describe(rows)} (every file is in data/index.csv)")


if __name__ == "__main__":
    run_room("index", main)
