"""The README's commands do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.cluster
def test_the_shell_block_runs_in_bin_pyspark() -> None:
    import pyspark

    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
    (block,) = [block for block in blocks if "parallelize" in block]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_")
    }
    environment |= {
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.run(
        [f"{environment['SPARK_HOME']}/bin/pyspark", "--master", "local[2]"],
        input=block,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    found = re.search(r"accuracy on the training digits: ([0-9.]+)", process.stdout)
    assert found, process.stdout + process.stderr
    assert float(found[1]) > 0.97


def test_every_file_that_the_readme_names_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in re.findall(r"\b((?:jobs|docs|benchmarks)/[\w.-]+\.\w+)", readme):
        assert (ROOT / name).is_file(), name


def test_no_two_commands_of_the_docs_write_to_the_same_place() -> None:
    pages = [ROOT / "README.md", ROOT / "docs" / "jobs.md", ROOT / "docs" / "training.md"]
    text = "".join(page.read_text() for page in pages)
    places = re.findall(r"(?:--output |output = \")(digits/[\w-]+)", text)
    assert len(places) > 8 and len(set(places)) == len(places)
