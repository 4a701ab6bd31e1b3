"""The one family of errors a person may see. A message says what was found, what was expected and what to do."""

from pathlib import Path


class EngineError(Exception):
    """Anything the user can understand and act on; shown as one line, never as a traceback."""


class InputError(EngineError):
    """What the user asked for can't be done as asked: unknown name, number out of range, empty selection."""


class AssetError(EngineError):
    """A file the product reads (weights, data, run folder) is missing, damaged or not what it claims to be."""


class WorkspaceError(EngineError):
    """The workspace folder can't be read or written: full, read-only, vanished."""


class DiskFull(WorkspaceError):
    """There is no space left for what is being written; what was written before it is whole."""

    EXIT_CODE = 75  # of a process that couldn't go on for it

    def __init__(self, path: Path, *, num_bytes: int = 0, free: int | None = None) -> None:
        """``num_bytes``: of what is being written, where that is known; ``free``: where that is known to be too few."""
        known = "" if free is None else f": it needs {num_bytes / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free"
        super().__init__(f"no space left for {path}{known}; free some, or choose another place")
        self.path, self.num_bytes = path, num_bytes


class OutOfMemory(EngineError):
    """The device's memory doesn't hold the smallest piece of the work."""


class Cancelled(EngineError):
    """The user asked for the work to stop."""


class Paused(EngineError):
    """The user asked for the work to rest, or it waits for the user's decision."""


class TrainingDiverged(EngineError):
    """A model's numbers are no longer finite, found while it was trained or scored; the last good state is kept."""


class ClusterError(EngineError):
    """The cluster that was to do the work can't be reached, isn't fit for it or was lost; what was finished is kept."""
