"""Templates: one Jinja environment for the report, the gallery, the server's page and the model cards."""

from pathlib import Path

import jinja2


def environment(folder: Path, *, escapes_html: bool = True) -> jinja2.Environment:
    """Return the environment of a folder of templates. A value that a template needs but does not get is an error.

    Args:
        folder: Folder with the templates.
        escapes_html: Whether every value is escaped for HTML. Only a template of another format may turn this off, and
            it has to escape its values itself.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=escapes_html,  # noqa: S701 - see the argument
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escapes_html,
    )
