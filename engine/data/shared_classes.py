"""Which classes two lists of names have in common. Free of torch."""


def rows_kept_by_name(known: tuple[str, ...], wanted: tuple[str, ...]) -> dict[int, int]:
    """Place in ``wanted`` -> place in ``known``, for the classes that both have under one name.

    A published name may list synonyms after commas ("tench, Tinca tinca"): each of them counts.
    """
    row_of = {}
    for row, name in reversed(list(enumerate(known))):
        row_of |= {part.strip().casefold(): row for part in (name, *name.split(","))}
    return {new: row_of[name.casefold()] for new, name in enumerate(wanted) if name.casefold() in row_of}
