"""The two rules of the architecture: the app never loads torch, the engine never loads streamlit; and its list of rooms
is whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "torchvision", "torch_fidelity")
APP_MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in (ROOT / "app").glob("*.py")
    if file.stem not in ("__init__", "main")
)
VIEWS = sorted(file.name for file in (ROOT / "app" / "views").glob("*.py") if file.stem != "__init__")


def loaded_after(code: str) -> set[str]:
    """Names of the top-level packages that a fresh interpreter holds after running ``code``."""
    script = f"{code}\nimport sys\nprint('loaded:' + ' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_no_module_of_the_app_loads_torch() -> None:
    loaded = loaded_after("\n".join(f"import {name}" for name in APP_MODULES))
    assert "streamlit" in loaded and "plotly" in loaded  # the check sees what is imported
    assert not loaded & set(HEAVY)


def test_no_page_loads_torch_when_it_runs(tmp_path: Path) -> None:
    code = f"""
import os
os.environ["ENTPRUNER_WORKSPACE"] = {str(tmp_path)!r}
from app import jobs
jobs.queue.ensure_worker = lambda workspace, *, device="cpu": True
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({str(ROOT / "app" / "main.py")!r}, default_timeout=60).run()
for view in {VIEWS!r}:
    at.switch_page("views/" + view).run()
    assert not at.exception, view
"""
    assert not loaded_after(code) & set(HEAVY)


@pytest.mark.parametrize("file", sorted((ROOT / "engine").rglob("*.py")), ids=lambda file: file.stem)
def test_no_module_of_the_engine_names_streamlit_or_the_app(file: Path) -> None:
    lines = [line.strip() for line in file.read_text().splitlines()]
    imports = [line.split()[1] for line in lines if line.startswith(("import ", "from ")) and len(line.split()) > 1]
    assert not [name for name in imports if name.split(".")[0] in ("streamlit", "app")]


def test_the_worker_and_the_command_line_load_no_streamlit() -> None:
    assert "streamlit" not in loaded_after(
        "import engine.cli, engine.runs.worker, engine.runs.jobs, engine.runs.previews"
    )


def test_the_page_on_architecture_lists_every_module_and_no_other() -> None:
    rooms = (ROOT / "docs" / "architecture.md").read_text()
    listed = set()
    for top in ("app", "engine", "assets", "docs", "bench", "tests"):
        section = re.search(rf"^{top}/(?: .*)?\n((?:  .*\n)+)", rooms, re.MULTILINE)
        for line in section[1].splitlines():
            first, *more = re.split(r" {2,}|(?<=\.py) ", line.strip())[0].split(", ")
            listed |= {f"{top}/{first}", *(f"{top}/{Path(first).parent}/{name}".replace("/./", "/") for name in more)}
    there = {
        file.relative_to(ROOT).as_posix()
        for top in ("app", "engine", "assets", "docs", "bench", "tests")
        for file in (ROOT / top).rglob("*.py")
        if file.name != "__init__.py" and file.stat().st_size
    }
    assert there == {name for name in listed if name.endswith(".py") and not name.endswith("__init__.py")}
