"""Stage `split`: index, table and label fixes -> data/split.csv, data/classes.json, diagnostics/data.json."""

from pathlib import Path

from stages.running import run_stage, unchanged


def main() -> None:
    """Write labels, splits and classes, and print the number of images in each."""
    from headstart.tables.classes import write_classes
    from headstart.tables.index import IndexRow, LabelRow
    from headstart.tables.metrics import write_metrics
    from headstart.tables.rows import read_rows, write_rows
    from headstart.tables.split import SplitRow
    from stages.params import load_params
    from stages.split import results
    from stages.split.fixes import apply_fixes, read_fixes
    from stages.split.layout import read_layout
    from stages.split.params import Params
    from stages.split.partition import partition
    from stages.split.spelling import spell

    params = load_params(Params).split
    index = read_rows(Path("data/index.csv"), IndexRow)
    spelling = spell(
        read_layout(index, read_rows(Path("data/table.csv"), LabelRow), params), ignore_case=params.ignore_case
    )
    layout = spelling.layout
    with unchanged(Path(params.label_fixes)):
        fixed = apply_fixes(layout.images, index, spelling.fixes(read_fixes(Path(params.label_fixes))))
        parted = partition(fixed.images, layout.source, params)
        classes = results.order_classes(parted.rows, params.class_order)
        write_rows(Path("data/split.csv"), parted.rows, SplitRow)
        write_classes(Path("data/classes.json"), classes)
        write_metrics(Path("diagnostics/data.json"), results.numbers(index, parted, classes, fixed))
    print(f"split: {results.describe(index, parted, classes, fixed, layout.notes)}")


if __name__ == "__main__":
    run_stage("split", main)
