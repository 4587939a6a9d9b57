"""Machine images and instance types."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated
from deploy.errors import ImageError

__all__ = ["SYSTEMS", "Image", "InstanceType", "find_image", "find_types"]

# Each system's newest image, by the parameter that its maker keeps; and the Python in it.
PARAMETERS = {
    "ubuntu-24.04": "/aws/service/canonical/ubuntu/server/24.04/stable/current/{ubuntu}/hvm/"
    "ebs-gp3/ami-id",
    "al2023": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{amazon}",
}
PYTHONS = {"ubuntu-24.04": "3.12", "al2023": "3.12"}
SYSTEMS = tuple(PARAMETERS)


@dataclass(frozen=True)
class InstanceType:
    """What matters of an instance type; memory in bytes, disks: instance-store gigabytes."""

    name: str
    architecture: str
    cores: int
    memory: int
    disks: int


@dataclass(frozen=True)
class Image:
    """A machine image; root_gb: the least that its root volume can have."""

    id: str
    architecture: str
    root_device: str
    root_gb: int
    python: str


def find_types(aws: Aws, wanted: list[str]) -> dict[str, InstanceType]:
    """Return the instance types of these names.

    Raises
    ------
    ImageError
        If the region has none of that name.
    """
    names = list(dict.fromkeys(wanted))
    with translated("instance types"):
        try:
            answer = aws.ec2.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
        except ClientError as error:
            if codes(error) not in ("InvalidInstanceType", "InvalidParameterValue"):
                raise
            answer = []
    types = {found["InstanceType"]: _type(found) for found in answer}
    missing = [name for name in names if name not in types]
    if missing:
        raise ImageError(
            f"no instance type {' or '.join(missing)} in {aws.region}: choose another with "
            "--instance-type, or another --region"
        )
    if len({found.architecture for found in types.values()}) > 1:
        raise ImageError(
            f"{' and '.join(names)} are of different architectures: choose a "
            "--master-instance-type like the workers'"
        )
    return types


def _type(found: dict) -> InstanceType:
    supported = found["ProcessorInfo"]["SupportedArchitectures"]
    architecture = "arm64" if "arm64" in supported else "x86_64"
    return InstanceType(
        found["InstanceType"],
        architecture,
        found["VCpuInfo"]["DefaultVCpus"],
        found["MemoryInfo"]["SizeInMiB"] * 2**20,
        found.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0),
    )


def find_image(aws: Aws, ami: str | None, system: str, architecture: str) -> Image:
    """Return the image asked for, or the newest one of a system.

    ami: the image's id, or None. system: one of SYSTEMS, whose Python the boot files are for.

    Raises
    ------
    ImageError
        If there is none, or it is for the other architecture.
    """
    ami = ami or _newest(aws, system, architecture)
    with translated("machine image"):
        try:
            found = aws.ec2.describe_images(ImageIds=[ami])["Images"]
        except ClientError as error:
            if not codes(error).startswith("InvalidAMIID"):
                raise
            found = []
    if not found:
        raise ImageError(
            f"no image {ami} in {aws.region}: leave --ami out for the newest {system}, or name "
            "one of this region"
        )
    image = found[0]
    if image["Architecture"] != architecture:
        raise ImageError(
            f"{ami} is for {image['Architecture']}, and the instance type is {architecture}: "
            "change --ami or --instance-type"
        )
    root = image.get("RootDeviceName", "/dev/sda1")
    sizes = [
        device.get("Ebs", {}).get("VolumeSize", 0)
        for device in image.get("BlockDeviceMappings", [])
        if device.get("DeviceName") == root
    ]
    return Image(ami, architecture, root, max([*sizes, 8]), PYTHONS[system])


def _newest(aws: Aws, system: str, architecture: str) -> str:
    name = PARAMETERS[system].format(
        ubuntu={"x86_64": "amd64"}.get(architecture, architecture), amazon=architecture
    )
    with translated("newest image"):
        try:
            return aws.ssm.get_parameter(Name=name)["Parameter"]["Value"]
        except ClientError as error:
            if codes(error) != "ParameterNotFound":
                raise
    raise ImageError(f"{aws.region} does not offer {system} for {architecture}: name an --ami")
