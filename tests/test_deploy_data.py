"""Data on S3: what is uploaded, what is left alone, and whose bucket it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from deploy_helpers import BUCKET

from deploy import buckets, errors, s3
from deploy.aws.session import Aws
from deploy.s3 import Folder, file_digest, steps, synchronise


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with two files."""
    root = tmp_path / "tree"
    (root / "deep").mkdir(parents=True)
    (root / "a.csv").write_text("1,2\n")
    (root / "deep" / "b.csv").write_text("3,4\n")
    return root


def done(tree: Path, folder: Folder, delete: bool = False, checksum: bool = False) -> list[str]:
    todo = steps(tree, folder, delete, checksum)
    synchronise(folder, todo, quiet=True)
    return [f"{step.action} {step.name}" for step in todo]


def test_sync_uploads_what_is_new_or_changed_and_deletes_nothing(aws: Aws, tree: Path) -> None:
    folder = Folder(aws, BUCKET, "data")
    assert done(tree, folder) == ["upload a.csv", "upload deep/b.csv"]
    assert folder.get("deep/b.csv") == b"3,4\n"
    assert done(tree, folder) == []
    (tree / "a.csv").write_text("longer\n")
    (tree / "deep" / "b.csv").unlink()
    assert done(tree, folder) == ["upload a.csv"]
    assert folder.get("deep/b.csv") == b"3,4\n"


def test_sync_deletes_with_delete_and_only_under_its_prefix(aws: Aws, tree: Path) -> None:
    folder, neighbour = Folder(aws, BUCKET, "data"), Folder(aws, BUCKET, "data-more")
    done(tree, folder)
    neighbour.put("kept", b"")
    (tree / "a.csv").unlink()
    assert done(tree, folder, delete=True) == ["delete a.csv"]
    assert [found.key for found in folder.find()] == ["data/deep/b.csv"]
    assert neighbour.get("kept") == b""


def test_a_change_that_neither_size_nor_time_tells_is_seen_with_checksum(
    aws: Aws, tree: Path
) -> None:
    folder = Folder(aws, BUCKET, "data")
    done(tree, folder)
    before = (tree / "a.csv").stat()
    (tree / "a.csv").write_text("9,9\n")
    os.utime(tree / "a.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert done(tree, folder) == []
    assert done(tree, folder, checksum=True) == ["upload a.csv"]


def test_a_large_file_goes_up_in_parts_with_its_digest(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(11 * 2**20))
    folder = Folder(aws, BUCKET, "data")
    calls: list[str] = []
    aws.s3.meta.events.register(
        "before-send.s3", lambda event_name, request, **_: calls.append(event_name)
    )
    counted: list[int] = []
    folder.upload(path, "large", counted.append)
    assert sum(call.endswith("UploadPart") for call in calls) == 3
    assert sum(counted) == path.stat().st_size
    assert folder.digest("large") == file_digest(path)
    assert folder.get("large") == path.read_bytes()


def test_an_upload_that_is_refused_says_so_in_our_words(aws: Aws, tree: Path) -> None:
    with pytest.raises(errors.BucketError, match="--bucket"):
        Folder(aws, "no-such-bucket-anywhere", "x").upload(tree / "a.csv", "a.csv")


def test_a_bucket_is_made_closed_encrypted_and_tls_only(aws: Aws) -> None:
    buckets.make_bucket(aws, "fresh-bucket")
    closed = aws.s3.get_public_access_block(Bucket="fresh-bucket")
    assert set(closed["PublicAccessBlockConfiguration"].values()) == {True}
    aws.s3.get_bucket_encryption(Bucket="fresh-bucket")
    policy = json.loads(aws.s3.get_bucket_policy(Bucket="fresh-bucket")["Policy"])
    assert policy["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    (rule,) = aws.s3.get_bucket_lifecycle_configuration(Bucket="fresh-bucket")["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_a_bucket_that_is_there_keeps_the_settings_that_it_has(aws: Aws) -> None:
    own = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 9}}
    aws.s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET, LifecycleConfiguration={"Rules": [own]}
    )
    buckets.make_bucket(aws, BUCKET)
    rules = aws.s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [rule["ID"] for rule in rules] == ["mine"]
    assert aws.s3.get_bucket_policy(Bucket=BUCKET)["Policy"]


@pytest.mark.parametrize(
    ("status", "region", "message"),
    [
        (403, "", "of another account than 123456789012"),
        (301, "eu-west-1", "is in eu-west-1"),
        (404, "", "make-bucket some-bucket"),
    ],
)
def test_a_bucket_that_cannot_be_used_says_why(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, status: int, region: str, message: str
) -> None:
    from botocore.exceptions import ClientError

    def head(**_: str) -> None:
        headers = {"x-amz-bucket-region": region}
        about = {"HTTPStatusCode": status, "HTTPHeaders": headers}
        raise ClientError({"Error": {"Code": str(status)}, "ResponseMetadata": about}, "HeadBucket")

    monkeypatch.setattr(aws.s3, "head_bucket", head)
    with pytest.raises(errors.BucketError, match=message):
        buckets.require_bucket(aws, "some-bucket")


def test_a_whole_bucket_is_never_emptied(aws: Aws) -> None:
    with pytest.raises(ValueError, match="whole bucket"):
        s3.empty(Folder(aws, BUCKET, ""))
