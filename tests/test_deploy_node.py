"""The programs of a cluster's machines, one by one, on no machine of a cluster."""

import json
import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from deploy.node import (
    __main__,
    account,
    attempts,
    aws,
    configuration,
    copying,
    disks,
    java,
    jobs,
    joining,
    setup,
    watch,
)

KEYS = {"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "se/cret+", "Token": "to/ken=="}
SETTINGS = {
    "account": "123456789012",
    "bucket": "bucket",
    "endpoints": {},
    "group": "workers",
    "launch_id": "l-1",
    "prefix": "sparknn/night",
    "region": "eu-west-1",
    "spark_conf": {},
}


@pytest.mark.parametrize(
    ("service", "method", "path", "query", "body", "headers"),
    [
        ("s3", "GET", "/bucket/boot/a%20b%2Bc/d~e", "", b"", {"x-amz-expected-bucket-owner": "1"}),
        ("s3", "PUT", "/bucket/run/x.json", "", b"{}", {}),
        ("s3", "GET", "/bucket/", "prefix=a%2Fb&list-type=2", b"", {}),
        ("ssm", "POST", "/", "", b'{"Name": "x"}', {"X-Amz-Target": "AmazonSSM.GetParameter"}),
    ],
)
def test_a_signature_is_the_one_that_botocore_makes(service, method, path, query, body, headers):
    import hashlib

    from botocore.auth import S3SigV4Auth, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = f"https://{service}.eu-west-1.amazonaws.com{path}" + (f"?{query}" if query else "")
    now = 1_700_000_000
    payload = hashlib.sha256(body).hexdigest()
    ours = aws.sign(method, url, "eu-west-1", service, headers, payload, KEYS, now)

    theirs = {**headers, "X-Amz-Security-Token": KEYS["Token"], "X-Amz-Content-SHA256": payload}
    stamp = theirs["X-Amz-Date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    request = AWSRequest(method, url, theirs, body)
    request.context["timestamp"] = stamp
    credentials = Credentials(KEYS["AccessKeyId"], KEYS["SecretAccessKey"], KEYS["Token"])
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert ours["authorization"].endswith("Signature=" + signer.signature(text, request))
    assert "x-amz-security-token" in ours["authorization"]


class Bucket:
    """What `aws.Services` does with objects, in memory."""

    def __init__(self, **changes):
        self.settings = {**SETTINGS, **changes}
        self.objects = {}
        self.writes = []
        self.ended = 0

    def put(self, key, body):
        self.objects[key] = body
        self.writes.append(key)

    def get(self, key):
        return self.objects.get(key)

    def end_group(self):
        self.ended += 1


def test_spark_defaults_are_safe_and_the_users_own_win_over_all_but_the_secret():
    users = {"spark.driver.memory": "9g", "spark.authenticate.secret": "known to all"}
    lines = configuration.spark_defaults({**SETTINGS, "spark_conf": users}, 64 << 30, "generated")
    assert lines["spark.authenticate.secret"] == "generated"
    assert lines["spark.driver.memory"] == "9g"
    for name in (
        "spark.authenticate",
        "spark.network.crypto.enabled",
        "spark.io.encryption.enabled",
    ):
        assert lines[name] == "true"
    for name in ("spark.master.rest.enabled", "spark.ui.killEnabled"):
        assert lines[name] == "false"
    assert lines["spark.master.ui.decommission.allow.mode"] == "DENY"
    assert lines["spark.storage.decommission.rddBlocks.enabled"] == "false"
    assert "spark.hadoop.fs.s3a.endpoint" not in lines


def test_the_heap_is_a_quarter_of_the_machine():
    lines = configuration.spark_defaults(SETTINGS, 64 << 30, "s")
    assert lines["spark.driver.memory"] == "16384m"
    assert configuration.environment("10.0.0.1", 64 << 30, "/v")["SPARK_WORKER_MEMORY"] == "16384m"


def test_a_machine_is_known_by_its_address_and_needs_no_names():
    variables = configuration.environment("10.0.0.1", 64 << 30, "/v")
    assert variables["SPARK_LOCAL_IP"] == variables["SPARK_LOCAL_HOSTNAME"] == "10.0.0.1"


def test_a_setting_of_two_lines_cannot_smuggle_in_another():
    with pytest.raises(ValueError, match=r"spark\.x"):
        configuration.properties({"spark.x": "1\nspark.authenticate false"})
    assert configuration.properties({"a": "b\\c", "d": "e"}) == "a b\\\\c\nd e\n"


def test_spark_defaults_are_readable_by_their_owner_alone(tmp_path, monkeypatch):
    owners = []
    monkeypatch.setattr(setup.shutil, "chown", lambda path, *who: owners.append((path, who)))
    target = tmp_path / "spark-defaults.conf"
    before = os.umask(0)
    try:
        setup.write_private(str(target), "secret")
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == 0o600
    assert owners == [(f"{target}.part", ("spark", "spark"))]


def test_units_name_no_secret_and_run_spark_without_rights():
    units = configuration.units("worker", "10.0.0.2", "/spark")
    worker = units["sparknn-worker.service"]
    assert "User=spark\n" in worker and "spark-class" in worker
    assert worker.index("ExecStartPre=+") < worker.index("ExecStart=")
    assert "sparknn-master.service" in configuration.units("master", "10.0.0.1", "/spark")


def lsblk(*devices):
    names = ("path", "model", "fstype", "label", "mountpoint")
    described = [{"type": "disk", **dict(zip(names, one))} for one in devices]
    return json.dumps({"blockdevices": described})


def test_blank_disks_are_formatted_and_those_of_an_earlier_boot_mounted():
    found = disks.plan(
        lsblk(
            ("/dev/nvme2n1", disks.INSTANCE_STORE + "  ", None, None, None),
            ("/dev/nvme1n1", disks.VOLUME, "ext4", "sparknn", None),
            ("/dev/nvme3n1", disks.VOLUME, None, None, None),
        )
    )
    assert found == [
        ("/dev/nvme1n1", "/mnt/sparknn/nvme1n1", False),
        ("/dev/nvme2n1", "/mnt/sparknn/nvme2n1", True),
        ("/dev/nvme3n1", "/mnt/sparknn/nvme3n1", True),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": "QEMU HARDDISK"},
        {"type": "loop"},
        {"mountpoint": "/data"},
        {"children": [{"path": "/dev/nvme0n1p1"}]},
        {"fstype": "xfs", "label": "mine"},
    ],
)
def test_a_disk_that_is_somebodys_is_left_alone(change):
    disk = json.loads(lsblk(("/dev/nvme0n1", disks.VOLUME, None, None, None)))["blockdevices"][0]
    assert disks.plan(json.dumps({"blockdevices": [disk]}))
    assert not disks.plan(json.dumps({"blockdevices": [{**disk, **change}]}))


def test_idleness_is_counted_from_the_last_look_that_found_work(tmp_path):
    path = str(tmp_path / "run" / "last-work")
    idle = watch.Idleness(60, 100, path)
    assert not idle.over(busy=False, now=159)
    assert not idle.over(busy=True, now=170)
    assert not idle.over(busy=False, now=229)
    assert idle.over(busy=False, now=230)
    assert not watch.Idleness(None, 0, path).over(busy=False, now=1e9)


def test_a_watch_that_begins_again_goes_on_counting_idleness(tmp_path):
    path = str(tmp_path / "last-work")
    assert not watch.Idleness(60, 100, path).over(busy=False, now=110)
    assert not watch.Idleness(60, 130, path).over(busy=True, now=140)
    idle = watch.Idleness(60, 150, path)
    assert not idle.over(busy=False, now=199)
    assert idle.over(busy=False, now=200)
    # Where nothing can be kept, a watch counts for itself.
    assert watch.Idleness(60, 0, str(tmp_path / "last-work" / "x")).over(busy=False, now=60)
    for broken in ("", "300"):
        Path(path).write_text(broken)
        assert not watch.Idleness(60, 200, path).over(busy=False, now=259)


@pytest.fixture
def account_of_tests(monkeypatch):
    """An account that every machine has, in the place of Spark's."""
    for module in (account, jobs):
        monkeypatch.setattr(module, "ACCOUNT", "daemon")


@pytest.mark.parametrize("what", ["job", "login", "task", "nothing"])
def test_a_cluster_is_busy_with_a_job_a_login_or_a_task(what, monkeypatch, account_of_tests):
    state = "running" if what == "job" else "finished"
    monkeypatch.setattr(jobs, "all_jobs", lambda: [{"state": state}])
    monkeypatch.setattr(watch, "someone_is_logged_in", lambda: what == "login")
    monkeypatch.setattr(watch, "running_tasks", lambda address: int(what == "task"))
    assert watch.cluster_is_busy("10.0.0.1") == (what != "nothing")


class Answer(socketserver.StreamRequestHandler):
    """Says the same to whoever asks."""

    said = b""

    def handle(self):
        self.rfile.readline()
        self.wfile.write(self.said)


@pytest.fixture
def no_drivers():
    """Ports on which something listens that is none of Spark's drivers."""
    page = b"HTTP/1.0 200 OK\r\n\r\n"
    servers = []
    for said in (b"220 mail\r\n", page + b"<html>", page + b'[{"name": "x"}]', page + b"7"):
        handler = type("Handler", (Answer,), {"said": said})
        servers.append(socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
    yield [server.server_address[1] for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def write_broken_jobs(folder):
    """Put into a directory of jobs what is none."""
    texts = {"no id": "{}", "a": "{", "b": "[]", "c": "{}", "d": '{"job": "d", "state": "running"}'}
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / "status.json").write_text(text)
    return list(texts)


def ends_at_first_look(monkeypatch, bucket, tmp_path):
    """Whether a master's watch, of which one look is taken, ends the cluster."""
    ended = []
    monkeypatch.setattr(watch, "end_cluster", ended.append)
    monkeypatch.setattr(watch, "LAST_WORK", str(tmp_path / "last-work"))
    monkeypatch.setattr(aws, "address", lambda: "127.0.0.1")
    one = watch.Watch(bucket)
    one.ready = True
    one.look()
    return ended == [bucket]


def test_what_cannot_be_read_does_not_keep_a_cluster_from_ending(
    tmp_path, monkeypatch, capfd, no_drivers
):
    names = write_broken_jobs(tmp_path)
    monkeypatch.setattr(account, "become", lambda: None)
    monkeypatch.setattr(jobs, "JOBS", str(tmp_path))
    monkeypatch.setattr(jobs, "_unit_is_active", lambda job: False)
    monkeypatch.setattr(watch, "DRIVER_PAGES", no_drivers)
    # As on a machine without pgrep.
    monkeypatch.setenv("PATH", "/nowhere")
    assert ends_at_first_look(monkeypatch, Bucket(role="master", idle_seconds=0), tmp_path)
    said = capfd.readouterr().err
    assert said.count("is no page of Spark's") == 2 and "KeyError" in said and "TypeError" in said
    assert all(f"'{name}'" in said or f"/{name}/status.json" in said for name in names)


def test_output_is_copied_in_pieces_and_only_the_last_is_sent_again(tmp_path, monkeypatch):
    monkeypatch.setattr(copying.layout, "PART_BYTES", 10)
    bucket = Bucket()
    (tmp_path / "stdout").write_bytes(b"")
    (tmp_path / "stderr").write_bytes(b"0123456789abcde")
    copier = copying.Copier(bucket, "j", str(tmp_path))
    copier.copy()
    copier.copy()
    with (tmp_path / "stderr").open("ab") as file:
        file.write(b"fghijKLM")
    copier.copy()
    names = ["000000", "000001", "000001", "000002"]
    assert bucket.writes == [f"sparknn/night/logs/j/stderr/{name}" for name in names]
    assert (
        b"".join(bucket.objects[key] for key in sorted(bucket.objects))
        == b"0123456789abcdefghijKLM"
    )


def test_event_logs_are_copied_as_they_grow_without_markers_of_the_moment(tmp_path):
    bucket = Bucket()
    folder = tmp_path / "events" / "eventlog_v2_app-1"
    folder.mkdir(parents=True)
    for name in ("stdout", "stderr"):
        (tmp_path / name).write_bytes(b"")
    (folder / "events_1_app-1").write_bytes(b"a")
    for name in ("appstatus_app-1.inprogress", ".events_1_app-1.crc"):
        (folder / name).write_bytes(b"")
    copier = copying.Copier(bucket, "j", str(tmp_path))
    copier.copy()
    copier.copy()
    assert bucket.writes == ["sparknn/night/logs/j/events/eventlog_v2_app-1/events_1_app-1"]


def test_an_event_log_that_is_gone_does_not_hold_up_the_others(tmp_path):
    bucket = Bucket()
    (tmp_path / "events").mkdir()
    for name in ("stdout", "stderr"):
        (tmp_path / name).write_bytes(b"")
    # As one that Spark removes between the listing and the reading.
    (tmp_path / "events" / "a").symlink_to(tmp_path / "gone")
    (tmp_path / "events" / "b").write_bytes(b"b")
    copying.Copier(bucket, "j", str(tmp_path)).copy()
    assert bucket.writes == ["sparknn/night/logs/j/events/b"]


class BrokenBucket(Bucket):
    """One whose first writes fail, each with the next of some errors, or not where that is None."""

    def __init__(self, *errors):
        super().__init__()
        self.errors = list(errors)

    def put(self, key, body):
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        super().put(key, body)


def job_folder(tmp_path, monkeypatch, **changes):
    """The directory of a job "j" that has begun."""
    folder = tmp_path / "j"
    (folder / "events").mkdir(parents=True)
    (folder / "stdout").write_bytes(b'{"accuracy": 1}\n')
    (folder / "stderr").write_bytes(b"")
    about = {"job": "j", "state": "running", "submitted": time.time(), **changes}
    jobs.write_status(str(folder), about)
    monkeypatch.setattr(jobs, "JOBS", str(tmp_path))
    return folder


class Process:
    """A process that has not ended yet so many times that it is waited for."""

    def __init__(self, times):
        self.times = times

    def wait(self, seconds):
        if self.times:
            self.times -= 1
            raise subprocess.TimeoutExpired("spark-submit", seconds)
        return 0


@pytest.mark.parametrize("error", [aws.RequestError(500, "u", "x"), OSError("x"), KeyError("x")])
def test_a_copy_that_fails_does_not_end_the_job_and_is_made_again(
    error, tmp_path, monkeypatch, capsys
):
    folder = job_folder(tmp_path, monkeypatch)
    bucket = BrokenBucket(error, error)
    copier = copying.Copier(bucket, "j", str(folder))
    assert jobs._copy_until_it_ends(copier, {"state": "running"}, Process(2)) == 0
    assert bucket.objects["sparknn/night/logs/j/stdout/000000"] == b'{"accuracy": 1}\n'
    assert json.loads(bucket.objects["sparknn/night/logs/j/status.json"])["state"] == "running"
    assert capsys.readouterr().err.count(f"{type(error).__name__}: {error}") == 2


def test_a_job_whose_last_copy_fails_at_first_has_its_end_told_in_the_bucket(tmp_path, monkeypatch):
    folder = job_folder(tmp_path, monkeypatch)
    bucket = BrokenBucket()
    monkeypatch.setenv("SPARK_LOCAL_IP", "10.0.0.1")
    monkeypatch.setattr(attempts, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(joining, "workers", lambda master: [])
    monkeypatch.setattr(jobs, "_end_on_sigterm", lambda process: [])

    def command(*_):
        bucket.errors += [KeyError("SecretAccessKey"), None, OSError("away")]
        return ["true"]

    monkeypatch.setattr(jobs, "submit_command", command)
    monkeypatch.setattr(jobs, "_copy_until_it_ends", lambda copier, about, process: process.wait())
    assert jobs.run(bucket, "j") == 0
    told = json.loads(bucket.objects["sparknn/night/logs/j/status.json"])
    assert told == json.loads((folder / "status.json").read_text())
    assert told["state"] == "finished" and told["result"] == {"accuracy": 1}
    # The output first: who reads that the job has ended reads no more.
    assert bucket.writes[0] == "sparknn/night/logs/j/stdout/000000"


@pytest.mark.parametrize("answer", [None, "{}", '{"Code": "AssumeRoleUnauthorizedAccess"}'])
def test_credentials_without_keys_are_an_error_and_not_kept(answer, monkeypatch):
    answers = [answer, json.dumps(KEYS)]
    monkeypatch.setattr(
        aws, "metadata", lambda path: "role" if path.endswith("/") else answers.pop(0)
    )
    services = aws.Services(SETTINGS)
    with pytest.raises(aws.RequestError, match="no keys"):
        services.credentials()
    assert services.credentials() == services.credentials() == KEYS


@pytest.mark.parametrize(
    ("printed", "result"),
    [
        (b'progress\n{"accuracy": 0.9}\n', {"accuracy": 0.9}),
        (b"", None),
        (b"{broken\n", None),
        (b"7\n", None),
    ],
)
def test_a_jobs_result_is_the_json_object_that_it_printed_last(printed, result, tmp_path):
    (tmp_path / "stdout").write_bytes(printed)
    assert jobs.closing(str(tmp_path)) == result


@pytest.mark.parametrize(("age", "said"), [(5, "running"), (600, "lost")])
def test_a_job_whose_unit_is_gone_is_reported_lost_but_not_while_it_starts(
    age, said, tmp_path, monkeypatch
):
    folder = tmp_path / "j"
    folder.mkdir()
    for name in ("stdout", "stderr"):
        (folder / name).write_bytes(b"")
    about = {"job": "j", "state": "running", "submitted": time.time() - age}
    jobs.write_status(str(folder), about)
    monkeypatch.setattr(jobs, "JOBS", str(tmp_path))
    monkeypatch.setattr(jobs, "_unit_is_active", lambda job: False)
    bucket = Bucket()
    for _ in range(2):
        jobs.report_lost(bucket)
    assert json.loads((folder / "status.json").read_text())["state"] == said
    keys = ["sparknn/night/logs/j/status.json"] if said == "lost" else []
    assert bucket.writes == keys


def test_a_lost_job_whose_end_cannot_be_told_is_told_at_the_next_look(tmp_path, monkeypatch):
    job_folder(tmp_path, monkeypatch, submitted=1)
    monkeypatch.setattr(jobs, "_unit_is_active", lambda job: False)
    bucket = BrokenBucket(None, OSError("away"))
    jobs.report_lost(bucket)
    assert "sparknn/night/logs/j/status.json" not in bucket.objects
    jobs.report_lost(bucket)
    assert json.loads(bucket.objects["sparknn/night/logs/j/status.json"])["state"] == "lost"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


class BucketOnDisk(Bucket):
    """One that a child can write to, too."""

    def __init__(self, folder, **changes):
        super().__init__(**changes)
        self.folder = folder

    def put(self, key, body):
        (self.folder / key.replace("/", "_")).write_bytes(body)


@pytest.fixture
def place(account_of_tests, monkeypatch):
    """A directory that the account gets to, with a job "j" of the account's, and root's file."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "secret").write_text("root's alone")
        (place / "secret").chmod(0o600)
        for folder in ("bucket", "jobs"):
            (place / folder).mkdir()
        job_folder(place / "jobs", monkeypatch, submitted=1)
        for path in (place / "bucket", place / "jobs" / "j", *(place / "jobs" / "j").iterdir()):
            shutil.chown(path, "daemon")
        monkeypatch.setattr(jobs, "_unit_is_active", lambda job: False)
        yield place


@needs_root
@pytest.mark.parametrize("name", ["stdout", "events/log", "status.json.part"])
def test_a_jobs_links_lead_the_masters_watch_to_nothing_of_roots(name, place, monkeypatch):
    link = place / "jobs" / "j" / name
    link.unlink(missing_ok=True)
    link.symlink_to(place / "secret")
    bucket = BucketOnDisk(place / "bucket", role="master", idle_seconds=None)
    assert not ends_at_first_look(monkeypatch, bucket, place)
    assert (place / "secret").read_text() == "root's alone"
    copies = {path.name: path.read_text() for path in (place / "bucket").iterdir()}
    # Its end is told all the same.
    assert json.loads(copies["sparknn_night_logs_j_status.json"])["state"] == "lost"
    assert "root's alone" not in copies.values()


@needs_root
def test_a_pipe_that_a_job_has_laid_does_not_hold_the_watch_up(place, monkeypatch, capfd):
    path = place / "jobs" / "j" / "status.json"
    path.unlink()
    os.mkfifo(path)
    path.chmod(0o644)
    monkeypatch.setattr(watch, "REPORT_SECONDS", 1)
    monkeypatch.setattr(account.result_of, "__defaults__", (1,))
    monkeypatch.setattr(watch, "DRIVER_PAGES", ())
    monkeypatch.setattr(watch, "someone_is_logged_in", lambda: False)
    bucket = Bucket(role="master", idle_seconds=0)
    assert ends_at_first_look(monkeypatch, bucket, place)
    assert "in 1 s" in capfd.readouterr().err


@needs_root
@pytest.mark.parametrize("words", [["logs", "j"], ["attach", "j"], ["status", "j"], ["jobs"]])
def test_commands_about_jobs_read_what_jobs_could_read(words, place, capfd):
    for name in ("stdout", "stderr", "status.json"):
        path = place / "jobs" / "j" / name
        path.unlink()
        path.symlink_to(place / "secret")
    child = os.fork()
    if child == 0:
        try:
            __main__.run(__main__.parse(words), Bucket())
        except OSError:
            os._exit(3)
        finally:
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = capfd.readouterr()
    assert "root's alone" not in said.out + said.err
    assert code == (0 if words == ["jobs"] else 3)


@needs_root
def test_a_job_is_roots_until_all_is_there_and_is_not_submitted_twice(place, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "_start_unit", started.append)

    class Downloads(Bucket):
        def download(self, key, path, sha256):
            about = os.stat(os.path.dirname(path))
            assert (about.st_uid, about.st_mode & 0o777) == (0, 0o700)
            Path(path).write_text(key)

    files = {"train.py": ("key", "00")}
    jobs.submit(Downloads(), "k", files, [], [])
    folder = place / "jobs" / "k"
    assert {path.owner() for path in (folder, *folder.iterdir())} == {"daemon"}
    # A job may do with its directory what it likes.
    (folder / "status.json").unlink()
    (folder / "train.py").unlink()
    (folder / "train.py").symlink_to(place / "secret")
    jobs.submit(Downloads(), "k", files, [], [])
    assert started == ["k"]
    assert (place / "secret").read_text() == "root's alone"


@pytest.mark.parametrize("job", ["", "../x", "a b", "-x", "x" * 65])
def test_a_jobs_id_cannot_leave_its_directory(job):
    with pytest.raises(jobs.JobError, match="job's id"):
        jobs.folder_of(job)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3), (-9, 137), (None, 1)])
def test_the_exit_status_of_a_job_is_handed_on(code, status):
    assert jobs.exit_status({"exit": code}) == status


def test_executors_get_the_memory_that_the_smallest_worker_offers(monkeypatch):
    monkeypatch.setenv("SPARK_HOME", "/spark")
    about = {"conf": ["spark.x=1"], "script": "s.py", "arguments": ["--input", "s3a://b/x y"]}
    workers = [{"memory": 4096}, {"memory": 2048}]
    command = jobs.submit_command(about, "/jobs/j", "10.0.0.1", workers)
    assert command[:3] == ["/spark/bin/spark-submit", "--master", "spark://10.0.0.1:7077"]
    assert "spark.executor.memory=2048m" in command
    assert command[-3:] == ["/jobs/j/s.py", "--input", "s3a://b/x y"]


def test_a_scripts_own_options_are_left_to_it():
    words = ["submit", "j", "--file", "s.py", "key", "00", "--conf", "a=b"]
    options = __main__.parse([*words, "--", "--input", "x", "--", "--conf"])
    assert options.job == "j" and options.file == [["s.py", "key", "00"]]
    assert options.conf == ["a=b"]
    assert options.arguments == ["--input", "x", "--", "--conf"]
    assert __main__.parse(words).arguments == []


def test_a_worker_waits_for_the_master_of_its_own_launch(monkeypatch):
    bucket = Bucket()
    monkeypatch.setattr(aws, "address", lambda: "10.0.0.1")
    with pytest.raises(TimeoutError, match="no master"):
        joining.find_master(bucket, patience=0, pause=0)
    joining.publish(bucket)
    assert joining.find_master(bucket, patience=0) == "10.0.0.1"
    bucket.settings["launch_id"] = "l-2"
    with pytest.raises(TimeoutError):
        joining.find_master(bucket, patience=0, pause=0)


def test_a_notice_decommissions_once_and_a_look_that_fails_does_not_end_the_watch(monkeypatch):
    notices = [aws.RequestError(0, "http://x", "away"), None, "terminate", "terminate"]

    def metadata(path):
        if path == "meta-data/local-ipv4":
            return "10.0.0.2"
        notice = notices.pop(0)
        if isinstance(notice, Exception):
            raise notice
        return notice

    asked = []
    monkeypatch.setattr(aws, "metadata", metadata)
    monkeypatch.setattr(watch.subprocess, "run", lambda command, **_: asked.append(len(notices)))
    # There is no time to wait for Spark: two minutes, in which the watch has other things to do.
    monkeypatch.setattr(watch, "wait_until_let_go", None)
    one = watch.Watch(Bucket(role="worker", idle_seconds=5))
    one.ready = True
    for _ in range(4):
        one.look()
    assert asked == [1]


@pytest.mark.parametrize("lets_go", [True, False])
def test_decommissioning_ends_when_the_worker_has_no_executor_or_time_is_up(
    lets_go, monkeypatch, capsys
):
    pages = [{"executors": [{}, {}]}, OSError("busy"), {"executors": [{}]}]
    pages += [{"executors": []}] * lets_go
    clock, asked = [0.0], []

    def page(address, port):
        asked.append((address, port))
        answer = pages.pop(0) if len(pages) > 1 else pages[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(watch, "decommission", lambda: asked.append("signal"))
    monkeypatch.setattr(joining, "page", page)
    monkeypatch.setattr(aws, "address", lambda: "10.0.0.2")
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watch.time, "sleep", lambda s: clock.append(clock.pop() + s))
    assert __main__.run(__main__.parse(["decommission"]), Bucket()) == 0
    assert asked[:2] == ["signal", ("10.0.0.2", configuration.WORKER_PAGE)]
    said = capsys.readouterr().out
    if lets_go:
        assert (len(asked), said) == (5, "")
    else:
        assert "executors still" in said
        assert watch.LETTING_GO_SECONDS <= clock[0] < 300


def test_java_is_not_asked_for_the_module_that_it_does_not_have(tmp_path):
    runtime = tmp_path / "run time"
    (runtime / "lib").mkdir(parents=True)
    (runtime / "lib" / "jspawnhelper").touch()
    (runtime / "bin").mkdir()
    (runtime / "bin" / "java").write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    java.make_home(str(runtime), str(tmp_path / "home"))
    command = [tmp_path / "home" / "bin" / "java", "-cp", "a b", java.QUESTION, "Main", "*", ""]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "<-cp><a b><Main><*><>"
