"""Stage `index`: read every file of the data set once -> data/index.csv, data/table.csv."""

from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Write the index and the user's labels, and print the number of files in each state and what is lost."""
    import gc

    from headstart.sources.folder import Listing, open_source
    from headstart.tables.index import IndexRow, LabelRow
    from headstart.tables.rows import write_rows
    from stages.index.build import build_index, check_bad, check_complete, check_exists, describe, read_settled
    from stages.index.label_table import check_listed, read_labels
    from stages.index.losses import describe_losses, describe_one_colour
    from stages.index.params import Params
    from stages.index.record import Record
    from stages.params import load_params

    gc.disable()  # there are no reference cycles here, and scanning all rows takes a third of the time of a second run
    params = load_params(Params)
    root, table = Path(params.data.path), params.index.table
    check_exists(params.data.path)
    source = open_source(params.data.path)

    def read(listing: Listing) -> tuple[list[LabelRow], list[IndexRow]]:
        check_complete(len(listing.files), params.data.path, Path("dvc.lock"), params.index.max_removed_fraction)
        labels = read_labels(root, table) if table else []
        record = Record(root, params.index.max_pixels)
        return labels, build_index(source, listing, params.index, params.runtime.num_workers, record)

    listing, (labels, rows) = read_settled(source, read)
    write_rows(Path("data/index.csv"), rows, IndexRow)
    write_rows(Path("data/table.csv"), labels, LabelRow)
    print(*(describe(rows), *describe_one_colour(rows), *describe_losses(rows, labels)), sep="\n")
    if listing.empty_folders:
        print(f"index: WARNING: empty folders are not classes: {listing.empty_folders[:10]}")
    check_bad(rows, params.index)
    if table:
        check_listed(labels, {row.path for row in rows}, root / table)


if __name__ == "__main__":
    run_stage("index", main)
