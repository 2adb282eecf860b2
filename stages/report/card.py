"""The card: what somebody who is given a model should know of it, in Markdown (Mitchell et al. 2019, "Model Cards")."""

import html
import re
from collections.abc import Mapping
from pathlib import Path

import jinja2

from headstart.base.errors import BundleError
from headstart.pages.template import environment
from stages.report.content import Content, Track

_MOST_WEAK = 5


def render_card(content: Content, track: Track, title: str, score_titles: Mapping[str, str]) -> str:
    """Return the card of a track's model; text of the data is escaped.

    Args:
        content: What the other stages wrote.
        track: One of theirs.
        title: Title of the report.
        score_titles: Names of the scores for people, by name.

    Raises:
        BundleError: config.json lacks something.
    """
    templates = environment(Path(__file__).parent / "page", escapes_html=False)  # `markdown` below escapes
    templates.filters["number"] = lambda value: "" if value is None else f"{value:.3f}"
    templates.filters["markdown"] = _escaped
    ship, known = content.comparison["ship"], [one for one in track.classes if one.recall is not None]
    try:
        return templates.get_template("card.md").render(
            title=title,
            track=track,
            bundle=track.bundle,
            classes=list(track.predictions.classes),
            data=content.data,
            is_shipped=track.name == ship,
            other=ship,
            num_alike=len({pair.digest for pair in content.duplicates}),
            score_titles=score_titles,
            weakest=sorted(known, key=lambda one: one.recall or 0.0)[:_MOST_WEAK],
        )
    except jinja2.UndefinedError as error:
        raise BundleError(f"models/{track.name}/config.json: {error}. Run: dvc repro") from error


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", one_line)
