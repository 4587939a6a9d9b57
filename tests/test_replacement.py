"""Outputs are replaced so that one complete copy exists at every moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import click
import pytest
from pyspark.sql import SparkSession

from sparknn.cli import outputs, replacement
from sparknn.cli.paths import require_replaced
from sparknn.cli.session import status_of
from sparknn.errors import IncompleteError
from sparknn.persistence import require_complete
from sparknn.saved import MARKER, Folder

ROWS = "day=1/rows"


class Killed(BaseException):
    """What a kill is to a job: nothing catches it."""


class Fragile(replacement.Store):
    """A store whose n-th change is cut short: not begun, or done by half."""

    left, half, hit = -1, False, False

    def cut(self, step: str, path: str) -> None:
        cls = type(self)
        cls.left -= 1
        if cls.left != 0:
            return
        cls.hit = True
        if cls.half and step == "delete":
            for file in sorted(Path(path).rglob("*"))[:2]:
                if file.is_file():
                    file.unlink()
        raise Killed

    def mark(self, path, facts):
        self.cut("mark", path)
        super().mark(path, facts)

    def delete(self, path):
        self.cut("delete", path)
        super().delete(path)

    def rename(self, source, target):
        self.cut("rename", source)
        super().rename(source, target)

    def copy(self, source, target, size):
        self.cut("copy", source)
        super().copy(source, target, size)


@pytest.fixture(params=["renames", "copies", "copies, cut by half"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Fragile]:
    """Both kinds of file system, with steps that can be cut short."""
    monkeypatch.setattr(outputs, "Store", Fragile)
    if request.param != "renames":
        monkeypatch.setattr(replacement, "MOVING", ())
        # One after another, so that each number is one moment.
        monkeypatch.setattr(replacement, "COPIES_AT_A_TIME", 1)
    monkeypatch.setattr(Fragile, "left", -1)
    monkeypatch.setattr(Fragile, "half", request.param.endswith("half"))
    return Fragile


@pytest.fixture
def job(spark: SparkSession) -> click.Command:
    """A job that copies its input's text into an output of several files."""

    @click.command("job")
    @click.option("--input", "path")
    @click.option("--output")
    @click.option("--overwrite", is_flag=True)
    def command(path: str, output: str, overwrite: bool) -> dict:
        outputs.require_free(spark, output, overwrite)

        def write(place: str) -> None:
            for name in ("a", "b/c", "_SUCCESS"):
                file = Path(place, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(Path(path, ROWS).read_text())

        outputs.write_aside(spark, output, overwrite, write, lambda place: None)
        return {"job": "job", "output": output}

    return command


def fill(source: Path, text: str) -> None:
    """Write the one file of an input, which lies in a folder of its directory."""
    (source / ROWS).parent.mkdir(parents=True, exist_ok=True)
    (source / ROWS).write_text(text)


def run(command: click.Command, *options: object) -> int:
    arguments = [str(option) for option in options]
    return status_of(lambda: command.main(arguments, standalone_mode=False))


def copies(folder: Path) -> Iterator[Path]:
    """The directories that are complete: with a marker, and all files that it lists."""
    for path in folder.iterdir():
        if (path / MARKER).exists():
            files = json.loads((path / MARKER).read_text())["files"]
            assert {name: (path / name).stat().st_size for name in files} == files
            yield path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("before", ["old", None], ids=["over an old one", "at a free path"])
def test_killed_at_any_step_a_copy_is_complete_and_the_same_command_ends_it(
    spark, tmp_path: Path, store: type[Fragile], job: click.Command, before: str | None, capsys
) -> None:
    source = tmp_path / "input"
    overwrite = ["--overwrite"] if before else []
    for number in count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        output = folder / "out"
        asked = ("--input", source, "--output", output, *overwrite)
        if before:
            fill(source, before)
            assert run(job, *asked) == 0
        fill(source, "brand new")
        store.hit, store.left = False, number
        with suppress(Killed):
            assert run(job, *asked) == 0
        store.left = -1
        if not store.hit:
            break
        whole = list(copies(folder))
        # At a free path there is nothing to lose until the new copy is complete.
        assert whole or (not before and number == 1)
        if not (output / MARKER).exists() and whole:
            for refuse in (require_complete, require_replaced):
                with pytest.raises(IncompleteError, match=r"complete copy is .*out\.new-"):
                    refuse(spark, str(output))
            with pytest.raises(IncompleteError, match=r"complete copy is .*out\.new-"):
                Folder.at(output).require_marker()
        finished = (output / MARKER).exists() and (output / "a").read_text() == "brand new"
        again = ["--overwrite"] if finished else []
        assert run(job, *asked, *again) == 0, capsys.readouterr().err
        assert (output / "a").read_text() == (output / "b" / "c").read_text() == "brand new"
        assert [path.name for path in copies(folder)] == ["out"]
        assert not any(".old-" in name for name in names(folder))
    assert number > 3


def killed_in_the_replacement(job, source: Path, output: Path) -> None:
    """Write an old output, then a new one whose replacement is cut short."""
    fill(source, "old")
    assert run(job, "--input", source, "--output", output) == 0
    fill(source, "brand new")
    Fragile.left = 3
    with pytest.raises(Killed):
        run(job, "--input", source, "--output", output, "--overwrite")
    Fragile.left = -1
    assert not (output / MARKER).exists()


def test_the_same_command_on_the_same_files_only_finishes(tmp_path, store, job, capsys) -> None:
    source, output = tmp_path / "input", tmp_path / "out"
    killed_in_the_replacement(job, source, output)
    capsys.readouterr()
    assert run(job, "--input", source, "--output", output, "--overwrite") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"job": "job", "output": str(output), "finished": True}
    assert "finishing a killed job's replacement" in said.err
    assert (output / "a").read_text() == "brand new"
    assert names(tmp_path) == {"input", "out"}


def test_the_same_command_on_other_files_does_its_work_again(tmp_path, store, job, capsys) -> None:
    source, output = tmp_path / "input", tmp_path / "out"
    killed_in_the_replacement(job, source, output)
    fill(source, "newer than that")
    capsys.readouterr()
    assert run(job, "--input", source, "--output", output, "--overwrite") == 0
    assert "finished" not in json.loads(capsys.readouterr().out)
    assert (output / "a").read_text() == "newer than that"


def test_without_overwrite_nothing_is_replaced_but_parts_of_the_copy(
    tmp_path, store, job, capsys
) -> None:
    source, output = tmp_path / "input", tmp_path / "out"
    killed_in_the_replacement(job, source, output)
    output.mkdir(exist_ok=True)
    (output / "foreign").write_text("somebody's")
    assert run(job, "--input", source, "--output", output) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "foreign").read_text() == "somebody's"


def test_a_copy_with_a_file_too_few_is_not_put_in_place(tmp_path, store, job, capsys) -> None:
    source, output = tmp_path / "input", tmp_path / "out"
    killed_in_the_replacement(job, source, output)
    (copy,) = tmp_path.glob("out.new-*")
    os.unlink(copy / "b" / "c")
    assert run(job, "--input", source, "--output", output, "--overwrite") == 2
    assert str(copy) in capsys.readouterr().err


def test_rows_that_do_not_come_back_leave_the_old_ones(tmp_path, spark, monkeypatch) -> None:
    output = str(tmp_path / "rows")
    assert outputs.write_rows(spark, spark.range(10), output, False) == 10
    monkeypatch.setattr(type(spark.read), "parquet", lambda self, path: spark.range(4))
    with pytest.raises(OSError, match="4 rows of the 20"):
        outputs.write_rows(spark, spark.range(20), output, True)
    monkeypatch.undo()
    assert spark.read.parquet(output).count() == 10
    assert names(tmp_path) == {"rows"}
