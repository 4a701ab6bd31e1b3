import hashlib
import importlib.metadata
import json
import platform

import pytest

from engine.errors import AssetError
from engine.runs.provenance import file_sha256, package_versions, write_provenance
from engine.runs.stage import Stage


def test_a_stage_notes_versions_and_hashes(tmp_path):
    source, folder = tmp_path / "mine.pt", tmp_path / "stage"
    folder.mkdir()
    source.write_bytes(b"loaded")
    (folder / "weights.safetensors").write_bytes(b"pruned")
    write_provenance(folder, source=str(source), loaded=True)
    about = Stage(0, folder, {}).provenance()
    assert about["source"] == {"file": "mine.pt", "sha256": hashlib.sha256(b"loaded").hexdigest()}
    assert about["weights_sha256"] == hashlib.sha256(b"pruned").hexdigest()
    assert about["versions"]["torch"] == importlib.metadata.version("torch")
    assert about["versions"]["python"] == platform.python_version() and about["machine"]["cores"] >= 1
    assert about["versions"] == package_versions() and json.loads(json.dumps(about)) == about


def test_what_is_not_there_is_left_out(tmp_path):
    assert Stage(0, tmp_path, {}).provenance() is None  # of before it was noted
    write_provenance(tmp_path, source=str(tmp_path / "gone.pt"), loaded=True)
    assert Stage(0, tmp_path, {}).provenance().keys() == {"versions", "machine"}
    (tmp_path / "there.pt").write_bytes(b"x")
    write_provenance(tmp_path, source=str(tmp_path / "there.pt"), loaded=False)
    assert "source" not in Stage(0, tmp_path, {}).provenance()
    with pytest.raises(AssetError, match="can't be read"):
        file_sha256(tmp_path / "gone.pt")
