"""The chaos test. Exit code 1 says that there were findings.

python -m tests.chaos --minutes 10 --seed 7      # rounds until the time is over
python -m tests.chaos --seed 7 --replay FOLDER   # one round again, from what a finding kept
"""

import argparse
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.loop import Chaos


def main() -> int:
    """Play rounds, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to go on (default: 10)")
    parser.add_argument("--seed", type=int, help="seed of all random choices (default: a new one)")
    parser.add_argument("--replay", type=Path, help="folder of a round with a finding, which is played again")
    args = parser.parse_args()
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    end = time.monotonic() + 60 * args.minutes
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a background job of a shell ignores it, and so would runs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chaos = Chaos(Path(tempfile.mkdtemp(prefix=f"headstart-chaos-{seed}-")), seed)
    chaos.say(f"chaos: seed {seed}, in {chaos.folder}")
    number = 0
    try:
        if args.replay:
            chaos.play(int(args.replay.name.removeprefix("round-")), args.replay / "before")
        while not args.replay and time.monotonic() < end:
            number += 1
            chaos.play(number)
    finally:
        chaos.close()
    chaos.say(f"chaos: seed {seed}: {max(number, 1)} rounds, {len(chaos.findings)} findings {sorted(chaos.findings)}")
    return 1 if chaos.findings else 0


if __name__ == "__main__":
    sys.exit(main())
