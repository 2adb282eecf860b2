"""The page: the results as one HTML file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.csv_files import csv_line
from headstart.pages.template import environment
from headstart.pages.thumbnail import file_url
from headstart.tables.head import LabelSuspect
from headstart.tables.index import count_states, seconds_between
from headstart.tables.label_fixes import LabelFix, label_fixes_path
from stages.report import figures
from stages.report.content import Content
from stages.report.gallery import UNSURE, Card, choose_cards, make_cards
from stages.report.params import ReportParams
from stages.report.thumbnails import Thumbnails

_MAP_PX = 48
_MOST_SUSPECTS, _MOST_PAIRS, _MOST_CLASSES, _MOST_REASONS = 60, 30, 20, 12


def render(
    content: Content, thumbnails: Thumbnails, params: ReportParams, sections: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the page as HTML. All text is escaped, the pictures are inside, and nothing is fetched.

    Args:
        content: Results of the other stages.
        thumbnails: Thumbnails of the data set.
        params: Params of this stage.
        sections: Sections of params.yaml, which the page shows.
    """
    ship = content.comparison["ship"]
    tracks = [content.tracks[ship], *(track for name, track in content.tracks.items() if name != ship)]
    cards = make_cards(tracks)
    shown = choose_cards(cards, params.gallery_images)
    suspects, pairs = content.suspects[:_MOST_SUSPECTS], content.duplicates[:_MOST_PAIRS]
    pictured = [card.digest for card in shown] + [one.digest for one in suspects]
    pictured += [digest for pair in pairs for digest in (pair.digest, pair.training_digest)]
    folder = Path(__file__).parent / "page"
    templates = environment(folder)
    templates.filters["number"] = lambda value: "none" if value is None else f"{value:.3f}"
    templates.filters["shown"] = lambda value: json.dumps(value, ensure_ascii=False)  # `tojson` is for scripts
    classes = list(tracks[0].predictions.classes)
    return templates.get_template("page.html").render(
        title=params.title,
        style=(folder / "style.css").read_text(encoding="utf-8"),
        script=(folder / "script.js").read_text(encoding="utf-8"),
        content=content,
        tracks=tracks,
        classes=classes,
        strips=[file_url(one, "webp") for one in content.strips],
        charts=figures.charts(content),
        shift_chart=figures.robustness_chart(content.robustness) if content.robustness.num_images else None,
        confusions=[figures.confusion(track.predictions, _MOST_CLASSES) for track in tracks],
        cards=shown,
        num_cards=len(cards),
        outcomes=_count_outcomes(cards),
        unsure=UNSURE,
        suspects=suspects,
        fixes=[_fix(one) for one in suspects],
        pairs=pairs,
        num_in_bursts=_count_in_bursts(content, sections["split"]["burst_seconds"]),
        index=_index_rows(count_states(content.index)),
        sections=sections,
        label_fixes=label_fixes_path(sections["split"]["label_fixes"], sections["data"]["path"]),
        thumbnails=thumbnails.of(pictured, params.thumbnail_px),
        map_data=_json_in_script(_map_of(content, cards, thumbnails)),
    )


def _count_in_bursts(content: Content, seconds: float) -> int:
    """Return the number of pairs of look-alikes that one camera took less than `seconds` apart."""
    rows = {row.digest: row for row in content.index}
    gaps = (seconds_between(rows[pair.digest], rows[pair.training_digest]) for pair in content.duplicates)
    return sum(gap is not None and gap < seconds for gap in gaps)


def _count_outcomes(cards: Sequence[Card]) -> dict[str, int]:
    counts = {outcome: sum(card.outcome == outcome for card in cards) for outcome in ("wrong", "unsure", "right")}
    return counts | {"disputed": sum(card.is_disputed for card in cards)}


def _fix(suspect: LabelSuspect) -> str:
    """Return a line for the label fixes that gives the image the class that cross-validation prefers."""
    fix = LabelFix(suspect.digest, suspect.path, suspect.preferred, why="suspected by the report")
    return csv_line(astuple(fix))


def _index_rows(rows: Sequence[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Return the most frequent states and reasons, and one row for all others."""
    rest = sum(count for *_, count in rows[_MOST_REASONS:])
    return list(rows[:_MOST_REASONS]) + ([("others", "see data/index.csv", rest)] if rest else [])


def _map_of(content: Content, cards: Sequence[Card], thumbnails: Thumbnails) -> dict[str, Any]:
    """Return the classes and the points of the map: places in [0, 1], class, split, path, thumbnail and outcome."""
    known = {row.digest: row for row in content.split}
    outcomes = {card.digest: card.outcome for card in cards}
    images = [one for one in content.projection if one.digest in known]
    pictures = thumbnails.of([one.digest for one in images], _MAP_PX)
    places = np.array([[one.tsne_x, one.tsne_y, one.pca_x, one.pca_y] for one in images]).reshape(len(images), 4)
    if images:
        low, span = places.min(axis=0), np.ptp(places, axis=0)
        places = (places - low) / np.where(span > 0, span, 1)
    return {
        "classes": list(content.tracks["head"].predictions.classes),
        "points": [
            {
                "places": [round(float(value), 4) for value in place],
                "label": known[one.digest].label,
                "split": known[one.digest].split,
                "path": known[one.digest].path,
                "outcome": outcomes.get(one.digest, ""),
                "picture": pictures.get(one.digest, ""),
            }
            for one, place in zip(images, places, strict=True)
        ],
    }


def _json_in_script(content: Mapping[str, Any]) -> str:
    """Return JSON that cannot end the script element around it, even if a name contains `</script>`."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
