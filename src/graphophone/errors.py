"""The errors a user can cause, and mend."""


class GraphophoneError(Exception):
    """Base of every error that a user can cause and mend.

    Its text is one line that names the item (a file, a row, a key) and the remedy. The command line prints that
    line and nothing else, unless ``--debug`` asks for the traceback.
    """


class UnknownNameError(GraphophoneError):
    """A name that no registry holds, or an option that a registered part does not take."""


class MissingDependencyError(GraphophoneError):
    """An optional package is not installed; the text says which extra brings it."""
