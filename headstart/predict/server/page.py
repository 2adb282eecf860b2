"""The page: people drop images on it, and it shows the predictions."""

import base64
import hashlib
import re

from headstart.imaging.formats import known_extensions
from headstart.predict.model import Model
from headstart.predict.pages import render
from headstart.predict.server.limits import Limits


def make_page(model: Model, limits: Limits) -> tuple[str, dict[str, str]]:
    """Return the page and its headers. Its content security policy allows only its own style and script.

    Args:
        model: Model that the page names.
        limits: Limits of the server; the page does not send a file that is too large.
    """
    page = render(
        "serve.html",
        digest=model.digest,
        track=model.bundle.track,
        num_classes=len(model.classes),
        max_bytes=limits.max_bytes,
        accept=",".join([*(f".{extension}" for extension in known_extensions()), "image/*"]),
    )
    allowed = {
        "default-src": "'none'",
        "style-src": _digest(page, "style"),
        "script-src": _digest(page, "script"),
        "img-src": "data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in allowed.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _digest(page: str, tag: str) -> str:
    """Return the hash of the text in a tag as a source of a content security policy."""
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
