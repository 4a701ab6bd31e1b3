"""The lessons in their order."""

from app.learn import block_out, drawing, entropy, fidelity, readings, replaying
from app.learn.lesson import Lesson

LESSONS: tuple[Lesson, ...] = (
    drawing.LESSON,
    entropy.LESSON,
    block_out.LESSON,
    readings.LESSON,
    replaying.LESSON,
    fidelity.LESSON,
)
