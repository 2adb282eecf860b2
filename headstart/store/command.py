"""Upkeep of the private store: `headstart store stat | verify | prune | gc`, while no run uses it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(words: Sequence[str]) -> None:
    """Do one thing to the store that params.yaml or HEADSTART_STORE names, and say what was done."""
    parser = argparse.ArgumentParser(prog="headstart store", description="Upkeep of the embedding store.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("stat", help="what there is: spec, rows, bytes, days since it was used")
    commands.add_parser("verify", help="read all of it; damaged shards are set aside (exit code 1)")
    pruning = commands.add_parser("prune", help="delete the stores of a spec, or those unused for long")
    which = pruning.add_mutually_exclusive_group(required=True)
    which.add_argument("--fingerprint", metavar="PREFIX", help="the beginning of a fingerprint that `stat` lists")
    which.add_argument("--unused-days", type=float, metavar="DAYS", help="stores and engines not used for so long")
    which.add_argument("--outdated", action="store_true", help="stores of an earlier version")
    collecting = commands.add_parser("gc", help="count rows that no index lists, and with --delete drop them")
    collecting.add_argument("--delete", action="store_true", help="drop them, and what killed runs and damage left")
    collecting.add_argument(
        "index",
        nargs="*",
        type=Path,
        default=[Path("data/index.csv")],
        help="tables whose images stay (data/index.csv)",
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
                sys.exit(f"store: {root}: {len(damaged)} damaged files; their images are embedded anew by the next run")
            print(f"store: {root}: all is whole")
        elif given.command == "prune":
            pruned = prune_outdated(root) if given.outdated else prune(root, given.fingerprint, given.unused_days)
            print(f"store: {root}: {len(pruned)} deleted", *(path.name for path in pruned), sep="\n  ")
        else:
            counts = collect_garbage(root, given.index, delete=given.delete)
            for spec, (num_unlisted, num_rows) in counts.items():
                print(f"{spec}: {num_unlisted} of {num_rows} rows {'deleted' if given.delete else 'are not listed'}")
            if not given.delete:
                print(f"store: {root}: nothing was deleted; add --delete to drop what {given.index[0]} does not list")
