"""Stage `index`: read every file of the data set once -> data/index.csv."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Write the ledger and say its sums and what was left out."""
    from stages.core.params import load_params
    from stages.core.tables import IndexRow, write_rows
    from stages.index.completeness import check_complete
    from stages.index.ledger import build_ledger, describe, list_files
    from stages.index.params import Params

    params = load_params(Params)
    root = Path(params.data.path)
    num_files = sum(1 for _ in list_files(root))
    check_complete(num_files, params.data.path, Path("dvc.lock"), params.index.max_removed_fraction)
    rows = build_ledger(root, params.index, params.runtime.num_workers)
    write_rows(Path("data/index.csv"), rows, IndexRow)
    for row in [row for row in rows if row.status in ("quarantined", "skipped")][:10]:
        print(f"index: {row.status}: {row.path!r}: {row.reason}")
    print(f"index: {describe(rows)} (every file is in data/index.csv)")


if __name__ == "__main__":
    run_room("index", main)
