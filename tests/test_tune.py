"""The tuning job: grids and random draws, folds, the table, the best model, killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.feature import StandardScalerModel
from pyspark.sql import SparkSession

from sparknn.classification import LogisticRegression
from sparknn.cli import folds as folds_module
from sparknn.cli import score
from sparknn.cli.folds import Folds
from sparknn.cli.inputs import read
from sparknn.cli.session import status_of
from sparknn.cli.settings import Range, Values, settings_of
from sparknn.cli.tune import tune

HEADER = "first,second,label"
ROWS = [f"{index},{(index * 7) % 11},{int((index * 7) % 11 > 4)}" for index in range(60)]


@pytest.fixture
def run(spark: SparkSession, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Run the job; return its status, standard output and standard error."""

    def call(*options: object) -> tuple[int, str, str]:
        capsys.readouterr()
        arguments = list(map(str, options))
        status = status_of(lambda: tune.main(arguments, standalone_mode=False))
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def done(run) -> Callable[..., tuple[dict, str]]:
    """Run a search that succeeds; return its closing JSON object and its messages."""

    def call(*options: object) -> tuple[dict, str]:
        status, out, err = run(*options)
        assert status == 0, err
        (line,) = out.splitlines()
        return json.loads(line), err

    return call


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tune") / "rows.csv"
    path.write_text("\n".join([HEADER, *ROWS, ""]))
    return path


def searchable(*names: str) -> dict[str, click.Option]:
    options = {option.opts[0].removeprefix("--"): option for option in tune.commands["mlp"].params}
    return {name: options[name] for name in names}


def drawn(text: str):
    return Range().convert(text, None, None)


def test_a_grid_is_every_combination_of_its_values() -> None:
    known = searchable("hidden", "step-size", "solver")
    grid = [Values().convert(text, None, None) for text in ("hidden=100,50x20", "step-size=0.1,1")]
    found = settings_of(known, grid, [], None, 1)
    assert [setting.options for setting in found] == [
        {"hidden": [100], "step_size": 0.1},
        {"hidden": [100], "step_size": 1.0},
        {"hidden": [50, 20], "step_size": 0.1},
        {"hidden": [50, 20], "step_size": 1.0},
    ]
    assert found[2].shown == {"hidden": "50x20", "step-size": "0.1"}


def test_random_settings_lie_in_their_ranges_and_are_the_seeds() -> None:
    known = searchable("hidden", "step-size", "reg-param", "activation")
    texts = ("hidden=int:2:4", "step-size=log:0.001:0.1", "reg-param=linear:0:1")
    ranges = [drawn(text) for text in texts]
    grid = [("activation", ["relu", "tanh"])]
    found = [setting.options for setting in settings_of(known, grid, ranges, 40, 7)]
    again = [setting.options for setting in settings_of(known, grid, ranges, 40, 7)]
    other = [setting.options for setting in settings_of(known, grid, ranges, 40, 8)]
    assert len(found) == 40 and found == again != other
    assert {tuple(each["hidden"]) for each in found} == {(2,), (3,), (4,)}
    assert {each["activation"] for each in found} == {"relu", "tanh"}
    steps = np.array([each["step_size"] for each in found])
    assert (steps >= 0.001).all() and (steps <= 0.1).all()
    # Half of a log range's draws lie below its geometric mean; of a linear one's, a tenth would.
    assert 10 <= (steps < 0.01).sum() <= 30


def test_random_settings_are_not_drawn_twice() -> None:
    found = settings_of(searchable("hidden"), [], [drawn("hidden=int:2:4")], 10, 1)
    assert sorted(setting.shown["hidden"] for setting in found) == ["2", "3", "4"]


@pytest.fixture(scope="module")
def searched(
    spark: SparkSession, table: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict, str, Path]:
    """A search with a strong and a weak penalty; its JSON, its messages, its output."""
    output = tmp_path_factory.mktemp("tuned") / "model"
    capture = []
    options = ["logistic", "--input", table, "--scale", "standard", "--metric", "logLoss"]
    options += ["--grid", "reg-param=10,0.01", "--max-iter", 10, "--output", output]
    results: list[dict] = []
    with pytest.MonkeyPatch.context() as patch:
        for module in ("tune", "folds"):
            patch.setattr(f"sparknn.cli.{module}.say", capture.append)
        results.append(tune.main(list(map(str, options)), standalone_mode=False))
    return results[0], "\n".join(capture), output


def test_the_best_setting_is_fitted_on_all_rows_and_saved(searched, run, table, spark) -> None:
    result, _, output = searched
    assert result["rows"] == len(ROWS)
    assert result["best"]["setting"] == {"reg-param": 0.01}
    assert [each["setting"]["reg-param"] for each in result["settings"]] == [0.01, 10.0]
    pipeline = PipelineModel.load(str(output))
    scaler = next(stage for stage in pipeline.stages if isinstance(stage, StandardScalerModel))
    assert scaler.mean.toArray()[0] == pytest.approx(29.5)
    assert pipeline.stages[-1].getRegParam() == 0.01
    options = ["--model", str(output), "--input", str(table)]
    assert status_of(lambda: score.evaluate.main(options, standalone_mode=False)) == 0


def test_each_fold_is_measured_by_what_was_fitted_on_the_others(searched, spark, table) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.evaluation import MulticlassClassificationEvaluator
    from pyspark.ml.feature import StandardScaler, VectorAssembler

    # Folds are drawn by the rows' content, their types included.
    data = read(spark, str(table)).rows
    pipeline = Pipeline(
        stages=[
            VectorAssembler(inputCols=["first", "second"], outputCol="raw"),
            StandardScaler(inputCol="raw", outputCol="features", withMean=True),
            LogisticRegression(regParam=0.01, maxIter=10),
        ]
    )
    training, held = next(iter(Folds(data, 3, 1)))
    evaluator = MulticlassClassificationEvaluator(metricName="logLoss")
    expected = evaluator.evaluate(pipeline.fit(training).transform(held))
    assert searched[0]["best"]["values"][0] == pytest.approx(expected, rel=1e-6)
    best = searched[0]["best"]
    assert best["mean"] == pytest.approx(np.mean(best["values"]))
    assert best["deviation"] == pytest.approx(np.std(best["values"]))


def test_the_table_begins_with_the_best(searched) -> None:
    result, messages, _ = searched
    lines = [line.split() for line in messages.splitlines()]
    start = lines.index(["logLoss", "deviation", "reg-param"])
    assert lines[start + 1][0] == f"{result['best']['mean']:.6g}"
    assert [line[2] for line in lines[start + 1 : start + 3]] == ["0.01", "10"]


def test_a_regression_is_searched_by_its_own_metrics(run, done, table) -> None:
    options = ("mlp", "--task", "regression", "--input", table, "--label", "second", "--folds", 2)
    grid = ("--layers", "2,1", "--solver", "sgd", "--max-iter", 2, "--grid", "step-size=0.01,1e39")
    result, _ = done(*options, *grid)
    assert (result["metric"], result["best"]["setting"]) == ("rmse", {"step-size": 0.01})
    assert result["settings"][1]["mean"] is None
    status, _, err = run(*options, *grid, "--metric", "accuracy")
    assert (status, "--metric accuracy is not one of regression" in err) == (2, True)


def test_folds_do_not_depend_on_the_order_or_the_partitions_of_rows(spark, table) -> None:
    data = spark.read.csv(str(table), header=True, inferSchema=True)
    sides = [
        [sorted(map(tuple, held.collect())) for _, held in Folds(frame, 3, 5)]
        for frame in (data, data.orderBy("second").repartition(5))
    ]
    assert sides[0] == sides[1]
    assert sorted(row for side in sides[0] for row in side) == sorted(map(tuple, data.collect()))
    assert sides[0] != [sorted(map(tuple, held.collect())) for _, held in Folds(data, 3, 6)]


def test_a_setting_that_diverges_is_reported_and_the_others_go_on(done, table) -> None:
    result, messages = done(
        "mlp", "--input", table, "--solver", "sgd", "--activation", "relu",
        "--hidden", 3, "--max-iter", 2, "--folds", 2, "--grid", "step-size=1e39,0.001",
    )  # fmt: skip
    good, bad = result["settings"]
    assert good["setting"] == {"step-size": 0.001} and good["mean"] is not None
    assert bad["mean"] is None and "the loss is" in bad["failure"]
    assert "failed" in messages


def test_a_killed_search_goes_on_after_its_finished_folds(
    done, run, table, tmp_path, monkeypatch
) -> None:
    options = ("mlp", "--input", table, "--max-iter", 3, "--folds", 3, "--grid", "hidden=2,3")
    whole, _ = done(*options)
    options += ("--checkpoint-dir", tmp_path / "c")
    fitted = []
    score_models = folds_module.score_models

    def counted(*arguments):
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(0)
        return score_models(*arguments)

    monkeypatch.setattr("sparknn.cli.tune.score_models", counted)
    assert run(*options)[0] == 130
    fitted[:] = [0]
    status, _, messages = run(*options[:-2], "--seed", 5, *options[-2:])
    assert status == 2 and "another search" in messages.splitlines()[-1]
    status, _, messages = run(
        *options, "--missing", "mean", "--unseen", "keep", "--bins", "first=20",
        "--categorical", "second",
    )  # fmt: skip
    refused = messages.splitlines()[-1]
    assert status == 2 and "categorical, bins, missing, unseen, rows differ" in refused
    resumed, messages = done(*options)
    assert len(fitted) == 2, "only the fold that was not finished is trained"
    assert "fold 2 of 3: 2 settings, kept from before" in messages
    assert resumed["settings"] == whole["settings"]
    assert not list((tmp_path / "c").rglob("*.json"))


@pytest.fixture
def towns(tmp_path: Path) -> Path:
    """Rows with a word that is in one of them alone."""
    path = tmp_path / "towns.csv"
    rows = [f"{row},{('Oslo', 'Rome')[index % 2]}" for index, row in enumerate(ROWS)]
    path.write_text("\n".join(["first,second,label,town", *rows, "70,3,1,Kyiv", ""]))
    return path


@pytest.mark.parametrize("grid", ["hidden=2,3", "layers=5x2x2,5x3x2"])
def test_a_word_in_one_row_has_a_column_in_all_folds(done, towns, grid) -> None:
    options = ("mlp", "--input", towns, "--categorical", "town", "--folds", 2, "--max-iter", 1)
    # Both numbers and three towns, in each fold as in the model of all rows.
    result, _ = done(*options, "--grid", grid)
    assert result["features"] == 5
    assert all(len(each["values"]) == 2 and each["mean"] for each in result["settings"])


MISTAKES = {
    "nothing to search": ((), "nothing to search"),
    "unknown": (("--grid", "speed=1,2"), "'speed' cannot be searched; there are max-iter"),
    "fixed": (("--grid", "seed=1,2"), "'seed' cannot be searched"),
    "twice": (("--grid", "tol=1", "--grid", "tol=2"), "'tol' is there more than once"),
    "given too": (("--tol", "1", "--grid", "tol=1,2"), "--tol is given, and searched"),
    "no number": (("--grid", "reg-param=0.1,much"), "'much' is not a valid float"),
    "no range": (("--range", "tol=log:0:1", "--samples", "2"), "a log range begins above 0"),
    "no samples": (("--range", "tol=log:0.1:1"), "say with --samples"),
    "out of range": (("--grid", "reg-param=0.1,-1"), "regParam must be at least 0, got -1.0"),
    "folds": (("--grid", "tol=1", "--folds", "100"), "--folds 100 leaves"),
    "no file": (("--grid", "tol=1", "--input", "/nowhere.csv"), "/nowhere.csv"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_takes_one_line_and_status_2(run, table, case) -> None:
    options, complaint = MISTAKES[case]
    given = () if "--input" in options else ("--input", table)
    status, out, err = run("logistic", *given, *options)
    assert (status, out) == (2, ""), err
    errors = [line for line in err.splitlines() if line.lower().startswith("error")]
    assert len(errors) == 1 and complaint in errors[0]


def test_an_output_is_not_replaced_unasked(run, searched, table) -> None:
    options = ("logistic", "--input", table, "--grid", "tol=1", "--output", searched[2])
    status, _, err = run(*options)
    assert status == 2 and "--overwrite" in err
