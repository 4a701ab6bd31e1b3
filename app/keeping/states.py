"""What each state of a run means, in words for a person who meets it for the first time."""

from dataclasses import dataclass

from app import jobs
from engine.runs.listing import DAMAGED, NEWER, RunSummary
from engine.runs.store import Run


@dataclass(frozen=True)
class Meaning:
    colour: str  # of Streamlit's badges
    words: str


MEANINGS = {
    "queued": Meaning("gray", "It waits for its turn: one run at a time on each device, first come, first served."),
    "running": Meaning("blue", "The engine is at work on it. It goes on when you close the browser."),
    "paused": Meaning("orange", "It rests and costs nothing. Resume it, and it goes on exactly where it stopped."),
    "done": Meaning("green", "It stays as it is until you delete it."),
    "failed": Meaning("red", "It could not go on, and says why. What was finished is kept; it can be resumed."),
    "cancelled": Meaning("gray", "Somebody stopped it. What was finished is kept; it can be resumed."),
    "interrupted": Meaning("orange", "Its process ended before its work did, as after a power cut. Nothing is lost: "
                           "resumed, it ends with the numbers of one that was never stopped."),
    DAMAGED: Meaning("red", "Its files can't be read any more. Nothing else depends on it; it can be deleted."),
    NEWER: Meaning("violet", "A newer version of the studio made it. It is left as it is; update to open it."),
}  # fmt: skip


def line_of(summary: RunSummary, run: Run | None) -> str:
    """What is known of this very run: its wait, its last message, or why it stopped."""
    if summary.state == "queued" and run is not None:
        return jobs.waiting_line(run)
    if summary.state == "running" and run is not None and jobs.stalled(run.status()):
        return jobs.STALLED_LINE
    return summary.message
