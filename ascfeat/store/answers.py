"""What a server's answer to a request means, in words a person can act on."""

from __future__ import annotations

import re

from ascfeat.store.places import PlaceError


def refusal(where: str, verb: str, text: str) -> PlaceError:
    """The error for a request that failed for good, from what obstore says of it."""
    said = text.split("\n\nDebug source")[0]
    code = re.search(r"<Code>(\w+)</Code>(?:\s*<Message>(.*?)</Message>)?", said, re.DOTALL)
    status = re.search(r"status code: (\d{3})(?: ([A-Za-z -]+))?", said)
    kind = re.search(r"kind: (Connect|Timeout|Request|Interrupted|Decode)\b", text)
    number = int(status[1]) if status else 0
    if code:
        why = f"the server answers {code[1]}" + (f": {code[2].strip().rstrip('.')}" if code[2] else "")
    elif status:
        why = f"the server answers {number}" + (f", {status[2].strip()}" if status[2] else "")
    else:
        why = _silence(kind[1] if kind else "", text)
    return PlaceError(f"{where} cannot be {verb}: {why}.", todo=_advice(number, code[1] if code else "", text))


def _silence(kind: str, text: str) -> str:
    """Why there was no answer at all."""
    if "dns error" in text:
        return "the server's name is not known here"
    if certificate := re.search(r"InvalidCertificate\(\s*(\w+)", text):
        return f"the server's certificate is not accepted ({certificate[1]})"
    if "InvalidContentType" in text:
        return "the server does not speak https there"
    refused = re.search(r'message: "([^"]+)"', text)
    words = {
        "Connect": f"no connection to the server ({refused[1] if refused else 'no answer'})",
        "Timeout": "the server did not answer in time",
        "Request": "the connection to the server broke off",
        "Interrupted": "the connection to the server broke off",
        "Decode": "the connection to the server broke off",
    }
    return words.get(kind) or text.split("\n")[0][:300].rstrip(".")


def _advice(status: int, code: str, said: str) -> str:
    if "InvalidCertificate" in said:
        return "Name a file with the certificates of the server's authority in AWS_CA_BUNDLE."
    if code == "NoSuchBucket":
        return "Create the bucket, or correct its name."
    if status in (401, 403) or "valid authentication" in said:
        return "Check the credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and their rights."
    if status in range(300, 400):
        return "Check the region (AWS_REGION) and the endpoint (AWS_ENDPOINT_URL)."
    return (
        "Check that the server runs and its address is right, then run the same command again: it goes on from there."
    )
