"""The errors that a user can cause and mend.

Each message says what, where, found, expected and what to do; `base.entry` prints it without a stack trace.
"""


class HeadstartError(Exception):
    """Base of every error whose message is meant for the user."""


class ParamsError(HeadstartError):
    """params.yaml asks for something that cannot be done."""


class DataError(HeadstartError):
    """The data set's files or folders are not what they should be."""


class TableError(HeadstartError):
    """A CSV table between two stages breaks its contract."""


class DownloadError(HeadstartError):
    """A file could not be fetched whole, or is not the file that was expected."""


class BackboneError(HeadstartError):
    """A backbone or its weights cannot be found, loaded or run as asked."""


class FeatureFileError(HeadstartError):
    """A features file is damaged, incomplete or made by another spec."""


class StoreError(HeadstartError):
    """Stored embeddings are not the ones that this machine gives now."""


class BundleError(HeadstartError):
    """A model bundle is damaged or was edited by hand."""


class TrainingError(HeadstartError):
    """Training cannot go on: numbers that are not finite, or too little memory."""
