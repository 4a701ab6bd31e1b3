"""Which classes two lists of names have in common. Free of torch."""

import re
from collections.abc import Sequence

from engine.data.dataset import unnamed_classes

_WNID = re.compile(r"n\d{8}", re.ASCII)  # WordNet id of a noun, as ImageNet's folders are called
_IMAGENET = 1000
_LANDMARKS = {0: "tench", 1: "goldfish", 388: "giant panda", 999: "toilet tissue"}  # no other 1000 classes have them so
_MOST_ODD = 4  # of ImageNet's names differ from one published list to another, such as "crane bird" and "crane"


def same_classes(known: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether both are the same classes in the same order, as far as names tell.

    Names that say nothing (class 0, class 1, …) on one side are taken for the other's, where there are as many. Case
    and synonyms ("tench, Tinca tinca") make no difference. ImageNet's 1000 are known by their sorted WordNet ids, too.
    """
    known, wanted = tuple(known), tuple(wanted)
    if known == wanted:
        return True
    if len(known) != len(wanted):
        return False
    if unnamed_classes(len(known)) in (known, wanted):
        return True
    in_place = sum(new == row for new, row in rows_kept_by_name(known, wanted).items())
    if in_place == len(known):
        return True
    if not (_in_imagenets_order(known) and _in_imagenets_order(wanted)):
        return False
    if are_wnids(known) or are_wnids(wanted):
        return are_wnids(known) != are_wnids(wanted)  # two lists of ids are the same only where they are equal
    return in_place >= _IMAGENET - _MOST_ODD


def rows_kept_by_name(known: Sequence[str], wanted: Sequence[str]) -> dict[int, int]:
    """Place in ``wanted`` -> place in ``known``, for the classes that both have under one name.

    A published name may list synonyms after commas ("tench, Tinca tinca"): each of them counts, on both sides. The
    whole name goes first, letter by letter ("cardigan" is not "Cardigan", the dog), and no row goes to two classes.
    """
    kept: dict[int, int] = {}
    for names_of in (_as_it_stands, _whole, _synonyms):
        taken, row_of = set(kept.values()), {}
        for row, name in enumerate(known):
            for key in names_of(name) if row not in taken else ():
                row_of.setdefault(key, row)
        for new, name in enumerate(wanted):
            row = next((row_of[key] for key in names_of(name) if key in row_of), None)
            if new not in kept and row is not None and row not in taken:
                kept[new] = row
                taken.add(row)
    return dict(sorted(kept.items()))


def knows_all(known: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether each of the ``wanted`` classes is among those ``known``, perhaps in another order."""
    return same_classes(known, wanted) or len(rows_kept_by_name(known, wanted)) == len(wanted)


def are_wnids(names: Sequence[str]) -> bool:
    return all(_WNID.fullmatch(name) for name in names)


def about_classes(known: Sequence[str], wanted: Sequence[str], *, model: str, data: str) -> list[str]:
    """What becomes of a model's classes where the data's aren't called the same: one sentence each."""
    known, wanted = tuple(known), tuple(wanted)
    if same_classes(known, wanted):
        return _taken_for(known, wanted, model=model, data=data)
    num_kept = len(rows_kept_by_name(known, wanted))
    notes = [
        f"{data} has other classes than {model}, so the label table is made afresh: {num_kept} of the {len(wanted)} "
        f"classes were found by name{' and keep what the model learned about them' if num_kept else ''}"
    ]
    return notes + ([f"{data}: {wnid_advice()}"] if num_kept < len(wanted) and are_wnids(wanted) else [])


def wnid_advice() -> str:
    return (
        "its classes are called by WordNet ids (n01440764 …), which no name can be matched with; rename the folders as "
        "the model calls its classes, or keep all 1000 of ImageNet, whose order is known"
    )


def _taken_for(known: tuple[str, ...], wanted: tuple[str, ...], *, model: str, data: str) -> list[str]:
    if known != wanted and wanted == unnamed_classes(len(wanted)):
        return [f"the classes of {data} have no names; they are taken for the {len(known)} of {model}, in its order"]
    if are_wnids(wanted) and not are_wnids(known):
        return [f"the {len(wanted)} WordNet ids of {data} are taken for ImageNet's classes, in its order"]
    return []


def _in_imagenets_order(names: tuple[str, ...]) -> bool:
    if len(names) != _IMAGENET:
        return False
    if are_wnids(names):
        return list(names) == sorted(set(names))
    return all(name in _synonyms(names[place]) for place, name in _LANDMARKS.items())


def _as_it_stands(name: str) -> tuple[str, ...]:
    return (name,)


def _whole(name: str) -> tuple[str, ...]:
    return (name.strip().casefold(),)


def _synonyms(name: str) -> tuple[str, ...]:
    return tuple(part.strip().casefold() for part in (name, *name.split(", ")))
