"""Stage `split`: the index -> data/split.csv, data/classes.json, metrics/data.json."""

from collections import Counter
from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Write labels, splits and classes, and say how many images of each there are."""
    from stages.core.files import write_metrics
    from stages.core.params import load_params
    from stages.core.tables import (
        SPLITS,
        STATUSES,
        USABLE,
        IndexRow,
        SplitRow,
        read_rows,
        write_classes,
        write_rows,
    )
    from stages.split.params import Params
    from stages.split.partition import partition

    params = load_params(Params)
    index = read_rows(Path("data/index.csv"), IndexRow)
    rows, origin = partition(index, params.split)
    classes = sorted({row.label for row in rows})
    write_rows(Path("data/split.csv"), rows, SplitRow)
    write_classes(Path("data/classes.json"), classes)

    states = Counter(row.status for row in index)
    splits = Counter(row.split for row in rows)
    numbers = {"num_files": len(index), "num_classes": len(classes)}
    numbers |= {f"num_{status}": states[status] for status in STATUSES}
    numbers |= {f"num_{split}": splits[split] for split in SPLITS}
    write_metrics(Path("metrics/data.json"), "data", numbers)
    counts = ", ".join(f"{count} {split}" for split, count in sorted(splits.items(), reverse=True))
    print(f"split: {origin}: {counts}; {len(classes)} classes")
    lost = {str(Path(row.path).parent) for row in index}
    lost -= {str(Path(row.path).parent) for row in index if row.status in (*USABLE, "duplicate")} | {"."}
    if lost:
        print(f"split: WARNING: folders with files but no usable image (data/index.csv says why): {sorted(lost)}")


if __name__ == "__main__":
    run_room("split", main)
