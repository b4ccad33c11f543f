"""Door to boto3: where a bucket is and what requests to it are signed with, found as every AWS tool finds it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from ascfeat.store.places import PlaceError

CREDENTIAL_MINUTES = 5
"""How long credentials are used before the session is asked again: boto3 renews those that expire before they do."""


@dataclass(frozen=True)
class Access:
    """How to get at a bucket."""

    endpoint: str
    """URL of the server, with the bucket's name in the host where that is the server's style."""
    hosted: bool
    """Whether it is."""
    region: str
    """For the signature."""
    credentials: Credentials | None
    """None where there are none anywhere: requests go out unsigned, as for a public bucket."""


class Credentials:
    """Called for what to sign with now; pickled, it is searched for again on the other side."""

    def __init__(self) -> None:
        self.found = _session().get_credentials()

    def __reduce__(self) -> tuple[type[Credentials], tuple[()]]:
        return Credentials, ()

    def __call__(self) -> dict[str, Any]:
        """What to sign with now, in obstore's words."""
        frozen = self.found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=CREDENTIAL_MINUTES),
        }


def access(bucket: str) -> Access:
    """What environment, profile, files and the machine's role say of how to get at a bucket.

    Raises
    ------
    PlaceError
        When they contradict each other, name a profile that does not exist, or boto3 is not installed.
    """
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise not_installed() from error
    try:
        client, credentials = _session().client("s3"), Credentials()
    except (BotoCoreError, ValueError) as error:
        raise PlaceError(
            f"s3://{bucket} cannot be opened: {str(error).rstrip('.')}.",
            todo="Check AWS_PROFILE, AWS_ENDPOINT_URL and the files config and credentials in ~/.aws.",
        ) from error
    endpoint, region = client.meta.endpoint_url, client.meta.region_name
    hosted = (client.meta.config.s3 or {}).get("addressing_style") == "virtual"
    if hosted:
        parts = urlsplit(endpoint)
        endpoint = f"{parts.scheme}://{bucket}.{parts.netloc}"
    signer = credentials if credentials.found else None
    return Access(endpoint, hosted, "us-east-1" if region in (None, "aws-global") else region, signer)


def abort_uploads(bucket: str, prefix: str) -> None:
    """Remove what a killed writer left of files that were sent in parts; not everyone may ask for those."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = _session().client("s3")
    try:
        for upload in client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", ()):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except (BotoCoreError, ClientError):
        return


def not_installed() -> PlaceError:
    """The error where the packages for servers are missing."""
    return PlaceError(
        "Buckets and web servers need the packages obstore and boto3, which are not installed.",
        todo='Install them: pip install "ascfeat[s3]".',
    )


def _session() -> Any:
    import boto3

    return boto3.Session()
