"""Jobs from s3a to s3a by spark-submit, against a server that checks signatures and can deny.

The jars come from Maven Central, once, into the user's cache.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sparknn import load_numpy
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

RIGHTS = {
    "writer": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    "nobody": [{"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}],
}


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

    def names(self, prefix: str) -> list[str]:
        """The keys under a prefix."""
        listed = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in listed.get("Contents", [])]

    def model(self, path: str):
        """A model in the bucket, read without Spark."""
        key = self.keys["writer"]
        login = f"{key['AWS_ACCESS_KEY_ID']}:{key['AWS_SECRET_ACCESS_KEY']}@"
        host = self.url.removeprefix("http://")
        return load_numpy(
            f"s3://{login}{BUCKET}/{path}?scheme=http&endpoint_override={host}&region={REGION}"
        )

    def submit(
        self, job: str, *options: str, user: str = "writer", with_s3: bool = True, die_at: str = ""
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
            self.keys.get(user, {}), SPARK_HOME=home, PYSPARK_PYTHON=sys.executable,
            PYTHONPATH=str(ROOT), AWS_EC2_METADATA_DISABLED="true",
        )  # fmt: skip
        bring = shlex.join([sys.executable, "-m", "sparknn.cli.s3", "--jars", str(CACHE)])
        s3 = f"$({bring} --endpoint {self.url})" if with_s3 else ""
        spark = shlex.join([f"{home}/bin/spark-submit", "--master", "local[2]"])
        quiet = "--conf spark.ui.enabled=false --conf spark.log.level=ERROR"
        asked = shlex.join([f"jobs/{job}.py", *options])
        process = subprocess.Popen(
            ["bash", "-c", f"exec {spark} {quiet} {s3} {asked}"],
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
        made.client("s3").create_bucket(Bucket=BUCKET)
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
        server.wait()


def train(lab: Lab, output: str, *more: str, **how) -> subprocess.CompletedProcess:
    return lab.submit(
        "train_logistic", "--input", f"s3a://{BUCKET}/in/rows.csv", "--max-iter", "3",
        "--partitions", "2", "--scale", "standard",
        "--output", f"s3a://{BUCKET}/{output}", *more, **how,
    )  # fmt: skip


def closing(process: subprocess.CompletedProcess) -> dict:
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def mistake(process: subprocess.CompletedProcess) -> str:
    assert process.returncode == 2, process.stderr
    assert process.stdout == "" and "Traceback" not in process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    return line


@pytest.fixture(scope="module")
def trained(lab: Lab) -> dict:
    checkpoints = f"s3a://{BUCKET}/checkpoints"
    return closing(train(lab, "model", "--checkpoint-dir", checkpoints))


def test_a_model_goes_from_s3a_to_s3a(lab: Lab, trained: dict) -> None:
    assert trained["rows"] == 300
    assert lab.model("model").predict(np.array([[3.0, 0, 0], [0.0, 0, 0]])).tolist() == [1, 0]
    assert [key for key in lab.names("") if ".new-" in key or ".trial-" in key] == []


def test_predictions_go_from_s3a_to_s3a_by_the_s3_committer(lab: Lab, trained: dict) -> None:
    scored = closing(
        lab.submit(
            "predict", "--model", f"s3a://{BUCKET}/model", "--input", f"s3a://{BUCKET}/in/rows.csv",
            "--output", f"s3a://{BUCKET}/scored",
        )
    )  # fmt: skip
    assert scored["rows"] == 300
    done = lab.client("s3").get_object(Bucket=BUCKET, Key="scored/_SUCCESS")["Body"].read()
    assert json.loads(done)["committer"] == "magic"
    marker = lab.client("s3").get_object(Bucket=BUCKET, Key=f"scored/{MARKER}")["Body"].read()
    listed = {f"scored/{name}" for name in json.loads(marker)["files"]} | {f"scored/{MARKER}"}
    assert set(lab.names("scored/")) == listed


@pytest.mark.parametrize(
    ("user", "output", "message"),
    [
        ("nobody", "denied", "access denied"),
        ("forger", "forged", "access denied"),
        ("", "unknown", "no credentials"),
    ],
)
def test_who_may_not_is_told_so_in_a_line(lab: Lab, user: str, output: str, message: str) -> None:
    line = mistake(train(lab, output, user=user))
    assert message in line and f"s3a://{BUCKET}/in/rows.csv" in line
    assert lab.names(output) == []


def test_a_wrong_bucket_is_named(lab: Lab) -> None:
    line = mistake(train(lab, "model2", "--test", "s3a://no-bucket/test.csv"))
    assert "--test s3a://no-bucket/test.csv" in line and "no such bucket" in line


def test_without_the_classes_there_is_a_line_to_copy(lab: Lab) -> None:
    line = mistake(train(lab, "model3", with_s3=False))
    assert "spark-submit $(python -m sparknn.cli.s3) " in line
    assert line.endswith(f"--output s3a://{BUCKET}/model3")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(r"POST /tests-bucket/old\.new-.*/data/.*uploads", id="Parquet parts"),
        pytest.param(r"PUT /tests-bucket/old\.new-.*/stages/1_.*metadata", id="between stages"),
        pytest.param(r"PUT /tests-bucket/old/stages/1_.*", id="replacement"),
    ],
)
def test_killed_anywhere_one_complete_model_is_there(
    lab: Lab, trained: dict, moment: str, request
) -> None:
    s3 = lab.client("s3")
    for key in lab.names("old"):
        s3.delete_object(Bucket=BUCKET, Key=key)
    for key in lab.names("model/"):
        source = {"Bucket": BUCKET, "Key": key}
        s3.copy_object(Bucket=BUCKET, Key=key.replace("model", "old", 1), CopySource=source)
    killed = train(lab, "old", "--overwrite", die_at=moment)
    assert killed.returncode == -9, killed.stderr
    if "replacement" not in request.node.callspec.id:
        assert lab.model("old").predict(np.array([[3.0, 0, 0]])).tolist() == [1]
        return
    (marker,) = [key for key in lab.names("old") if key.count("/") == 1 and key.endswith(MARKER)]
    copy = marker.rpartition("/")[0]
    assert copy.startswith("old.new-")
    assert lab.model(copy).predict(np.array([[3.0, 0, 0]])).tolist() == [1]
    with pytest.raises(IncompleteError, match=copy):
        lab.model("old")
    again = closing(train(lab, "old", "--overwrite"))
    assert again["finished"]
    assert lab.model("old").predict(np.array([[3.0, 0, 0]])).tolist() == [1]
    assert lab.names("old.new-") == []
