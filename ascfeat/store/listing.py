"""Directory listings of web servers, where they make them: nginx's and others' HTML, and nginx's JSON."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from html.parser import HTMLParser
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from typing_extensions import override

from ascfeat.store.places import PlaceError

LARGEST: Final = 64 << 20
"""Bytes of a listing beyond which it is none."""

NO_LISTING: Final = (403, 405)
"""What servers answer that have the folder and make no listings."""


def listing(url: str, *, seconds: float) -> list[str]:
    """Names that a web server lists at a URL, those of folders with a slash at their end.

    Raises
    ------
    FileNotFoundError
        When there is no such folder.
    PlaceError
        When the server does not list it, or does not answer in so many seconds.
    """
    parts = urlsplit(url)
    asked = f"{parts.scheme}://{parts.netloc}{quote(parts.path.rstrip('/'))}/"
    try:
        with urllib.request.urlopen(asked, timeout=seconds, context=_trust(parts.scheme)) as answer:
            kind, data = answer.headers.get_content_type(), answer.read(LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                raise FileNotFoundError(2, "No such folder", url) from None
            why = f"it answers {error.code}, {error.reason}"
            raise (
                _not_listed(url, why)
                if error.code in NO_LISTING
                else _not_there(url, why.replace("it", "the server", 1))
            ) from None
    except OSError as error:  # urllib's own errors are
        raise _not_there(url, str(getattr(error, "reason", error)).rstrip(".")) from None
    return sorted({name for name in _names(kind, data, url) if _is_name(name)})


def _trust(scheme: str) -> ssl.SSLContext | None:
    """Whose certificates are accepted: the system's, and those of ``AWS_CA_BUNDLE``, as for everything else."""
    if scheme != "https":
        return None
    trusted, bundle = ssl.create_default_context(), os.environ.get("AWS_CA_BUNDLE")
    if bundle:
        trusted.load_verify_locations(bundle)
    return trusted


def _names(kind: str, data: bytes, url: str) -> list[str]:
    text = data.decode("utf-8", "replace")
    if kind == "application/json":
        try:
            return [e["name"] + ("/" if e["type"] == "directory" else "") for e in json.loads(text)]
        except (KeyError, TypeError, ValueError):
            raise _not_listed(url, "it answers with JSON that is no listing") from None
    links = _Links()
    links.feed(text)
    if kind != "text/html" or not ("Index of" in text or "Directory listing" in text):
        raise _not_listed(url, f"it answers with a page of its own ({kind})")
    return [unquote(urlsplit(link.removeprefix("./")).path) for link in links.found]


def _is_name(name: str) -> bool:
    """Whether a link goes one step down: not to a parent, another server or a sorted view of the same page."""
    bare = name.removesuffix("/")
    return bool(bare) and "/" not in bare and bare not in (".", "..") and "\0" not in bare


def _not_listed(url: str, why: str) -> PlaceError:
    return PlaceError(
        f"The web server does not list {url}: {why}.",
        todo="Name one store's own URL (…/<dataset>/<recipe>.zarr), or switch on listings there (nginx: autoindex on).",
    )


def _not_there(url: str, why: str) -> PlaceError:
    return PlaceError(
        f"{url} cannot be listed: {why}.",
        todo="Check that the server runs, that its address is right, and your rights.",
    )


class _Links(HTMLParser):
    """Where a page's links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.extend(value for name, value in attrs if (tag, name) == ("a", "href") and value)
