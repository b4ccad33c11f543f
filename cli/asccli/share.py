"""``ascfeat push`` and ``pull``: bring a store to where others find it, and get one from there."""

from __future__ import annotations

from functools import partial

import click

from asccli.extract import FEATURES
from asccli.output import progress_reporter, say, size

THREADS = click.option(
    "--threads", type=click.IntRange(min=1), default=4, show_default=True, help="Files sent at once."
)
NO_WAIT = click.option("--no-wait", is_flag=True, help="Fail where somebody else is writing there, instead of waiting.")


@click.command()
@click.argument("store")
@click.argument("url")
@THREADS
@NO_WAIT
def push(store: str, url: str, threads: int, no_wait: bool) -> None:
    """Copy a sealed STORE to URL: a folder or s3://bucket/prefix of stores, or the copy itself, ending in .zarr.

    Below a folder of stores the copy is DATASET/RECIPE.zarr. Every file is read back and held against its checksums,
    and the ledger against the seal, before the copy becomes a store. Broken off at any moment, the same command goes
    on. Where the same store is already, there is nothing to do; where another is, nothing is touched.

    Endpoint and credentials are those of every AWS tool: AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, ~/.aws.
    """
    _copy(store, url, threads, wait=not no_wait)


@click.command()
@click.argument("url")
@FEATURES
@THREADS
@NO_WAIT
def pull(url: str, features: str, threads: int, no_wait: bool) -> None:
    """Copy the sealed store at URL here: s3://bucket/…/x.zarr, http://host/…/x.zarr, or a folder.

    It goes to DATASET/RECIPE.zarr below --features, checked as with `ascfeat push`; broken off at any moment, the
    same command goes on.
    """
    _copy(url, features, threads, wait=not no_wait)


def _copy(source: str, to: str, threads: int, *, wait: bool) -> None:
    from ascfeat.share import run, transfer

    task = transfer(source, to)
    say(f"{task.source.place} -> {task.target}")
    with progress_reporter(len(task.keys), "files") as report:
        done = run(task, threads=threads, wait=partial(say, err=True) if wait else None, progress=report)
    there = done.files - done.sent
    if not done.sent and not done.made:
        say(f"{done.target}: whole, nothing to do; digest {task.digest}")
        return
    kept = f", {there} were there" if there else ""
    sent = f"{done.sent} of {done.files} files copied ({size(done.bytes)}){kept}"
    say(f"{done.target}: {sent}; all are checked; digest {task.digest}")
