"""Model cards: what a person who receives a model should know, as Markdown (Mitchell et al. 2019, "Model Cards")."""

import html
import re
from pathlib import Path

import jinja2

from headstart.base.errors import BundleError
from headstart.pages.template import environment
from stages.report.content import Content, Track

_MOST_WEAK = 5


def render_card(content: Content, track: Track, title: str) -> str:
    """Return the model card of a track. Names from the data set are escaped.

    Args:
        content: Results of the other stages.
        track: Track of the model.
        title: Title of the report.

    Raises:
        BundleError: config.json of the bundle lacks a key.
    """
    templates = environment(Path(__file__).parent / "page", escapes_html=False)  # the filter `markdown` escapes
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
            robustness=content.robustness,
            is_shipped=track.name == ship,
            other=ship,
            num_alike=len({pair.digest for pair in content.duplicates}),
            weakest=sorted(known, key=lambda one: one.recall or 0.0)[:_MOST_WEAK],
        )
    except jinja2.UndefinedError as error:
        raise BundleError(f"models/{track.name}/config.json: {error}. Run: dvc repro") from error


def _escaped(text: str) -> str:
    """Return the text in one line, escaped so that Markdown shows it unchanged."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", one_line)
