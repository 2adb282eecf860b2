"""The redirect: a private page that leads the browser to the address.

The address holds the token. As an argument of the browser all users of the machine could read it in the list of
processes, so the browser is given the path of this page instead, as Jupyter does.
"""

import html
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>Review</title>
</head>
<body><p><a href="{address}">To the review</a></p></body>
</html>
"""


@contextmanager
def redirect_page(address: str) -> Iterator[Path]:
    """Yield the page, which only this user can read. It is removed at the end.

    Args:
        address: Where it leads.

    Raises:
        OSError: The page cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="headstart-review-", ignore_cleanup_errors=True) as folder:  # mode 0700
        path = Path(folder, "open.html")
        path.touch(mode=0o600)
        path.write_text(_PAGE.format(address=html.escape(address)), encoding="utf-8")
        yield path
