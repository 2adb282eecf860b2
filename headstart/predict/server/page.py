"""The page: photos are dropped or chosen on it, and it shows what the model says of them."""

import base64
import hashlib
import re
from pathlib import Path

import jinja2

from headstart.predict.model import Model
from headstart.predict.server.limits import Limits


def make_page(model: Model, limits: Limits) -> tuple[str, dict[str, str]]:
    """Return the page and its headers, whose content security policy allows its own style and script and no others.

    Args:
        model: To name.
        limits: So that a photo that is too large is not sent.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("serve.html").render(
        digest=model.digest, track=model.bundle.track, num_classes=len(model.classes), num_bytes=limits.num_bytes
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
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
