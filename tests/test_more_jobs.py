"""k-means, the comparison with naive Bayes, the regression job, and all that evaluate tells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from job_helpers import done, mistake, runner
from pyspark.ml.linalg import Vectors

from sparknn.cli import kmeans, naive_bayes, score, train
from sparknn.cli.calibration import calibration
from sparknn.cli.confusion import agreement, per_class

random = np.random.default_rng(5)
CENTRES = np.array([[0.0, 1000.0], [5.0, 3000.0], [10.0, 1000.0]])
POINTS = np.repeat(CENTRES, 30, axis=0) + random.normal(size=(90, 2)) * [0.3, 60.0]


@pytest.fixture
def run(spark, capsys: pytest.CaptureFixture):
    return runner(capsys)


def written(path: Path, header: str, rows) -> Path:
    path.write_text("\n".join([header, *rows, ""]))
    return path


@pytest.fixture
def points(tmp_path: Path) -> Path:
    rows = [f"p{i},{x!r},{y!r},{'abb'[i // 30]}" for i, (x, y) in enumerate(POINTS.tolist())]
    return written(tmp_path / "points.csv", "id,x,y,kind", rows)


def test_kmeans_saves_the_best_clustering_its_centres_and_assignments(
    run, points, spark, tmp_path
) -> None:
    output = tmp_path / "clusters"
    options = ("--input", points, "--scale", "standard", "--keep", "id")
    options += ("--features", "x,y", "--categorical", "kind")
    result = done(
        run, kmeans.kmeans, *options, "--k", "2,3", "--k", 3, "--seed", 3, "--max-iter", 5,
        "--output", output,
    )  # fmt: skip
    assert [each["k"] for each in result["clusterings"]] == [2, 3]
    costs = [each["cost"] for each in result["clusterings"]]
    assert costs == sorted(costs, reverse=True)
    assert result["best"]["k"] == 3 and sorted(result["best"]["sizes"]) == [30, 30, 30]
    assert result["best"]["silhouette"] > 0.9
    centres = spark.read.parquet(str(output / "centres")).collect()
    found = np.array(sorted((row.x, row.y) for row in centres))
    means = POINTS.reshape(3, 30, 2).mean(axis=1)
    assert found == pytest.approx(means, rel=1e-9)
    kinds = {tuple(row)[3:] for row in centres}
    assert kinds == {(1.0, 0.0), (0.0, 1.0)}
    assigned = {r.id: r.cluster for r in spark.read.parquet(str(output / "assignments")).collect()}
    assert len(assigned) == 90
    assert len({assigned[f"p{i}"] for i in range(30)}) == 1
    scored = tmp_path / "scored"
    more = ("--input", points, "--output", scored, "--keep", "id")
    result = done(run, score.predict, "--model", output, *more)
    assert result["columns"] == ["id", "cluster"]
    assert {r.id: r.cluster for r in spark.read.parquet(str(scored)).collect()} == assigned
    line = mistake(run, score.evaluate, "--model", output, "--input", points)
    assert "KMeansModel, which no label" in line


CLUSTER_MISTAKES = {
    "one": (["--k", "1"], "--k"),
    "none": (["--k", ""], "--k"),
    "passes": (["--k", "2", "--max-iter", "-1"], "--max-iter"),
    "keep": (["--k", "2", "--keep", "nix"], "no column 'nix'"),
    "taken": (["--k", "2"], "'cluster'"),
}


@pytest.mark.parametrize("case", CLUSTER_MISTAKES)
def test_a_mistake_about_clusters_is_one_line(run, tmp_path, case) -> None:
    options, message = CLUSTER_MISTAKES[case]
    header = "cluster,x,y" if case == "taken" else "a,x,y"
    path = written(tmp_path / "rows.csv", header, ["1,2,3", "4,5,6", "7,8,9"])
    line = mistake(run, kmeans.kmeans, "--input", path, "--features", "x,y", *options)
    assert message in line


def middle(count: int, seed: int) -> list[str]:
    """Rows whose class is 1 where `amount` is in the middle: not for a line, but for bins."""
    random = np.random.default_rng(seed)
    amounts = random.uniform(-3, 3, count)
    flags = random.integers(0, 2, count)
    return [
        f"{amount!r},{flag},{('Rome', 'Oslo')[i % 2]},{i % 3},{'in' if abs(amount) < 1 else 'out'}"
        for i, (amount, flag) in enumerate(zip(amounts.tolist(), flags, strict=True))
    ]


@pytest.fixture(scope="module")
def compared(spark, tmp_path_factory, request) -> tuple[dict, Path]:
    """A comparison on rows held out; its closing JSON, and where its directory is."""
    place = tmp_path_factory.mktemp("bayes")
    path = written(place / "rows.csv", "amount,flag,town,part,label", middle(300, 1))
    options = ["--input", path, "--models", "gaussian,bernoulli,logistic", "--split-column"]
    options += ["part=2", "--categorical", "town", "--output", place / "model", "--max-iter", 5]
    command = naive_bayes.naive_bayes
    return command.main(list(map(str, options)), standalone_mode=False), place


def test_naive_bayes_bins_what_it_cannot_take_and_is_compared_on_one_split(compared) -> None:
    result, _ = compared
    found = {each["model"]: each for each in result["models"]}
    assert {name: each["binned"] for name, each in found.items()} == {
        "gaussian": [],
        "bernoulli": ["amount"],
        "logistic": [],
    }
    assert (result["rows"], found["gaussian"]["validation"]["rows"]) == (200, 100)
    assert len({each["validation"]["rows"] for each in found.values()}) == 1
    accuracy = {name: each["validation"]["accuracy"] for name, each in found.items()}
    assert accuracy["bernoulli"] > 0.85 > accuracy["logistic"]
    assert result["best"] == result["saved"] == max(accuracy, key=accuracy.get)


def test_a_naive_bayes_with_bins_predicts_from_the_columns_it_was_given(
    compared, run, spark, tmp_path
) -> None:
    _, place = compared
    lines = ["a,0.5,1,Rome", "b,-2.5,0,Oslo", "c,2.9,1,Oslo"]
    rows = written(tmp_path / "new.csv", "id,amount,flag,town", lines)
    options = ("--model", place / "model", "--input", rows, "--output", tmp_path / "scored")
    result = done(run, score.predict, *options, "--keep", "id")
    assert result["columns"][0] == "id" and "amount" not in result["columns"]
    assert not [name for name in result["columns"] if "bin" in name]
    found = {r.id: r.predictedLabel for r in spark.read.parquet(str(tmp_path / "scored")).collect()}
    assert found == {"a": "in", "b": "out", "c": "out"}
    line = mistake(run, score.predict, *options, "--keep", "id", "--columns", "id", "--overwrite")
    assert "--columns" in line
    bad = written(tmp_path / "bad.csv", "amount,flag,town", ["0.5,1,Rome", "NaN,0,Rome"])
    line = mistake(run, score.predict, *options[:2], "--input", bad, *options[4:], "--overwrite")
    assert "'amount': 'NaN' is no number" in line and "line 3" in line


def test_gaussian_naive_bayes_is_scikit_learns(run, tmp_path) -> None:
    from sklearn.naive_bayes import GaussianNB

    random = np.random.default_rng(3)
    x, y = random.normal(size=(200, 2)), random.integers(0, 2, 200)
    x[y == 1] += [1.0, 0.5]
    lines = [f"{a!r},{b!r},{label}" for (a, b), label in zip(x.tolist(), y, strict=True)]
    train_file = written(tmp_path / "train.csv", "a,b,label", lines[:120])
    test_file = written(tmp_path / "test.csv", "a,b,label", lines[120:])
    options = ("--input", train_file, "--test", test_file, "--validation", 0)
    result = done(run, naive_bayes.naive_bayes, *options, "--models", "gaussian")
    expected = GaussianNB().fit(x[:120], y[:120]).score(x[120:], y[120:])
    assert result["models"][0]["test"]["accuracy"] == pytest.approx(expected)


BAYES_MISTAKES = {
    "nothing to compare on": (["--validation", "0"], "--validation"),
    "not compared": (["--models", "gaussian", "--save", "logistic"], "--save logistic"),
    "unknown": (["--models", "poisson"], "'poisson'"),
    "a class held out": (
        ["--models", "gaussian", "--split-column", "label=1"],
        "class 1 has no row",
    ),
}


@pytest.mark.parametrize("case", BAYES_MISTAKES)
def test_a_mistake_in_a_comparison_is_one_line(run, tmp_path, case) -> None:
    options, message = BAYES_MISTAKES[case]
    rows = written(tmp_path / "rows.csv", "a,label", [f"{i},{i % 2}" for i in range(40)])
    assert message in mistake(run, naive_bayes.naive_bayes, "--input", rows, *options)


def test_a_regressor_without_layers_is_a_linear_regression(run, tmp_path) -> None:
    rows = [f"{i},{i % 5},{3 * i - 2 * (i % 5) + 7}" for i in range(60)]
    path = written(tmp_path / "rows.csv", "a,b,y", rows)
    options = ("--input", path, "--label", "y", "--scale", "standard", "--tol", 1e-9)
    result = done(run, train.train_regressor, *options, "--test", path, "--output", tmp_path / "m")
    assert result["job"] == "train_regressor" and "classes" not in result
    assert result["test"]["rmse"] < 0.01
    told = done(run, score.evaluate, "--model", tmp_path / "m", "--input", path)
    assert abs(told["bias"]) <= told["medianAbsoluteError"] + told["rmse"]
    assert told["absoluteErrorQuantiles"]["0.99"] <= told["largestAbsoluteError"] < 0.05
    assert told["mse"] == pytest.approx(told["rmse"] ** 2)


def test_classes_are_told_one_by_one_as_scikit_learn_tells_them() -> None:
    from sklearn import metrics

    truth = random.integers(0, 3, 200)
    guess = np.where(random.random(200) < 0.7, truth, random.integers(0, 3, 200))
    matrix = metrics.confusion_matrix(truth, guess)
    table = per_class(matrix.tolist(), ["a", "b", "c"])
    expected = metrics.precision_recall_fscore_support(truth, guess)
    for name, values in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
        assert [row[name] for row in table] == pytest.approx(list(values))
    assert [row["class"] for row in table] == ["a", "b", "c"]
    assert [row["predicted"] for row in table] == np.bincount(guess).tolist()
    told = agreement(matrix.tolist())
    assert told["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, guess))
    assert told["matthews"] == pytest.approx(metrics.matthews_corrcoef(truth, guess))
    assert told["macroF1"] == pytest.approx(metrics.f1_score(truth, guess, average="macro"))


def test_classes_that_are_never_met_or_guessed_count_nothing() -> None:
    assert agreement([[5, 0], [0, 0]]) == {"macroF1": 1.0, "kappa": 0.0, "matthews": 0.0}
    table = per_class([[3, 0], [2, 0]], None)
    assert (table[1]["precision"], table[1]["recall"], table[0]["recall"]) == (0, 0, 1)


def test_calibration_compares_confidence_with_accuracy(spark) -> None:
    chances = [(0.95, 0), (0.95, 0), (0.95, 1), (0.6, 0), (0.55, 1), (1.0, 0)]
    rows = [(float(label), 0.0, Vectors.dense([p, 1 - p])) for p, label in chances]
    data = spark.createDataFrame(rows, ["label", "prediction", "probability"])
    told = calibration(data, 10)
    assert [(each["from"], each["rows"]) for each in told["calibration"]] == [
        (0.5, 1),
        (0.6, 1),
        (0.9, 4),
    ]
    last = told["calibration"][-1]
    assert last["confidence"] == pytest.approx(3.85 / 4) and last["accuracy"] == 0.75
    gaps = [0.55, 0.4, 3.85 / 4 - 0.75]
    assert told["expectedCalibrationError"] == pytest.approx(np.dot(gaps, [1, 1, 4]) / 6)
    assert told["maximumCalibrationError"] == pytest.approx(0.55)
    p = np.array([[p, 1 - p] for p, _ in chances])
    truth = np.eye(2)[[label for _, label in chances]]
    assert told["brier"] == pytest.approx(((p - truth) ** 2).sum() / 6)


def test_evaluate_tells_what_scikit_learn_tells(compared, run, spark, tmp_path, capsys) -> None:
    from sklearn import metrics

    _, place = compared
    path = written(tmp_path / "test.csv", "amount,flag,town,part,label", middle(80, 9))
    options = ("--model", place / "model", "--input", path)
    told = done(run, score.evaluate, *options, "--calibration-bins", 4)
    done(run, score.predict, *options, "--output", tmp_path / "scored")
    rows = spark.read.parquet(str(tmp_path / "scored")).collect()
    truth = np.array([row.label == "out" for row in rows])
    chance = np.array([row.probability[1] for row in rows])
    assert told["rows"] == 80 and len(told["calibration"]) <= 2
    assert told["accuracy"] == pytest.approx(np.mean(truth == (chance > 0.5)))
    assert told["areaUnderROC"] == pytest.approx(metrics.roc_auc_score(truth, chance), abs=1e-6)
    assert told["logLoss"] == pytest.approx(metrics.log_loss(truth, chance))
    assert told["brier"] == pytest.approx(2 * np.mean((chance - truth) ** 2))
    assert [each["class"] for each in told["perClass"]] == ["in", "out"]
    assert math.isclose(sum(each["rows"] for each in told["calibration"]), 80)
