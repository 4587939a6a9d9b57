"""Jobs from s3a to s3a by spark-submit, against a server that checks signatures and can deny.

The jars come from Maven Central, once, into the user's cache.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jvm
import numpy as np
import pytest

from sparknn import load_numpy
from sparknn.cli.session import status_of
from sparknn.cli.train import train_logistic
from sparknn.errors import IncompleteError
from sparknn.saved import MARKER

pytestmark = pytest.mark.cluster
boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto")

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparknn" / "s3"
REGION = "us-east-1"
BUCKET = "tests-bucket"

FAST = (
    "spark.ui.enabled=false",
    "spark.log.level=ERROR",
    "spark.sql.shuffle.partitions=2",
    f"spark.driver.extraJavaOptions={jvm.options()}",
)

RIGHTS = {
    "writer": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    "nobody": [{"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}],
}
# Takes a session's token, too, of which there is none.
NO_KEYS = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@dataclass
class Lab:
    """A server, its users' keys, and spark-submit pointed at it."""

    url: str
    trap: Path
    keys: dict[str, dict[str, str]] = field(default_factory=dict)

    def client(self, service: str, user: str = "writer"):
        known = self.keys.get(user, {})
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=known.get("AWS_ACCESS_KEY_ID", "set-up"),
            aws_secret_access_key=known.get("AWS_SECRET_ACCESS_KEY", "set-up"),
        )

    def add_user(self, name: str, statements: list[dict]) -> None:
        iam = self.client("iam", "")
        iam.create_user(UserName=name)
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.keys[name] = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def check_requests(self) -> None:
        """From here on signatures and rights are checked."""
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", b"0", plain)
        urllib.request.urlopen(request).close()

    def json(self, key: str) -> dict:
        """What an object of JSON holds."""
        return json.load(self.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"])

    def names(self, prefix: str) -> list[str]:
        """The keys under a prefix."""
        listed = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in listed.get("Contents", [])]

    def model(self, path: str):
        """A model in the bucket, read without Spark."""
        host = self.url.removeprefix("http://")
        uri = f"s3://{BUCKET}/{path}?scheme=http&endpoint_override={host}&region={REGION}"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.keys["writer"].items():
                patch.setenv(name, value)
            return load_numpy(uri)

    def submit(
        self, script: str, *options: str, conf: Sequence[str] = (), die_at: str = ""
    ) -> subprocess.CompletedProcess:
        """Run a job as a user would, in a process group that ends at a request, if one is named."""
        import pyspark

        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYSPARK_", "SPARK_", "AWS_")) or name == "SPARK_LOCAL_IP"
        }
        home = str(Path(pyspark.__file__).parent)
        environment.update(
            self.keys["writer"], SPARK_HOME=home, PYSPARK_PYTHON=sys.executable,
            PYTHONPATH=str(ROOT), AWS_EC2_METADATA_DISABLED="true",
        )  # fmt: skip
        bring = shlex.join([sys.executable, "-m", "sparknn.cli.s3", "--jars", str(CACHE)])
        spark = shlex.join([f"{home}/bin/spark-submit", "--master", "local[2]"])
        settings = shlex.join(part for one in (*FAST, *conf) for part in ("--conf", one))
        asked = shlex.join([script, *options])
        process = subprocess.Popen(
            ["bash", "-c", f"exec {spark} {settings} $({bring} --endpoint {self.url}) {asked}"],
            cwd=ROOT, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if die_at:
            self.trap.write_text(f"{process.pid} {die_at}")
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(asked, process.returncode, out, err)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    fetched = python("-m", "sparknn.cli.s3", "fetch", str(CACHE))
    if fetched.returncode:
        pytest.skip(f"s3a's jars cannot be had here: {fetched.stderr.strip()}")
    trap = tmp_path_factory.mktemp("s3") / "trap"
    server = subprocess.Popen(
        [sys.executable, str(TESTS / "s3_server.py"), str(trap)], stdout=subprocess.PIPE, text=True
    )
    try:
        made = Lab(f"http://127.0.0.1:{server.stdout.readline().strip()}", trap)
        for bucket in (BUCKET, *RIGHTS, "forger", "no-keys"):
            made.client("s3").create_bucket(Bucket=bucket)
        for name, statements in RIGHTS.items():
            made.add_user(name, statements)
        made.keys["forger"] = {**made.keys["writer"], "AWS_SECRET_ACCESS_KEY": "guessed"}
        made.check_requests()
        random = np.random.default_rng(5)
        rows = np.column_stack([random.normal(size=(300, 3)).round(3), np.arange(300) % 2])
        rows[:, 0] += 3 * rows[:, 3]
        text = "a,b,c,label\n" + "\n".join(",".join(map(str, row)) for row in rows)
        made.client("s3").put_object(Bucket=BUCKET, Key="in/rows.csv", Body=text.encode())
        yield made
    finally:
        server.kill()
        server.communicate()


ROWS = f"s3a://{BUCKET}/in/rows.csv"
LIKELY = np.array([[3.0, 0, 0], [0.0, 0, 0]])


def train(lab: Lab, *more: str, **how) -> subprocess.CompletedProcess:
    return lab.submit(
        "jobs/train_logistic.py", "--input", ROWS, "--max-iter", "3", "--partitions", "2",
        "--scale", "standard", "--output", f"s3a://{BUCKET}/model", *more, **how,
    )  # fmt: skip


def predict(lab: Lab, *more: str, **how) -> subprocess.CompletedProcess:
    return lab.submit(
        "jobs/predict.py", "--model", f"s3a://{BUCKET}/model", "--input", ROWS,
        "--output", f"s3a://{BUCKET}/scored", *more, **how,
    )  # fmt: skip


def closing(process: subprocess.CompletedProcess) -> dict:
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trained(lab: Lab) -> dict:
    return closing(train(lab, "--checkpoint-dir", f"s3a://{BUCKET}/checkpoints"))


@pytest.fixture(scope="module")
def scored(lab: Lab, trained: dict) -> dict:
    return closing(predict(lab))


def test_a_model_goes_from_s3a_to_s3a(lab: Lab, trained: dict) -> None:
    assert trained["rows"] == 300
    assert lab.model("model").predict(LIKELY).tolist() == [1, 0]
    assert [key for key in lab.names("") if ".new-" in key or ".trial-" in key] == []


def test_predictions_go_from_s3a_to_s3a_by_the_s3_committer(lab: Lab, scored: dict) -> None:
    assert scored["rows"] == 300
    assert lab.json("scored/_SUCCESS")["committer"] == "magic"
    listed = {f"scored/{name}" for name in lab.json(f"scored/{MARKER}")["files"]}
    assert set(lab.names("scored/")) == {*listed, f"scored/{MARKER}"}


def test_killed_in_the_parquet_parts_the_old_predictions_stay(lab: Lab, scored: dict) -> None:
    before = lab.names("scored/")
    killed = predict(lab, "--overwrite", die_at=r"(PUT|POST) /tests-bucket/scored\.new-.*\.parquet")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert lab.names("scored/") == before
    assert [key for key in lab.names("scored.new-") if key.endswith((".parquet", MARKER))] == []


def test_killed_between_the_stages_the_old_model_stays(lab: Lab, trained: dict) -> None:
    killed = train(lab, "--overwrite", die_at=r"PUT /tests-bucket/model\.new-.*/stages/1_")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert any("/stages/0_" in key for key in lab.names("model.new-"))
    assert lab.model("model").predict(LIKELY).tolist() == [1, 0]


def test_killed_in_the_replacement_the_new_model_is_whole_and_the_same_command_ends_it(
    lab: Lab, trained: dict
) -> None:
    killed = train(lab, "--overwrite", die_at=r"PUT /tests-bucket/model/stages/1_")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (copy,) = {key.split("/")[0] for key in lab.names("model.new-") if key.count("/") == 1}
    assert lab.model(copy).predict(LIKELY).tolist() == [1, 0]
    with pytest.raises(IncompleteError, match=copy):
        lab.model("model")
    assert closing(train(lab, "--overwrite"))["finished"]
    assert lab.model("model").predict(LIKELY).tolist() == [1, 0]
    assert lab.names(copy) == []


def test_what_is_wrong_with_a_path_on_s3_is_told_in_a_line(lab: Lab) -> None:
    settings = [f"spark.hadoop.fs.s3a.bucket.no-keys.aws.credentials.provider={NO_KEYS}"]
    for bucket in ("nobody", "forger"):
        for name, value in zip(("access", "secret"), lab.keys[bucket].values(), strict=True):
            settings.append(f"spark.hadoop.fs.s3a.bucket.{bucket}.{name}.key={value}")
    buckets = ("nobody", "forger", "no-keys", "no-bucket")
    process = lab.submit("tests/s3_mistakes.py", *buckets, conf=settings)
    assert process.returncode == 0, process.stderr
    said = dict(zip(buckets, map(json.loads, process.stdout.splitlines()[-4:]), strict=True))
    for bucket, message in (
        ("nobody", "access denied"),
        ("forger", "access denied"),
        ("no-keys", "no credentials"),
        ("no-bucket", "no such bucket"),
    ):
        status, line = said[bucket]
        assert status == 2 and line.count("\n") == 1, line
        assert line.startswith(f"error: --input s3a://{bucket}/rows.csv: ") and message in line


def test_without_the_classes_there_is_a_line_to_copy(spark, monkeypatch, capsys) -> None:
    asked = ["--input", "s3a://bucket/a file.csv"]
    monkeypatch.setattr(sys, "argv", ["jobs/train_logistic.py", *asked])
    assert status_of(lambda: train_logistic.main(asked, standalone_mode=False)) == 2
    copied = "spark-submit $(python -m sparknn.cli.s3) jobs/train_logistic.py --input"
    assert f"{copied} 's3a://bucket/a file.csv'" in capsys.readouterr().err
