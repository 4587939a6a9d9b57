"""What all jobs have alike: --config, --metrics, one vocabulary, --help."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from pathlib import Path

import click
import pytest
from job_helpers import done, mistake, runner
from pyspark import SparkContext

from sparknn.classification import DeepBeliefNetworkClassifier, MultilayerPerceptronClassifier
from sparknn.cli.command import JobCommand
from sparknn.cli.session import Finished, status_of
from sparknn.cli.tune import tune
from sparknn.cli.types import Numbers
from sparknn.regression import DeepBeliefNetworkRegressor, MultilayerPerceptronRegressor

ROOT = Path(__file__).resolve().parent.parent


def commands() -> dict[str, click.Command]:
    """Return each job's command, those of a group one by one, by what is typed."""
    found: dict[str, click.Command] = {}
    for path in sorted((ROOT / "jobs").glob("*.py")):
        (names,) = [
            (node.module, node.names[0].name)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module != "sparknn.cli.session"
        ]
        command = getattr(import_module(names[0]), names[1])
        if isinstance(command, click.Group):
            found |= {f"{path.stem} {name}": each for name, each in command.commands.items()}
        else:
            found[path.stem] = command
    return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture):
    return runner(capsys)


@click.command("toy", cls=JobCommand)
@click.option("--input", "path", required=True)
@click.option("--max-iter", type=int, default=7)
@click.option("--hidden", type=Numbers(int))
@click.option("--grid", multiple=True)
@click.option("--scale/--no-scale", default=None)
def toy(explain: bool, **options: object) -> dict:
    """Return what it was asked."""
    return {**options, "explain": explain}


@pytest.fixture
def config(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "job.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_gives_options_and_the_command_line_wins(run, config) -> None:
    path = config('input = "a.csv"\nmax-iter = 3\nhidden = [30, 10]\nscale = false\ngrid = ["x=1"]')
    found = done(run, toy, "--config", path)
    assert found == {
        "path": "a.csv",
        "max_iter": 3,
        "hidden": [30, 10],
        "grid": ["x=1"],
        "scale": False,
        "explain": False,
    }
    found = done(run, toy, "--max-iter", 5, "--scale", "--config", path, "--hidden", 4, "--explain")
    assert (found["max_iter"], found["hidden"], found["scale"]) == (5, [4], True)
    assert found["explain"] is True


WRONG = {
    "unknown": ("max_iter = 3", ["job.toml", "'max_iter'", "'max-iter'"]),
    "nothing like it": ("zzz = 3", ["job.toml", "'zzz'", "--help"]),
    "no number": ('max-iter = "many"', ["job.toml", "--max-iter", "many"]),
    "a table": ("[input]\npath = 1", ["job.toml", "'input' is a table"]),
    "no flag": ("scale = 1", ["job.toml", "'scale' is true or false"]),
    "a flag": ("max-iter = true", ["job.toml", "'max-iter' is a value"]),
    "no TOML": ("max-iter 3", ["job.toml", "line 1"]),
    "another file": ('config = "b.toml"', ["job.toml", "'config'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_in_the_file_names_the_file_and_the_key(run, config, case) -> None:
    text, messages = WRONG[case]
    line = mistake(run, toy, "--input", "x", "--config", config(text))
    for message in messages:
        assert message in line


@pytest.mark.parametrize(
    "options", [["--inptu", "x"], [], ["--input"], ["--input", "x", "--max-iter", "y"], ["x"]]
)
def test_a_mistake_in_the_options_is_one_line_and_nothing_else(run, options) -> None:
    status, out, err = run(toy, *options)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")


def test_a_search_of_nothing_is_one_line(run) -> None:
    assert "logistic or mlp" in mistake(run, tune)


def test_a_file_that_is_not_there_is_one_line(run) -> None:
    assert "nowhere.toml" in mistake(run, toy, "--input", "x", "--config", "nowhere.toml")


def test_metrics_get_the_closing_line(run, spark, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.json"
    for count in (1, 2):
        result = done(run, toy, "--input", "x", "--max-iter", count, "--metrics", f"file:{path}")
        assert json.loads(path.read_text()) == result
    assert [each.name for each in path.parent.iterdir() if not each.name.endswith(".crc")] == [
        "metrics.json"
    ]


def test_metrics_are_written_where_nothing_is_left_to_do(run, spark, tmp_path, monkeypatch) -> None:
    def finish(**_: object) -> None:
        raise Finished({"finished": True})

    monkeypatch.setattr(toy, "callback", finish)
    result = done(run, toy, "--input", "x", "--metrics", tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == result == {"finished": True}


def test_metrics_that_cannot_be_written_stop_the_job_before_it_begins(
    run, spark, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(toy, "callback", lambda **_: pytest.fail("the job began"))
    (tmp_path / "file").write_text("")
    assert "is a directory" in mistake(run, toy, "--input", "x", "--metrics", tmp_path)
    for place in (tmp_path / "file" / "metrics", "nosuch://bucket/metrics"):
        line = mistake(run, toy, "--input", "x", "--metrics", place)
        assert "cannot be written" in line and str(place) in line


@pytest.mark.parametrize("name", commands())
def test_every_job_can_be_configured_explained_and_measured(name: str) -> None:
    command = commands()[name]
    options = {option.opts[0] for option in command.params}
    assert {"--config", "--explain", "--metrics", "--input"} <= options


@pytest.mark.parametrize("name", commands())
def test_help_says_what_every_option_is_for(name: str, capsys) -> None:
    command = commands()[name]
    for option in command.params:
        assert getattr(option, "help", None), option.opts
    status_of(lambda: command.main(["--help"], standalone_mode=False))
    text = capsys.readouterr().out
    titles = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles[0] == "Input:" and titles[-1] == "The job itself:"
    assert "docs/jobs.md" in text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train_mlp", MultilayerPerceptronClassifier),
        ("train_mlp", MultilayerPerceptronRegressor),
        ("train_regressor", MultilayerPerceptronRegressor),
        ("train_dbn", DeepBeliefNetworkClassifier),
        ("train_dbn", DeepBeliefNetworkRegressor),
    ],
)
def test_help_tells_the_solver_that_the_jobs_own_estimator_takes(name: str, kind) -> None:
    (option,) = [each for each in commands()[name].params if each.opts[0] == "--solver"]
    assert f"by default {kind().getSolver()}." in option.help


def test_an_option_means_the_same_in_every_job() -> None:
    meanings: dict[str, set[tuple[str | None, str]]] = {}
    for command in commands().values():
        for option in command.params:
            meaning = (option.name, type(option.type).__name__)
            meanings.setdefault(option.opts[0], set()).add(meaning)
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


GIVEN = {"--input": "x", "--model": "m", "--output": "o", "--hidden": "3", "--k": "2"}


@pytest.mark.parametrize("name", commands())
def test_every_job_starts_its_session_before_it_needs_one(name: str, monkeypatch) -> None:
    def start(*_: object) -> None:
        raise Finished({})

    command = commands()[name]
    known = {option.opts[0] for option in command.params}
    options = [word for each in GIVEN.items() if each[0] in known for word in each]
    options += ["--grid", "max-iter=1,2"] if "--grid" in known else []
    monkeypatch.setattr(f"{command.callback.__module__}.start_session", start)
    monkeypatch.setattr(SparkContext, "_active_spark_context", None)
    with pytest.raises(Finished):
        command.main(options, standalone_mode=False)


def test_every_job_and_option_of_its_own_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "jobs.md").read_text()
    for name, command in commands().items():
        assert f"jobs/{name.split()[0]}.py" in text
        for option in command.params:
            assert option.opts[0] in text, f"{name} {option.opts[0]}"
