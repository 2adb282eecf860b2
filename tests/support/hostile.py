"""Functions that misbehave as decoders do."""

import os


def crash(*_: object) -> None:
    """Die, as a decoder with a bug may do."""
    os.abort()
