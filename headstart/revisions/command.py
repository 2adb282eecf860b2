"""The command `headstart compare [REV ...]`: from the names of revisions to a table, a page or a document."""

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from headstart.base.errors import DataError, HeadstartError
from headstart.base.params import Section, read_section
from headstart.predict.commands.parser import Parser
from headstart.revisions.history import WORKSPACE, History
from headstart.revisions.ranking import Ranking, rank
from headstart.revisions.result import compare_revisions
from headstart.revisions.revision import Revision, read_revision
from headstart.revisions.text import comparison_text, ranking_text
from headstart.tables.names import TRACKS

# Exit code of --fail-if-worse. 1 is an error, 2 a mistake on the command line.
WORSE = 3
_PARAMS = Path("params.yaml")


class _Intervals(Section, extra="ignore"):
    resamples: int
    seed: int


@dataclass(frozen=True)
class CompareOptions:
    """Parsed options of `headstart compare`; the fields have the names of the options."""

    revisions: Sequence[str]
    track: str | None
    experiments: bool
    markdown: bool
    json: bool
    html: Path | None
    fail_if_worse: bool


def main(words: Sequence[str]) -> None:
    """Parse the command line, compare, and print the result."""
    run(parse(words))


def parse(words: Sequence[str]) -> CompareOptions:
    """Parse the command line; exit with code 2 and one line if it has a mistake."""
    parser = Parser(
        prog="headstart compare",
        description="Is this revision really better? Paired comparison of the predictions of two revisions, or a "
        "ranking of many. Nothing is checked out.",
    )
    parser.add_argument(
        "revisions",
        nargs="*",
        metavar="REV",
        help=f"commit, branch, tag, experiment or {WORKSPACE}; one is compared with the {WORKSPACE}, of more than two "
        f"the first is the baseline; default: HEAD",
    )
    parser.add_argument("--track", choices=TRACKS, help="compare this track only")
    parser.add_argument("--experiments", action="store_true", help="rank all experiments against the first revision")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown, for a pull request")
    form.add_argument("--json", action="store_true", help="print JSON, with all images and classes")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with the photos that changed")
    parser.add_argument(
        "--fail-if-worse", action="store_true", help=f"exit with code {WORSE} if the second is significantly worse"
    )
    given = CompareOptions(**vars(parser.parse_args(words)))
    if _is_ranking(given) and (given.html or given.fail_if_worse):
        parser.error("--html and --fail-if-worse need two revisions")
    return given


def run(options: CompareOptions) -> None:
    """Compare, and print the result.

    Raises:
        HeadstartError: A revision does not exist or has no results, or a result is damaged.
        SystemExit: With code 3, as --fail-if-worse asks.
    """
    intervals = read_section(_PARAMS, "intervals", _Intervals)
    history = History(Path())
    tracks = (options.track,) if options.track else TRACKS
    names = list(options.revisions or ["HEAD"])
    if options.html is not None and not options.html.absolute().parent.is_dir():
        folder = options.html.absolute().parent
        raise DataError(f"--html {options.html}: there is no folder {folder}. Make it, or name another file")
    if _is_ranking(options):
        revisions = [read_revision(history, name, tracks, has_images=False) for name in names]
        if options.experiments:
            revisions += _experiments(history, tracks, {revision.commit for revision in revisions})
        rankings = _rank(revisions)
        documents = {"rankings": [asdict(ranking) for ranking in rankings]}
        text = ranking_text(rankings, is_markdown=options.markdown)
        print(json.dumps(documents, indent=2) if options.json else text, end="\n" if options.json else "")
        return
    names = [*names, WORKSPACE][:2]
    before, after = (read_revision(history, name, tracks) for name in names)
    result = compare_revisions(before, after, intervals.resamples, intervals.seed)
    if options.json:
        print(json.dumps(result.document(), indent=2))
    else:
        print(comparison_text(result, is_markdown=options.markdown), end="")
    if options.html is not None:
        from headstart.revisions.page import write_page  # decodes photos, whose libraries take long to import

        write_page(options.html, result, Path())
        print(f"compare: {options.html}", file=sys.stderr)
    if options.fail_if_worse and result.is_worse:
        sys.exit(WORSE)


def _is_ranking(options: CompareOptions) -> bool:
    return options.experiments or len(options.revisions) > 2


def _experiments(history: History, tracks: Sequence[str], known: Collection[str]) -> list[Revision]:
    """Read all experiments, except those of known commits. One that cannot be read is named and left out."""
    revisions = []
    for name, commit in history.experiments:
        if commit not in known:
            try:
                revisions.append(replace(read_revision(history, commit, tracks, has_images=False), name=name))
            except HeadstartError as error:
                print(f"compare: {name} is left out: {error}", file=sys.stderr)
    return revisions


def _rank(revisions: Sequence[Revision]) -> list[Ranking]:
    """Rank the revisions in each track that all of them have.

    Raises:
        DataError: There is nothing to rank.
    """
    if len(revisions) == 1:
        raise DataError("there are no experiments to compare. `dvc exp list --all` lists them")
    tracks = [track for track in TRACKS if all(track in revision.runs for revision in revisions)]
    if not tracks:
        raise DataError("there is no track that all revisions have; name fewer, or --track")
    return [rank(track, [(one.name, one.runs[track].predictions) for one in revisions]) for track in tracks]
