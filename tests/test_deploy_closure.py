"""The boot files, without downloading any."""

import hashlib
import zipfile

import pytest

from deploy.boot import closure
from deploy.errors import ClosureError
from sparknn.cli import jars
from sparknn.errors import DownloadError


def make_zip(path, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return path


def test_the_sdks_bundle_keeps_what_s3a_uses_and_drops_other_services(tmp_path):
    services = "software/amazon/awssdk/services"
    kept = [f"{services}/s3/S3Client.class", "software/amazon/awssdk/core/Core.class"]
    dropped = [f"{services}/s3control/S3Control.class", f"{services}/ec2/Ec2Client.class"]
    whole = make_zip(tmp_path / "bundle.jar", **dict.fromkeys([*kept, *dropped], "code"))
    jars._slim(whole, tmp_path / "slim.jar")
    with zipfile.ZipFile(tmp_path / "slim.jar") as archive:
        assert archive.namelist() == kept
        assert archive.read(kept[0]) == b"code"


def test_s3as_versions_are_those_in_sparks_wheel(tmp_path):
    names = ("hadoop-client-api-3.4.1.jar", "spark-core_2.13-4.0.5.jar")
    spark = make_zip(tmp_path / "s.whl", **{f"pyspark/jars/{name}": "" for name in names})
    assert closure._versions(spark) == jars.Versions("4.0.5", "2.13", "3.4.1")
    with pytest.raises(DownloadError, match="has no spark-core and hadoop-client-api"):
        closure._versions(make_zip(tmp_path / "other.whl", **{"pyspark/x": ""}))


def test_sparks_version_is_that_installed_here_unless_it_is_pinned():
    import pyspark

    assert closure._spark_version(["xgboost", "pyspark-client==1"]) == pyspark.__version__
    assert closure._spark_version(["xgboost", "pyspark == 4.0.1"]) == "4.0.1"


def test_an_architecture_that_ec2_has_not_is_refused(tmp_path):
    with pytest.raises(ClosureError, match="x86_64 and arm64"):
        closure.build("sparc", "3.12", [], tmp_path)


def test_a_package_that_cannot_be_had_is_told_with_pips_own_words():
    with pytest.raises(ClosureError, match="sparknn-no-such-file"):
        closure._pip("wheel", "--no-index", "./sparknn-no-such-file.whl")


@pytest.mark.parametrize("digest", [hashlib.sha1(b"jar").hexdigest(), "0" * 40])
def test_a_jar_that_came_broken_is_refused(digest, tmp_path, monkeypatch):
    place = tmp_path / "central" / "g" / "a" / "1"
    place.mkdir(parents=True)
    (place / "a-1.jar").write_bytes(b"jar")
    (place / "a-1.jar.sha1").write_text(f"{digest}  a-1.jar\n")
    monkeypatch.setattr(jars, "CENTRAL", (tmp_path / "central").as_uri())
    monkeypatch.setattr(jars, "LOCAL", tmp_path / "m2")
    monkeypatch.setattr(jars.shutil, "which", lambda name: None)
    if digest.startswith("0"):
        with pytest.raises(DownloadError, match="try again"):
            jars.artifact("g", "a", "1", "jar", tmp_path)
    else:
        assert jars.artifact("g", "a", "1", "jar", tmp_path).read_bytes() == b"jar"
