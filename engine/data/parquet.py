"""Hugging Face datasets in Parquet files: a column of pictures, a column of labels. Free of torch.

Read row group by row group when pictures are asked for; names of classes come from the schema's own metadata, or from
the README beside the files.
"""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from itertools import accumulate, count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.arrays import MAX_CLASSES, checked_labels
from engine.data.crop import centre_crop
from engine.data.dataset import Data, Findings, hash_of, unnamed_classes
from engine.data.dataset_card import names_in_readme, names_in_schema
from engine.data.folders import FLAT_CLASS, THREADS, natural_side, picture_notes
from engine.data.picture import DECODE_ERRORS, Seen, read_rgb, see_content
from engine.data.scan import MAX_DECODED, Entry, OpenProgress, Scan, count_duplicates, printable
from engine.errors import AssetError
from engine.runs.workspace import encode_json, write_bytes_atomically

_PICTURE_COLUMNS, _LABEL_COLUMNS = ("image", "img", "picture", "jpg", "png"), ("label", "labels", "class", "fine_label")
_MAX_GROUP_BYTES = 4 * 2**30
_FIRST_SPLIT = "train"
_PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError)


class _Group(NamedTuple):
    path: str
    number: int  # of the row group in its file
    start: int  # its first row in the whole dataset
    num_rows: int


_Rows = tuple[list[_Group], list[Seen], list]  # the row groups; of each row what was seen, and its label


@dataclass(frozen=True)
class ParquetImages:
    groups: tuple[_Group, ...]
    column: str
    rows: np.ndarray  # int64 (N,): the readable pictures' rows in the whole dataset
    side: int
    _last: dict = field(default_factory=dict, compare=False)  # the row group read last

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), self.side, self.side, 3

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        rows = self.rows[index]
        images = np.empty((len(rows), self.side, self.side, 3), np.uint8)
        starts = np.array([group.start for group in self.groups])
        where = np.searchsorted(starts, rows, side="right") - 1
        for number in np.unique(where):
            group, mine = self.groups[number], np.flatnonzero(where == number)
            column = self._column(group)
            with ThreadPoolExecutor(THREADS) as pool:
                contents = [column[int(row) - group.start] for row in rows[mine]]
                images[mine] = list(pool.map(self._decode, contents))
        return images

    def _column(self, group: _Group) -> list[bytes | None]:
        if group not in self._last:
            with _reading(group.path):
                found = _contents(pq.ParquetFile(group.path).read_row_group(group.number, columns=[self.column]))
                if len(found) != group.num_rows:
                    raise ValueError("it changed since it was opened: open it again")
            self._last.clear()
            self._last[group] = found
        return self._last[group]

    def _decode(self, content: bytes | None) -> np.ndarray:
        try:
            return centre_crop(read_rgb(content or b""), self.side)
        except DECODE_ERRORS as error:
            raise AssetError(
                f"a picture of {printable(self.groups[0].path)} can't be read any more ({str(error)[:120]}); the data "
                "changed since it was opened: open it again"
            ) from error

    def at(self, side: int) -> "ParquetImages":
        return replace(self, side=side)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except _PARQUET_ERRORS as error:
        reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise AssetError(f"{printable(name)} can't be read as Parquet ({reason}); get the file again") from error


def opening_parquet(entries: list[Entry], *, name: str, root: Path, cache: Path | None) -> Iterator[OpenProgress]:
    """Yields progress, returns Data: of the split called train where there are several.

    ``cache`` is a folder for what was seen. Raises AssetError where no picture can be read.
    """
    entries, notes = _one_split(sorted(entries))
    with _reading(entries[0].name):
        schema = pq.read_schema(entries[0].path)
    picture, label = _columns(schema, name)
    stamp = hash_of(picture, label, *(f"{entry.path}\0{entry.size}\0{entry.stamp}" for entry in entries))
    file = cache / f"rows-{stamp}.json" if cache else None
    rows = _remembered(file)
    if rows is None:
        rows = yield from _looking(entries, picture, label)
        if file:
            groups, seen, labels = rows
            content = {"groups": groups, "seen": [astuple(found) for found in seen], "labels": labels}
            write_bytes_atomically(file, encode_json(content).encode("utf-8", "surrogatepass"))
    return _data(entries, root, name, picture, schema.field(label) if label else None, rows, notes)


def _remembered(file: Path | None) -> _Rows | None:
    try:
        about = json.loads(file.read_bytes()) if file else {}
        groups = [_Group(*group) for group in about["groups"]]
        seen, labels = [Seen.from_plain(found) for found in about["seen"]], about["labels"]
        starts = [0, *accumulate(group.num_rows for group in groups)]
        whole = all(tuple(map(type, group)) == (str, int, int, int) for group in groups)
        whole = whole and [group.start for group in groups] == starts[:-1] and starts[-1] == len(seen) == len(labels)
        alike = {type(label) for label in labels} - {type(None)} in ({int}, {str}, set())
        return (groups, seen, labels) if whole and alike else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there yet, or damaged: looked at again
        return None


def _looking(entries: list[Entry], picture: str, label: str | None) -> Iterator[OpenProgress]:
    """Every row looked at; returns the row groups, what was seen and the labels."""
    files = []
    for entry in entries:
        with _reading(entry.name):
            files.append((entry, pq.ParquetFile(entry.path)))
    total = sum(file.metadata.num_rows for _, file in files)
    stride = max(1, -(-total // MAX_DECODED))
    groups, seen, labels = [], [], []
    for entry, file in files:
        for number in range(file.metadata.num_row_groups):
            with _reading(entry.name):
                table = _read_group(file, number, [picture] if label is None else [picture, label])
                contents = _contents(table.select([picture]))
                labels += table.column(label).to_pylist() if label else [0] * table.num_rows
            groups.append(_Group(entry.path, number, len(seen), table.num_rows))
            with ThreadPoolExecutor(THREADS) as pool:
                seen += pool.map(lambda content, row: _see(content, row % stride == 0), contents, count(len(seen)))
            yield OpenProgress(message="looking at the pictures", done=len(seen), total=max(total, len(seen)))
    return groups, seen, labels


def _see(content: bytes | None, decode: bool) -> Seen:
    return see_content(content, decode=decode) if content else Seen(reason="has no bytes in its row")


def _read_group(file: pq.ParquetFile, number: int, columns: list[str]) -> pa.Table:
    claimed = file.metadata.row_group(number).total_byte_size
    if not 0 <= claimed <= _MAX_GROUP_BYTES:
        raise ValueError(f"row group {number} claims {claimed:,} bytes; write smaller row groups")
    table = file.read_row_group(number, columns=columns)
    table.validate(full=True)
    return table


def _contents(table: pa.Table) -> list[bytes | None]:
    column = table.column(0).combine_chunks()
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return column.to_pylist()


def _one_split(entries: list[Entry]) -> tuple[list[Entry], list[str]]:
    """Files of one split by the names that Hugging Face gives them: ``train-00000-of-00010.parquet``."""
    splits: dict[str, list[Entry]] = {}
    for entry in entries:
        splits.setdefault(entry.name.rsplit("/", 1)[-1].split("-")[0].removesuffix(".parquet"), []).append(entry)
    if _FIRST_SPLIT not in splits or len(splits) == 1:
        return entries, []
    others = ", ".join(sorted(printable(split) for split in splits if split != _FIRST_SPLIT)[:5])
    return splits[_FIRST_SPLIT], [f"the part called {_FIRST_SPLIT} is taken; left out: {others}"]


def _columns(schema: pa.Schema, name: str) -> tuple[str, str | None]:
    """Names of the picture and the label column; a known name first, else the only one of a fitting type."""
    pictures = [column.name for column in schema if _holds_pictures(column.type)]
    picture = next((known for known in _PICTURE_COLUMNS if known in pictures), pictures[0] if pictures else None)
    if picture is None or schema.names.count(picture) != 1:
        found = ", ".join(f"{column.name} ({column.type})" for column in schema)[:200]
        raise AssetError(f"{name} has no column of pictures; found {found}; expected struct{{bytes, path}} or binary")
    fitting = [column.name for column in schema if pa.types.is_integer(column.type) or pa.types.is_string(column.type)]
    return picture, next((known for known in _LABEL_COLUMNS if fitting.count(known) == 1), None)


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _is_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _data(
    entries: list[Entry],
    root: Path,
    name: str,
    picture: str,
    label: pa.Field | None,
    rows: _Rows,
    notes: list[str],
) -> Data:
    groups, seen, labels = rows
    good = [row for row, found in enumerate(seen) if found.reason is None and labels[row] is not None]
    unlabelled = sum(value is None for value in labels)
    unreadable = tuple((f"row {row}", found.reason) for row, found in enumerate(seen) if found.reason)
    if not good:
        first = f"the first, {unreadable[0][0]}, {unreadable[0][1]}" if unreadable else "there are no rows with a label"
        raise AssetError(
            f"{name} holds no picture that can be read: of {len(seen):,} rows, {first}; get the files again"
        )
    kept = [labels[row] for row in good]
    numbers, class_names, more = _classes(kept, label, _names_of(entries[0], root, label), name)
    pairs = tuple((Entry(f"row {row}", "", 0, ""), seen[row]) for row in good)
    scan = Scan(good=pairs, unreadable=unreadable, num_skipped=0, all_decoded=len(seen) <= MAX_DECODED)
    stamp = hash_of(picture, *(f"{entry.name}\0{entry.size}\0{entry.stamp}" for entry in entries), *good)
    sizes = np.array([(seen[row].width, seen[row].height) for row in good], dtype=np.int64)
    if unlabelled:
        notes = [*notes, f"{unlabelled:,} rows have no label and are left out"]
    return Data(
        name,
        ParquetImages(tuple(groups), picture, np.array(good), natural_side(sizes)),
        numbers,
        class_names,
        hash_of(stamp, *class_names),
        f"{len(good):,} pictures in {len(class_names):,} {'class' if len(class_names) == 1 else 'classes'}",
        flip=True,
        pictures_hash=stamp,
        findings=Findings(
            kind="Parquet dataset",
            sizes=sizes,
            modes=dict(Counter(seen[row].mode for row in good)),
            unreadable=unreadable,
            duplicates=count_duplicates(scan, numbers),
            notes=tuple(notes + more + picture_notes([seen[row] for row in good], scan)),
        ),
    )


def _classes(
    labels: list, label: pa.Field | None, names: tuple[str, ...] | None, name: str
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    if label is None:
        return (
            np.zeros(len(labels), np.int64),
            (FLAT_CLASS,),
            ["there is no column of labels, so the pictures are one class"],
        )
    if pa.types.is_string(label.type):
        labels = list(map(str, labels))
        known = sorted(set(labels))
        if len(known) > MAX_CLASSES:
            raise AssetError(
                f"{name}: column {label.name} has {len(known):,} different words; expected names of classes"
            )
        number = {word: index for index, word in enumerate(known)}
        return np.array([number[word] for word in labels], np.int64), tuple(map(printable, known)), []
    numbers = checked_labels(np.array(labels), len(labels), name)
    needed = int(numbers.max()) + 1
    if names is None:
        return numbers, unnamed_classes(needed), ["the classes have no names in the files"]
    if len(names) < needed:
        raise AssetError(
            f"{name}: labels go to {needed - 1}, but there are names for {len(names)} classes; check the files"
        )
    return numbers, names, []


def _names_of(first: Entry, root: Path, label: pa.Field | None) -> tuple[str, ...] | None:
    if label is None:
        return None
    with _reading(first.name):
        metadata = (pq.read_schema(first.path).metadata or {}).get(b"huggingface", b"")
    return names_in_schema(metadata, label.name) or names_in_readme(root / "README.md", label.name)
