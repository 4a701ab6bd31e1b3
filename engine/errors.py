"""The one family of errors a person may see. A message says what was found, what was expected and what to do."""


class EngineError(Exception):
    """Anything the user can understand and act on; shown as one line, never as a traceback."""


class InputError(EngineError):
    """What the user asked for can't be done as asked: unknown name, number out of range, empty selection."""


class AssetError(EngineError):
    """A file the product reads (weights, data, run folder) is missing, damaged or not what it claims to be."""


class WorkspaceError(EngineError):
    """The workspace folder can't be read or written: full, read-only, vanished."""


class Cancelled(EngineError):
    """The user asked for the work to stop."""


class Paused(EngineError):
    """The user asked for the work to rest, or it waits for the user's decision."""


class TrainingDiverged(EngineError):
    """A model's numbers are no longer finite, found while it was trained or scored; the last good state is kept."""
