import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data import load_data, opening_data, parquet
from engine.data.crop import centre_crop
from engine.errors import AssetError
from engine.models import hub
from tests.unit.made_pictures import encoded, noise

LABELS = [0, 1, 0, 1, 1, 0, 1]
CONTENTS = [encoded(noise(index, 30, 24)) for index in range(7)]
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
}


def table(contents=CONTENTS, labels=LABELS, *, features: dict | None = FEATURES, bare: bool = False) -> pa.Table:
    column = contents if bare else [{"bytes": content, "path": None} for content in contents]
    kind = pa.binary() if bare else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    found = pa.table({"image": pa.array(column, kind), "label": pa.array(labels)})
    if features:
        found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return found


def write(path, values: pa.Table, *, rows: int = 3):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(values, path, row_group_size=rows)
    return path


@pytest.mark.parametrize("bare", [False, True])
def test_pictures_labels_and_names_come_from_the_files(tmp_path, bare):
    write(tmp_path / "data" / "train-00000-of-00002.parquet", table(CONTENTS[:4], LABELS[:4], bare=bare))
    write(tmp_path / "data" / "train-00001-of-00002.parquet", table(CONTENTS[4:], LABELS[4:], bare=bare))
    data = load_data(tmp_path)
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == LABELS and data.flip
    expected = np.stack([centre_crop(noise(index, 30, 24), 24) for index in range(7)])
    assert data.images.shape == (7, 24, 24, 3)
    assert np.array_equal(data.images[:], expected)
    assert np.array_equal(data.images[np.array([6, 0, 4, 1])], expected[[6, 0, 4, 1]])
    assert data.images[[]].shape == (0, 24, 24, 3)
    assert data.at(8).images[2:5].shape == (3, 8, 8, 3)


def test_only_the_row_groups_asked_for_are_read(tmp_path, monkeypatch):
    data = load_data(write(tmp_path / "a.parquet", table(), rows=2))
    read = []
    contents = parquet._contents
    monkeypatch.setattr(parquet, "_contents", lambda found: read.append(found.num_rows) or contents(found))
    data.images[np.array([2, 3])]
    data.images[3:4]
    assert read == [2]


def test_the_training_part_is_taken_and_the_others_are_named(tmp_path):
    write(tmp_path / "train-00000-of-00001.parquet", table(CONTENTS[:4], LABELS[:4]))
    write(tmp_path / "test-00000-of-00001.parquet", table(CONTENTS[4:], LABELS[4:]))
    data = load_data(tmp_path)
    assert len(data) == 4
    assert any("left out: test" in note for note in data.findings.notes)


README = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '1': dog
          '0': cat
---
# words
"""


def test_names_come_from_the_readme_where_the_schema_has_none(tmp_path):
    write(tmp_path / "a.parquet", table(features=None))
    assert load_data(tmp_path).class_names == ("class 0", "class 1")
    (tmp_path / "README.md").write_text(README)
    assert load_data(tmp_path).class_names == ("cat", "dog")
    for damaged in ("---\n{", "---\n- 1\n---", "no front matter", "---\ndataset_info: {features: [{}]}\n---"):
        (tmp_path / "README.md").write_text(damaged)
        assert load_data(tmp_path).class_names == ("class 0", "class 1")


def test_words_as_labels_are_classes(tmp_path):
    data = load_data(write(tmp_path / "a.parquet", table(labels=["b", "a", "b", "a", "a", "b", "a"], features=None)))
    assert data.class_names == ("a", "b") and data.labels.tolist() == [1, 0, 1, 0, 0, 1, 0]


def test_rows_that_cannot_be_used_are_left_out_and_named(tmp_path):
    contents = [CONTENTS[0], b"words", None, *CONTENTS[3:]]
    data = load_data(write(tmp_path / "a.parquet", table(contents, [0, 1, 1, 1, None, 0, 1])))
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert [file for file, _ in data.findings.unreadable] == ["row 1", "row 2"]
    assert any(note.startswith("1 rows have no label") for note in data.findings.notes)
    assert np.array_equal(data.images[2:3][0], centre_crop(noise(5, 30, 24), 24))


def test_a_file_without_pictures_or_with_too_few_names_is_refused(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(AssetError, match=r"no column of pictures; found text \(string\)"):
        load_data(tmp_path / "a.parquet")
    with pytest.raises(AssetError, match="names for 2 classes"):
        load_data(write(tmp_path / "b.parquet", table(labels=[0, 1, 5, 0, 0, 0, 0])))
    huge = pa.array([2**63 + 1] * 7, pa.uint64())
    with pytest.raises(AssetError, match="labels go from"):
        load_data(write(tmp_path / "d.parquet", table(labels=huge)))
    with pytest.raises(AssetError, match="no picture that can be read"):
        load_data(write(tmp_path / "c.parquet", table([b"x"] * 7)))


def test_a_file_cut_short_or_gone_is_refused_in_one_line(tmp_path):
    path = write(tmp_path / "a.parquet", table())
    content = path.read_bytes()
    for keep in (6, 200, len(content) - 3):
        path.write_bytes(content[:keep])
        with pytest.raises(AssetError, match="can't be read as Parquet") as error:
            load_data(path)
        assert "\n" not in str(error.value)
    path.write_bytes(content)
    data = load_data(path)
    path.unlink()
    with pytest.raises(AssetError, match="can't be read as Parquet"):
        data.images[:]


def test_what_was_seen_is_remembered_until_a_file_changes(tmp_path, monkeypatch):
    path, workspace = write(tmp_path / "a.parquet", table([*CONTENTS[:6], b"x"])), tmp_path / "ws"
    first = load_data(path, workspace=workspace)
    looked = []
    see = parquet.see_content
    monkeypatch.setattr(parquet, "see_content", lambda content, **options: looked.append(1) or see(content, **options))
    again = load_data(path, workspace=workspace)
    assert looked == [] and again.content_hash == first.content_hash
    assert again.findings.unreadable == first.findings.unreadable
    assert np.array_equal(again.images[:], first.images[:])
    (file,) = (workspace / "cache").glob("rows-*.json")
    for damaged in ("{", "[]", '{"groups": [[1]], "seen": [], "labels": []}'):
        file.write_text(damaged)
        assert len(load_data(path, workspace=workspace)) == 6
    looked.clear()
    write(path, table())
    assert len(load_data(path, workspace=workspace)) == 7 and len(looked) == 7


def test_of_very_many_rows_a_part_is_decoded_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_DECODED", 3)
    cut = [content[:200] if row in (3, 4) else content for row, content in enumerate(CONTENTS)]
    data = load_data(write(tmp_path / "a.parquet", table(cut)))
    assert [file for file, _ in data.findings.unreadable] == ["row 3"]  # every third is decoded
    assert any("by their headers" in note for note in data.findings.notes)


def test_a_hub_id_opens_the_copy_on_this_machine_and_a_path_of_that_form_goes_first(tmp_path, monkeypatch):
    workspace = tmp_path / "ws"
    write(workspace / "hub" / "owner--pets" / "data" / "train-00000-of-00001.parquet", table())
    monkeypatch.chdir(tmp_path)
    data = load_data("owner/pets", workspace=workspace)
    assert data.name == "owner/pets" and len(data) == 7
    write(tmp_path / "owner" / "pets" / "a.parquet", table(CONTENTS[:2], LABELS[:2]))
    assert len(load_data("owner/pets", workspace=workspace)) == 2


def test_a_hub_id_is_downloaded_with_progress(tmp_path, monkeypatch):
    def download(ref, *, kind, workspace):
        assert (ref, kind) == ("owner/pets", "dataset")
        yield hub.Download("a.parquet", 10, 20)
        write(tmp_path / "there" / "a.parquet", table())
        yield hub.Download("", 20, 20, tmp_path / "there")

    monkeypatch.setattr(hub, "find_snapshot", lambda *args, **options: None)
    monkeypatch.setattr(hub, "download", download)
    first = next(opening_data("owner/pets", workspace=tmp_path / "ws"))
    assert (first.message, first.done, first.total) == ("downloading a.parquet", 10, 20)
    assert len(load_data("owner/pets", workspace=tmp_path / "ws")) == 7
