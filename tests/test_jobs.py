"""The jobs, run by the real spark-submit as a user runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jvm
import numpy as np
import pytest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("SPARK_LOCAL_IP", "SPARK_SUBMIT_OPTS")

# What pyspark's daemon prints when Spark closes an idle worker's socket in the file system, after a
# minute or at the end of an application: no code of a job's runs then, and none can prevent it.
CLOSED = re.compile(
    r"(?:Traceback \(most recent call last\):\n"
    r"|  File \"[^\"]*pyspark/daemon\.py\", line \d+, in (?:manager|worker)\n"
    r"|BrokenPipeError: \[Errno 32\] Broken pipe\n){4,}"
)


def submit(job: str, *options: object, master: str = "local[2]") -> subprocess.CompletedProcess:
    """Run a job; nothing is left of the test session's own Spark in its environment."""
    import pyspark

    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYSPARK_", "SPARK_")) or name in KEPT
    }
    environment["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    environment["PYSPARK_PYTHON"] = sys.executable
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [
            f"{environment['SPARK_HOME']}/bin/spark-submit",
            "--master",
            master,
            "--conf",
            "spark.ui.enabled=false",
            "--conf",
            "spark.log.level=ERROR",
            "--conf",
            f"spark.executor.extraJavaOptions={jvm.options()}",
            f"jobs/{job}.py",
            *map(str, options),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def closing(process: subprocess.CompletedProcess) -> dict:
    """Return the JSON object that a job's standard output consists of."""
    assert process.returncode == 0, process.stderr
    (line,) = process.stdout.splitlines()
    return json.loads(line)


def mistake(process: subprocess.CompletedProcess) -> str:
    """Return the line that explains a user's mistake."""
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    assert "Traceback" not in CLOSED.sub("", process.stderr)
    return next(line for line in process.stderr.splitlines() if line.startswith(("error", "Error")))


@pytest.fixture(scope="module")
def digits_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("digits")
    subprocess.run(
        [sys.executable, "-m", "sparknn.cli.digits", str(directory)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return directory


@pytest.fixture(scope="module")
def trained(digits_csv: Path) -> tuple[Path, dict]:
    """A perceptron trained by spark-submit on a standalone-like cluster of two executors."""
    output = digits_csv / "model"
    result = closing(
        submit(
            "train_mlp",
            "--input", digits_csv / "train.csv", "--validation", "0.1",
            "--scale", "minmax", "--hidden", "40,20", "--activation", "relu",
            "--solver", "sgd", "--step-size", "0.05", "--momentum", "0.9",
            "--block-size", "16", "--max-iter", "25", "--seed", "-3", "--output", output,
            master="local-cluster[2,1,1024]",
        )
    )  # fmt: skip
    return output, result


def test_training_on_a_cluster_reports_what_it_did(trained: tuple[Path, dict]) -> None:
    output, result = trained
    assert result["rows"] + result["validation"]["rows"] == 1437
    assert (result["features"], result["classes"], result["epochs"]) == (64, 10, 25)
    assert result["validation"]["accuracy"] > 0.93
    assert 0 < result["loss"] < 0.2
    assert result["output"] == str(output)
    assert result["skipped"] == 0


def test_evaluate_needs_only_the_models_path(digits_csv: Path, trained) -> None:
    result = closing(submit("evaluate", "--model", trained[0], "--input", digits_csv / "test.csv"))
    assert result["rows"] == 360 == np.sum(result["confusion"])
    assert result["accuracy"] == pytest.approx(np.trace(result["confusion"]) / 360)
    assert result["accuracy"] > 0.93


def test_predict_writes_predictions_and_refuses_to_replace_them(
    digits_csv: Path, trained, spark
) -> None:
    output = digits_csv / "scored"
    options = ("--model", trained[0], "--input", digits_csv / "test.csv", "--output", output)
    result = closing(submit("predict", *options, "--columns", "label,prediction"))
    assert result["rows"] == 360
    scored = spark.read.parquet(str(output))
    assert scored.columns == ["label", "prediction"]
    assert scored.filter("label = prediction").count() > 330
    before = sorted(output.iterdir())
    assert "exists" in mistake(submit("predict", *options))
    assert sorted(output.iterdir()) == before


def test_words_are_labels_and_come_back_as_words(tmp_path: Path, spark) -> None:
    random = np.random.default_rng(0)
    with (tmp_path / "fruit.csv").open("w") as file:
        file.write("weight,width,fruit\n")
        for index in range(120):
            word = ("cherry", "apple")[index % 2]
            base = (8, 150)[index % 2]
            file.write(f"{base + random.random() * 5},{base / 10},{word}\n")
    result = closing(
        submit(
            "train_logistic",
            "--input", tmp_path / "fruit.csv", "--label", "fruit", "--scale", "standard",
            "--reg-param", "0.01", "--output", tmp_path / "model",
        )
    )  # fmt: skip
    assert result["classes"] == 2
    (tmp_path / "new.csv").write_text("weight,width\n9.5,0.8\n151.0,15.0\n")
    closing(
        submit(
            "predict",
            "--model", tmp_path / "model", "--input", tmp_path / "new.csv",
            "--output", tmp_path / "out", "--columns", "weight,predictedLabel",
        )
    )  # fmt: skip
    rows = spark.read.parquet(str(tmp_path / "out")).collect()
    assert {(row.weight, row.predictedLabel) for row in rows} == {
        (9.5, "cherry"),
        (151.0, "apple"),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", "5", "--label", "nix"], "no column 'nix'"),
        ([], "--hidden"),
        (["--hidden", "5", "--no-such"], "no-such"),
        (["--hidden", "5", "--step-size", "-1"], "stepSize"),
        (["--layers", "63,10"], "63 values wide"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_status_2(
    digits_csv: Path, options: list[str], message: str
) -> None:
    process = submit("train_mlp", "--input", digits_csv / "train.csv", *options)
    assert process.returncode == 2
    assert "Traceback" not in CLOSED.sub("", process.stderr)
    assert message in process.stderr
    assert process.stdout == ""


def test_a_bad_cell_is_named_with_its_line_and_leaves_the_old_model(tmp_path: Path) -> None:
    lines = [f"{index},{index * 2},{index % 2}" for index in range(150)]
    lines[17] = "17,NaN,1"
    (tmp_path / "rows.csv").write_text("\n".join(["first,second,label", *lines, ""]))
    output = tmp_path / "model"
    options = ("--input", tmp_path / "rows.csv", "--scale", "standard", "--output", output)
    good = closing(submit("train_logistic", *options, "--bad-lines", "skip"))
    assert (good["rows"], good["skipped"]) == (149, 1)
    before = sorted(path.name for path in output.rglob("*"))
    message = mistake(submit("train_logistic", *options, "--overwrite"))
    assert "line 19" in message and "'second'" in message
    assert sorted(path.name for path in output.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir() if ".new" in path.name] == []


def test_nothing_at_the_input_is_said_in_a_line(tmp_path: Path) -> None:
    message = mistake(submit("train_logistic", "--input", tmp_path / "nothing.csv"))
    assert "nothing.csv" in message


def test_help_explains_the_options() -> None:
    process = submit("train_mlp", "--help")
    assert process.returncode == 0
    for option in ("--hidden", "--validation", "--overwrite", "--step-size-schedule"):
        assert option in process.stdout + process.stderr
