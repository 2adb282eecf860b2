"""The command `headstart store stat | verify | prune | gc`: list, check and clean the embedding store."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(words: Sequence[str]) -> None:
    """Run one command on the store that HEADSTART_STORE or params.yaml names, and print what it found or deleted."""
    parser = argparse.ArgumentParser(prog="headstart store", description="List, check and clean the embedding store.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("stat", help="list the stores: spec, rows, size, and days since the last use")
    commands.add_parser("verify", help="read all files, and set damaged ones aside or delete them (exit code 1)")
    pruning = commands.add_parser("prune", help="delete whole stores")
    which = pruning.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--fingerprint", metavar="PREFIX", help="stores whose fingerprint, in `stat`, begins with PREFIX"
    )
    which.add_argument(
        "--unused-days", type=float, metavar="DAYS", help="stores and exported networks that no run used for DAYS days"
    )
    which.add_argument("--outdated", action="store_true", help="stores that an earlier version wrote")
    collecting = commands.add_parser("gc", help="count the rows of images that no index lists, or delete them")
    collecting.add_argument(
        "--delete", action="store_true", help="delete these rows, and the files that killed runs and damage left"
    )
    collecting.add_argument(
        "index",
        nargs="*",
        type=Path,
        default=[Path("data/index.csv")],
        help="index tables whose images stay (default: data/index.csv)",
    )
    given = parser.parse_args(words)

    from headstart.base.machine import read_runtime
    from headstart.store.location import alone, in_use, store_root
    from headstart.store.upkeep import collect_garbage, prune, prune_outdated, summarize, verify

    root = store_root(read_runtime(Path("params.yaml")))
    if given.command == "stat":
        with in_use(root):
            for store in summarize(root):
                print(
                    f"{store.folder.name[:12]}  {store.spec}: {store.num_rows} rows in {store.num_shards} shards, "
                    f"{store.num_bytes / 2**20:.1f} MiB, used {store.unused_days:.1f} days ago"
                )
        return
    with alone(root):
        if given.command == "verify":
            damaged = verify(root)
            if damaged:
                sys.exit(f"store: {root}: {len(damaged)} damaged files; the next run embeds their images again")
            print(f"store: {root}: no file is damaged")
        elif given.command == "prune":
            pruned = prune_outdated(root) if given.outdated else prune(root, given.fingerprint, given.unused_days)
            print(f"store: {root}: {len(pruned)} deleted", *(path.name for path in pruned), sep="\n  ")
        else:
            counts = collect_garbage(root, given.index, delete=given.delete)
            for spec, (num_unlisted, num_rows) in counts.items():
                print(f"{spec}: {num_unlisted} of {num_rows} rows {'deleted' if given.delete else 'are not listed'}")
            if not given.delete:
                names = ", ".join(map(str, given.index))
                print(f"store: {root}: nothing was deleted; add --delete to delete the rows that {names} does not list")
