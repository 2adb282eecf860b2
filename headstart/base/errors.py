"""The errors that a user can cause and mend.

Each message says what is wrong and where, what was found, what was expected, and what to do. `base.entry` prints it
without a stack trace.
"""


class HeadstartError(Exception):
    """Base of every error whose message is meant for the user."""


class ParamsError(HeadstartError):
    """A setting, in params.yaml or of a command, is wrong or cannot be met on this machine."""


class DataError(HeadstartError):
    """The data set's files or folders are not what they should be."""


class TableError(HeadstartError):
    """A table that one stage wrote for another is missing, damaged or contradicts itself."""


class DownloadError(HeadstartError):
    """A file could not be fetched whole, or is not the file that was expected."""


class BackboneError(HeadstartError):
    """A backbone or its weights cannot be found, loaded or run as asked."""


class FeatureFileError(HeadstartError):
    """A features file is damaged, incomplete or made by another spec."""


class StoreError(HeadstartError):
    """The store is damaged, in use or not writable, or this machine gives other embeddings than the stored ones."""


class BundleError(HeadstartError):
    """A model bundle is missing, damaged or edited by hand, or cannot be exported."""


class TrainingError(HeadstartError):
    """Training cannot go on, because numbers are not finite or memory is short."""
