"""Stage `split`: index, table, label fixes -> data/split.csv, pool.csv and classes.json, diagnostics/data.json."""

from pathlib import Path

from stages.running import run_stage, unchanged


def main() -> None:
    """Write labels, splits and classes, and print the number of images in each."""
    from headstart.tables.classes import write_classes
    from headstart.tables.index import IndexRow, LabelRow
    from headstart.tables.label_fixes import label_fixes_path, read_label_fixes
    from headstart.tables.metrics import write_metrics
    from headstart.tables.rows import read_rows, write_rows
    from headstart.tables.split import PoolRow, RelabelledRow, SplitRow
    from stages.params import load_params
    from stages.split import results
    from stages.split.checks import check_split
    from stages.split.fixes import apply_fixes
    from stages.split.layout import read_layout
    from stages.split.params import Params
    from stages.split.partition import partition
    from stages.split.spelling import spell

    loaded = load_params(Params)
    params, fixes_path = loaded.split, label_fixes_path(loaded.split.label_fixes, loaded.data.path)
    index = read_rows(Path("data/index.csv"), IndexRow)
    spelling = spell(
        read_layout(index, read_rows(Path("data/table.csv"), LabelRow), params), ignore_case=params.ignore_case
    )
    layout = spelling.layout
    with unchanged(fixes_path):
        fixes = spelling.fixes(read_label_fixes(fixes_path))
        parted = partition(layout, params)
        fixed = apply_fixes(parted, index, fixes, fixes_path, params.conflicts)
        check_split(fixed.rows, parted.undivided, fixed.declared, params)
        classes = results.order_classes(fixed.rows, params.class_order)
        write_rows(Path("data/split.csv"), fixed.rows, SplitRow)
        write_rows(Path("data/pool.csv"), fixed.pool, PoolRow)
        write_rows(Path("diagnostics/relabelled.csv"), fixed.relabelled, RelabelledRow)
        write_classes(Path("data/classes.json"), classes)
        write_metrics(Path("diagnostics/data.json"), results.numbers(index, parted, classes, fixed))
    print(f"split: {results.describe(index, parted, classes, fixed, layout.notes)}")


if __name__ == "__main__":
    run_stage("split", main)
