"""A stage of a run that was chosen for comparing; every part of the compare page draws a list of these."""

from dataclasses import dataclass

from engine.runs.store import Run, Stage


@dataclass(frozen=True, kw_only=True)
class Picked:
    """``intact``: the run's model before anything was dropped."""

    run: Run
    stage: Stage
    label: str  # short and different from the other picked ones, for a column's head or a legend
    intact: bool

    @property
    def ref(self) -> str:
        """As the command line takes it."""
        return f"{self.run.id}@{self.stage.number}"

    @property
    def look(self) -> str:
        """The colour it has everywhere: the name of a CSS class and of a colour in the palette."""
        return "intact" if self.intact else "pruned"
