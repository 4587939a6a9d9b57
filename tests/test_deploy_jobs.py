"""Jobs and commands, so far as the caller's machine has to do with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from deploy_helpers import BUCKET, launched

from deploy import cluster as clusters
from deploy import copying, errors, history, jobs, sessions, ssm
from deploy.aws import group
from deploy.aws.policy import Grants, parse_s3
from deploy.aws.prices import estimate, per_hour
from deploy.aws.session import Aws, translated
from deploy.names import Names
from deploy.s3 import Folder
from deploy.settings import LaunchSettings, pairs, requirement_lines, seconds

NASTY = ["plain", "two words", "quote'd", '"double"', "{{ssm:secret}}", "$HOME `id`", "é\n;", ""]


# ---- settings ----------------------------------------------------------------------------


def test_durations_pairs_and_requirements_are_read(tmp_path: Path) -> None:
    assert [seconds(text) for text in ("90s", "30m", "8h", "2d", "never")] == [
        90,
        1800,
        28800,
        172800,
        None,
    ]
    for wrong in ("8", "h", "0h", "-1h", "1w"):
        with pytest.raises(errors.SettingsError):
            seconds(wrong)
    assert pairs(("a=b=c",), "--tag") == {"a": "b=c"}
    for wrongs in (("a",), ("a=1", "a=2")):
        with pytest.raises(errors.SettingsError, match="--tag a"):
            pairs(wrongs, "--tag")
    (tmp_path / "r.txt").write_text("# mine\nxgboost==2.0 # fine\n\n")
    assert requirement_lines(tmp_path / "r.txt", "4.1.0") == ("xgboost==2.0", "pyspark==4.1.0")


@pytest.mark.parametrize(
    "more",
    [
        {"workers": 2, "min_workers": 3},
        {"spot_price": "0.1"},
        {"key_name": "mine"},
        {"ssh_from": ("203.0.113.7/32",)},
        {"ssh_from": ("nonsense",), "key_name": "mine"},
        {"tags": {"sparknn:cluster": "other"}},
        {"prefix": "../up up"},
        {"grants": Grants(("data/in",))},
        {"grants": Grants(("s3://data/*",))},
    ],
)
def test_settings_that_cannot_be_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(errors.SettingsError):
        LaunchSettings("one", BUCKET, **more)


REFUSED = [
    ("spark.authenticate.secret", "hush"),
    ("spark.authenticate", "false"),
    ("spark.network.crypto.enabled", "false"),
    ("spark.io.encryption.enabled", "false"),
    ("spark.ssl.enabled", "true"),
    ("spark.hadoop.fs.s3a.secret.key", "hush"),
    ("spark.hadoop.fs.s3a.access.key", "AKIAHUSH"),
    ("spark.hadoop.fs.s3a.session.token", "hush"),
    ("spark.hadoop.javax.jdo.option.ConnectionPassword", "hush"),
    ("spark.executorEnv.AWS_SECRET_ACCESS_KEY", "hush"),
    ("spark.driver.extraJavaOptions", "-Xss4m -Djavax.net.ssl.keyStorePassword=hush"),
    ("spark.driver.extraJavaOptions", "-Daws.secretKey=hush"),
    ("hadoop.x", "hush"),
]


def test_launch_and_submit_refuse_secrets_and_what_would_open_a_door(
    aws: Aws, endpoint: str, tmp_path: Path
) -> None:
    launched(aws, endpoint)
    cluster = clusters.find(aws, "one")
    script = tmp_path / "job.py"
    script.touch()
    for key, value in REFUSED:
        with pytest.raises(errors.SettingsError, match=f"--conf {key}") as at_launch:
            LaunchSettings("one", BUCKET, conf={key: value})
        with pytest.raises(errors.SettingsError) as at_submit:
            jobs.submit(aws, cluster, script, [], conf=[f"{key}={value}"])
        assert str(at_submit.value) == str(at_launch.value)
        assert "hush" not in str(at_launch.value).lower()
    assert list(Folder(aws, BUCKET, "sparknn/one/run").find()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spark.executor.cores", "4"),
        ("spark.redaction.regex", "(?i)secret|password|token|access[.]?key|credential"),
        (
            "spark.hadoop.fs.s3a.aws.credentials.provider",
            "software.amazon.awssdk.auth.credentials.WebIdentityTokenFileCredentialsProvider",
        ),
        (
            "spark.hadoop.fs.s3a.delegation.token.binding",
            "org.apache.hadoop.fs.s3a.auth.delegation.SessionTokenBinding",
        ),
        ("spark.hadoop.mapreduce.job.complete.cancel.delegation.tokens", "false"),
        ("spark.driver.extraJavaOptions", "-Xss4m -Dx=1"),
    ],
)
def test_settings_that_only_sound_like_secrets_are_taken(key: str, value: str) -> None:
    assert LaunchSettings("one", BUCKET, conf={key: value}).conf == {key: value}


def test_prices_grow_with_size_and_say_what_they_lack() -> None:
    assert per_hour("m5.4xlarge") == pytest.approx(0.768)
    assert per_hour("x99.large") is None
    some = estimate(["m5.xlarge", "x99.large"], 0, False)
    assert some.dollars == pytest.approx(0.192)
    assert str(some).startswith("at least 0.19") and "x99.large" in str(some)


# ---- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        ("VcpuLimitExceeded", errors.CapacityError, "Service Quotas"),
        ("InsufficientInstanceCapacity", errors.CapacityError, "another --zone"),
        ("ExpiredToken", errors.CredentialsError, "sign in again"),
        ("UnauthorizedOperation", errors.PermissionsError, "the right to RunInstances"),
        ("NoSuchBucket", errors.BucketError, "check --bucket"),
        ("OptInRequired", errors.RegionError, "not enabled"),
        ("SomethingElse", errors.AwsError, "SomethingElse"),
    ],
)
def test_errors_of_aws_become_ours_with_advice(
    code: str, kind: type[errors.DeployError], advice: str
) -> None:
    answer = {"Error": {"Code": code, "Message": "words of AWS"}}
    with pytest.raises(kind, match=advice) as raised, translated("the master"):
        raise ClientError(answer, "RunInstances")
    assert str(raised.value).startswith("the master: words of AWS")


def test_auto_scalings_reasons_are_the_failed_activities_words(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    activities = [
        {"StatusCode": "Successful", "StatusMessage": "fine"},
        {"StatusCode": "Failed", "StatusMessage": "no capacity"},
        {"StatusCode": "Failed", "StatusMessage": "no capacity"},
    ]
    monkeypatch.setattr(
        aws.autoscaling, "describe_scaling_activities", lambda **_: {"Activities": activities}
    )
    assert group.complaints(aws, Names("one", "us-east-1")) == ["no capacity"]


# ---- paths -------------------------------------------------------------------------------


def test_a_jobs_paths_are_checked_against_what_was_granted() -> None:
    grants = Grants(("s3://data/in",), ("s3://data/out",))
    jobs.check_paths(["--input", "s3a://data/in/day=*/x.csv", "--output=s3a://data/out/m"], grants)
    jobs.check_paths(["--model", "s3a://data/out/m", "--lines", "7"], grants)
    for arguments, message in (
        (["--input", "s3a://data/inside"], "s3a://data/inside may not be read"),
        (["--output", "s3a://data/in/m"], "may not be written"),
        (["--checkpoint-dir=s3a://other/x"], "s3a://other/x may not be written"),
        (["--input", "s3://data/in"], "reads S3 as s3a://data/in"),
    ):
        with pytest.raises(errors.SettingsError, match=message):
            jobs.check_paths(arguments, grants)
    assert parse_s3("s3a://b/k/") == ("b", "k")


def test_spaces_are_part_of_a_path_and_commas_end_it() -> None:
    grants = Grants(("s3://data/my in", "s3://data/b"))
    jobs.check_paths(["--input", "s3a://data/my in/x y.csv,s3a://data/b"], grants)
    for path in ("s3a://data/b c/x", "s3a://data/b,s3a://data/c d", "s3a://data/my"):
        with pytest.raises(errors.SettingsError, match=f"{path.split(',')[-1]} may not be read"):
            jobs.check_paths([f"--input={path}"], grants)


def test_paths_in_a_file_of_options_are_checked_too(tmp_path: Path) -> None:
    grants = Grants(("s3://data/in",), ("s3://data/out",))
    path = tmp_path / "job.toml"
    for text, message in (
        ('input = "s3a://data/in"\noutput = "s3a://data/out/m"\nhidden = [3, 2]', None),
        ('input = "s3a://other/in"', "s3a://other/in may not be read"),
        ('output = "s3a://data/in/m"', "s3a://data/in/m may not be written"),
        ('save = ["s3a://data/out", "s3a://data/in/x y"]', "x y may not be written"),
        ("input = ", "job.toml: "),
    ):
        path.write_text(text)
        for arguments in (["--config", "job.toml"], ["--overwrite", "--config=./job.toml"]):
            if message is None:
                jobs.check_paths(arguments, grants, [path])
                continue
            with pytest.raises(errors.SettingsError, match=message):
                jobs.check_paths(arguments, grants, [path])
    with pytest.raises(errors.SettingsError, match=r"--file job\.toml"):
        jobs.check_paths(["--config", "job.toml"], grants)
    # What scripts of others call by that name is theirs.
    jobs.check_paths(["--config", "prod", "--config", "/etc/job.toml"], grants)


def test_a_path_outside_is_refused_before_anything_starts(
    aws: Aws, endpoint: str, tmp_path: Path
) -> None:
    launched(aws, endpoint, grants=Grants(("s3://data/in",)))
    script = tmp_path / "job.py"
    script.touch()
    with pytest.raises(errors.SettingsError, match="--read s3://data/in"):
        jobs.submit(aws, clusters.find(aws, "one"), script, ["--input", "s3a://else/in"])
    assert list(Folder(aws, BUCKET, "sparknn/one/run").find()) == []


# ---- commands ----------------------------------------------------------------------------


def test_arguments_reach_the_machines_program_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "node"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(3)\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(ssm, "NODE", str(program))
    script = ssm.node_script(NASTY)
    assert "{{" not in script
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (json.loads(ran.stdout), ran.returncode) == (NASTY, 3)


def test_a_shell_command_runs_as_it_stands() -> None:
    script = ssm.shell_script("printf '%s\n' \"{{a}}\" 'b c'; exit 5")
    assert "{{" not in script
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.returncode) == ("{{a}}\nb c\n", 5)


def test_a_job_is_uploaded_and_handed_to_the_master(
    aws: Aws, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(aws, endpoint)
    told: list[list[str]] = []
    monkeypatch.setattr(ssm, "on_master", lambda aws, master, words: told.append(words))
    script = tmp_path / "train me.py"
    script.write_text("pass")
    job = jobs.submit(
        aws, clusters.find(aws, "one"), script, ["--x", "1"], conf=["spark.cores.max=2"]
    )
    (words,) = told
    assert words[:4] == ["submit", job, "--file", "train me.py"]
    assert words[-5:] == ["--conf", "spark.cores.max=2", "--", "--x", "1"]
    assert Folder(aws, BUCKET, "").get(words[4]) == b"pass"


def test_a_file_is_copied_by_way_of_the_bucket(
    aws: Aws, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(aws, endpoint)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "x").write_text("1")
    ran: list[str] = []

    def run(aws: Aws, machines: list[str], script: str, limit: int) -> list[ssm.Answer]:
        coded = script.split("printf %s ")[1].split(" ")[0]
        ran.append(__import__("base64").b64decode(coded).decode())
        return [ssm.Answer("i-1", 0, "", "", "Success")]

    monkeypatch.setattr(ssm, "run", run)
    copying.copy(aws, clusters.find(aws, "one"), tmp_path / "tree", "/opt/data dir", ["i-1"])
    assert "mkdir -p '/opt/data dir/deep'" in ran[0]
    assert ran[0].endswith("'/opt/data dir/deep/x'")
    with pytest.raises(errors.SettingsError, match="absolute"):
        copying.copy(aws, clusters.find(aws, "one"), tmp_path / "tree", "here", ["i-1"])


def test_a_command_runs_on_all_machines_and_answers_come_in_order(aws: Aws, endpoint: str) -> None:
    """moto takes commands and calls them done; tests of the test hosts carry them out."""
    launched(aws, endpoint, workers=60)
    cluster = clusters.find(aws, "one")
    machines = [worker.id for worker in cluster.workers]
    answers = ssm.run(aws, machines, ssm.shell_script("true"))
    assert [one.machine for one in answers] == machines
    assert {one.state for one in answers} == {"Success"}


# ---- logs --------------------------------------------------------------------------------


def put(aws: Aws, name: str, body: bytes) -> None:
    aws.s3.put_object(Bucket=BUCKET, Key=f"sparknn/one/logs/{name}", Body=body)


def test_following_hands_on_each_byte_once_and_ends_with_the_job(aws: Aws) -> None:
    folder = Folder(aws, BUCKET, "sparknn/one")
    put(aws, "j/stderr/000000", b"ab")
    put(aws, "j/status.json", b'{"state": "running"}')
    steps = [(b"abc", b"running"), (b"abcd", b"finished")]
    written: list[tuple[str, bytes]] = []

    def write(stream: str, piece: bytes) -> None:
        written.append((stream, piece))
        if steps:
            more, state = steps.pop(0)
            put(aws, "j/stderr/000000", more)
            put(aws, "j/status.json", b'{"state": "%s", "exit": 0}' % state)

    status = jobs.follow(folder, "j", write, lambda: True, pause=0)
    assert b"".join(piece for _, piece in written) == b"abcd"
    assert jobs.exit_status(status) == 0


def test_following_a_job_whose_master_is_gone_ends(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SILENT_SECONDS", 0)
    put(aws, "j/status.json", b'{"state": "running"}')
    folder = Folder(aws, BUCKET, "sparknn/one")
    with pytest.raises(errors.JobError, match="the master is gone"):
        jobs.follow(folder, "j", lambda *_: None, lambda: False, pause=0)


def test_exit_statuses_of_jobs_are_those_of_a_shell() -> None:
    found = [jobs.exit_status({"exit": code}) for code in (0, 2, -9, None)]
    assert found == [0, 2, 137, 8]


def test_logs_come_here_and_stay_in_their_directory(aws: Aws, tmp_path: Path) -> None:
    folder = Folder(aws, BUCKET, "sparknn/one")
    put(aws, "j/stdout/000000", b"out")
    put(aws, "j/events/eventlog_v2_app-1/events_1_app-1", b"{}")
    assert jobs.latest(folder) == "j"
    assert jobs.download(folder, "j", tmp_path / "j") == 2
    history.complete_markers(tmp_path)
    log = tmp_path / "j" / "events" / "eventlog_v2_app-1"
    assert (log / "appstatus_app-1.inprogress").exists()
    put(aws, "j/../../../escaped", b"")
    with pytest.raises(errors.SettingsError, match="not fetched"):
        jobs.download(folder, "j", tmp_path / "j")
    with pytest.raises(errors.NoSuchClusterError, match="no logs of job k"):
        jobs.download(folder, "k", tmp_path)


def test_the_history_server_is_bound_to_the_loopback(tmp_path: Path) -> None:
    arguments, environment = history.command(tmp_path, 18999)
    assert environment["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert (
        f"-Dspark.history.fs.logDirectory={tmp_path.as_uri()}"
        in (environment["SPARK_HISTORY_OPTS"])
    )
    assert Path(arguments[0]).is_file()


# ---- sessions ----------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Session Manager's plugin that notes how it was called."""
    path = tmp_path / sessions.PLUGIN
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"with open({str(tmp_path / 'called')!r}, 'a') as file:\n"
        f"    print(json.dumps([sys.argv, os.environ[{sessions.VARIABLE!r}]]), file=file)\n"
    )
    path.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path / "called"


def test_a_sessions_token_is_not_in_the_plugins_arguments(
    aws: Aws, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def start_session(**request: Any) -> dict[str, Any]:
        asked.append(request)
        return {"SessionId": "s-1", "TokenValue": "hush", "StreamUrl": "wss://x"}

    monkeypatch.setattr(aws.ssm, "start_session", start_session, raising=False)
    assert sessions.shell(aws, "i-1") == 0
    sessions.tunnels(aws, "i-1", "10.0.0.9", [8080, 4040])
    called = [json.loads(line) for line in plugin.read_text().splitlines()]
    assert len(called) == 3
    for arguments, answer in called:
        assert "hush" not in " ".join(arguments) and json.loads(answer)["TokenValue"] == "hush"
    assert asked[0]["Parameters"] == {"command": [f"sudo {ssm.NODE} shell"]}
    assert asked[1]["Parameters"]["host"] == ["10.0.0.9"]


def test_without_the_plugin_it_says_where_to_get_it(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(errors.MissingToolError, match="install-plugin"):
        sessions.login(aws, "i-1")
