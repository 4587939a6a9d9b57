"""Objects on S3: upload, synchronise, list, remove; the bucket's owner is checked on every call."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from tqdm import tqdm

from deploy.aws.policy import parse_s3
from deploy.aws.session import Aws, translated
from deploy.errors import AwsError, SettingsError

__all__ = [
    "Folder",
    "Found",
    "Step",
    "empty",
    "file_digest",
    "is_empty",
    "steps",
    "synchronise",
    "upload_all",
]

PART = 16 * 2**20
# boto3's own upload of one file already runs ten parts at a time.
FILES_AT_ONCE = 4
DIGEST = "sparknn-sha256"


@dataclass(frozen=True)
class Found:
    """An object; changed: when it was last written."""

    key: str
    size: int
    changed: datetime


class Folder:
    """What lies under a prefix of a bucket.

    Parameters
    ----------
    aws : the account, which must own the bucket: S3 refuses each call otherwise.
    bucket, prefix : without closing slash; "" is the whole bucket.
    """

    def __init__(self, aws: Aws, bucket: str, prefix: str) -> None:
        self.aws, self.bucket, self.prefix = aws, bucket, prefix

    @classmethod
    def at(cls, aws: Aws, url: str) -> Folder:
        """Return the folder at s3://bucket/prefix."""
        return cls(aws, *parse_s3(url))

    @property
    def owner(self) -> dict[str, str]:
        """The arguments that all calls have."""
        return {"Bucket": self.bucket, "ExpectedBucketOwner": self.aws.account}

    def key(self, name: str) -> str:
        """Return the key of a name in this folder."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def put(self, name: str, body: bytes) -> None:
        """Write a small object."""
        with translated(f"s3://{self.bucket}/{self.key(name)}"):
            self.aws.s3.put_object(
                Key=self.key(name), Body=body, ChecksumAlgorithm="SHA256", **self.owner
            )

    def get(self, name: str) -> bytes | None:
        """Return a small object, None where there is none."""
        try:
            with translated(f"s3://{self.bucket}/{self.key(name)}"):
                return self.aws.s3.get_object(Key=self.key(name), **self.owner)["Body"].read()
        except AwsError as error:
            if error.code in ("NoSuchKey", "404"):
                return None
            raise

    def find(self, below: str = "") -> Iterator[Found]:
        """Yield the objects whose names begin so, in order."""
        start = self.key(below)
        with translated(f"s3://{self.bucket}/{start}"):
            for page in self.aws.pages("s3", "list_objects_v2", Prefix=start, **self.owner):
                for one in page.get("Contents", []):
                    yield Found(one["Key"], one["Size"], one["LastModified"])

    def upload(self, path: Path, name: str, bar: Callable[[int], Any] | None = None) -> None:
        """Upload a file, in parts where it is large; S3 checks the SHA-256 of what arrives."""
        extra = {
            "ExpectedBucketOwner": self.aws.account,
            "ChecksumAlgorithm": "SHA256",
            "Metadata": {DIGEST: file_digest(path)},
        }
        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
        what = f"{path} to s3://{self.bucket}/{self.key(name)}"
        with translated(what):
            try:
                self.aws.s3.upload_file(str(path), self.bucket, self.key(name), extra, bar, config)
            except S3UploadFailedError as error:
                # boto3 wraps the reason; ours says what to do about it.
                if isinstance(error.__context__, Exception):
                    raise error.__context__ from error
                raise AwsError(f"{what}: {error}") from error

    def digest(self, name: str) -> str:
        """Return the SHA-256 that an upload left with the object; "" where there is none."""
        with translated(f"s3://{self.bucket}/{self.key(name)}"):
            head = self.aws.s3.head_object(Key=self.key(name), **self.owner)
        return head.get("Metadata", {}).get(DIGEST, "")

    def remove(self, keys: list[str]) -> None:
        """Delete objects by their whole keys."""
        for start in range(0, len(keys), 1000):
            self._delete([{"Key": key} for key in keys[start : start + 1000]])

    def _delete(self, objects: list[dict[str, str]]) -> None:
        with translated(f"deleting in s3://{self.bucket}/{self.prefix}"):
            answer = self.aws.s3.delete_objects(
                Delete={"Objects": objects, "Quiet": True}, **self.owner
            )
        for error in answer.get("Errors", []):
            raise AwsError(
                f"s3://{self.bucket}/{error['Key']}: {error.get('Message')}", error.get("Code", "")
            )


def _versions(folder: Folder) -> Iterator[list[dict[str, str]]]:
    """Yield a folder's objects with all their versions, a page at a time."""
    start = folder.prefix + "/"
    with translated(f"s3://{folder.bucket}/{start}"):
        for page in folder.aws.pages("s3", "list_object_versions", Prefix=start, **folder.owner):
            versions = page.get("Versions", []) + page.get("DeleteMarkers", [])
            if versions:
                yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in versions]


def _unfinished(folder: Folder) -> Iterator[dict[str, str]]:
    """Yield a folder's uploads that were never finished."""
    start = folder.prefix + "/"
    with translated(f"s3://{folder.bucket}/{start}"):
        for page in folder.aws.pages("s3", "list_multipart_uploads", Prefix=start, **folder.owner):
            for upload in page.get("Uploads", []):
                # Not every stand-in for S3 heeds the prefix, and another's upload is not ours.
                if upload["Key"].startswith(start):
                    yield {"Key": upload["Key"], "UploadId": upload["UploadId"]}


def is_empty(folder: Folder) -> bool:
    """Return whether a folder has neither objects, old versions, nor unfinished uploads."""
    return next(_versions(folder), None) is None and next(_unfinished(folder), None) is None


def empty(folder: Folder) -> None:
    """Delete all that `is_empty` looks for."""
    if not folder.prefix:
        raise ValueError("a whole bucket is never emptied")
    for versions in _versions(folder):
        folder._delete(versions)
    with translated(f"s3://{folder.bucket}/{folder.prefix}/"):
        for upload in _unfinished(folder):
            folder.aws.s3.abort_multipart_upload(**upload, **folder.owner)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class Step:
    """One thing that `synchronise` does: action "upload" or "delete"; name: within the folder."""

    action: str
    name: str
    path: Path | None
    size: int


def _files(directory: Path) -> dict[str, Path]:
    found = {}
    for root, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = Path(root) / name
            if path.is_file():
                found[path.relative_to(directory).as_posix()] = path
    return found


def steps(directory: Path, folder: Folder, delete: bool, checksum: bool) -> list[Step]:
    """Return what makes a folder on S3 like a local directory.

    delete : remove what the directory lacks. checksum : compare contents; else a file is taken
    as unchanged when it has the same size and the object is not older.

    Raises
    ------
    SettingsError
        If the directory is none.
    """
    if not directory.is_dir():
        raise SettingsError(f"{directory} is no directory: `upload` takes single files")
    local = _files(directory)
    skip = len(folder.prefix) + 1 if folder.prefix else 0
    remote = {found.key[skip:]: found for found in folder.find()}
    todo = []
    for name, path in local.items():
        status = path.stat()
        there = remote.get(name)
        if there is not None and there.size == status.st_size:
            if checksum:
                same = folder.digest(name) == file_digest(path)
            else:
                # S3 knows whole seconds only.
                same = there.changed.timestamp() >= int(status.st_mtime)
            if same:
                continue
        todo.append(Step("upload", name, path, status.st_size))
    if delete:
        gone = [name for name in remote if name not in local]
        todo += [Step("delete", name, None, remote[name].size) for name in gone]
    return todo


def synchronise(folder: Folder, todo: list[Step], quiet: bool = False) -> None:
    """Carry steps out: all uploads first."""
    files = {step.name: step.path for step in todo if step.path is not None}
    upload_all(folder, files, quiet)
    folder.remove([folder.key(step.name) for step in todo if step.action == "delete"])


def upload_all(folder: Folder, files: dict[str, Path], quiet: bool = False) -> None:
    """Upload files, several at a time, with a bar of progress on a terminal.

    files : name in the folder → path.
    """
    total = sum(path.stat().st_size for path in files.values())
    hidden = quiet or not sys.stderr.isatty()
    with (
        tqdm(total=total, unit="B", unit_scale=True, disable=hidden, leave=False) as bar,
        ThreadPoolExecutor(FILES_AT_ONCE) as pool,
    ):
        running = [
            pool.submit(folder.upload, path, name, bar.update) for name, path in files.items()
        ]
        try:
            for one in running:
                one.result()
        except BaseException:
            for one in running:
                one.cancel()
            raise
