"""How long a run waits, as a person would say it."""

from engine.runs.waiting import Wait


def wait_words(wait: Wait) -> str:
    place = f"Waiting: {ordinal(wait.place)} of {wait.num_waiting} in the line"
    behind = f", behind {wait.num_running} at work" if wait.num_running else ""
    if wait.is_whole and wait.seconds < 1:
        return f"{place}{behind}. It begins any moment."
    if wait.is_whole:
        return f"{place}{behind}. It begins in about {duration(wait.seconds)}, as such runs took before."
    if wait.seconds >= 1:
        return f"{place}{behind}. It begins in {duration(wait.seconds)} at the least, as far as is known."
    return f"{place}{behind}. How long those ahead take isn't known yet."


def ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
