"""``ascfeat demo-data``: a small procedural scene dataset to try everything on."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo-data")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--per-scene", default=30, show_default=True, type=click.IntRange(min=3), help="Segments of each scene.")
@click.option("--seconds", default=4.0, show_default=True, help="Length of each recording.")
@click.option("--scenes", default=4, show_default=True, type=click.IntRange(2, 10), help="Number of scene classes.")
@click.option("--parallel", default=0.4, show_default=True, help="Share of segments that devices b and c record too.")
@click.option("--sample-rate", default=44_100, show_default=True, help="Samples per second.")
@click.option("--seed", default=0, show_default=True, help="Everything random comes from it.")
def demo_data(
    out: Path, per_scene: int, seconds: float, scenes: int, parallel: float, sample_rate: int, seed: int
) -> None:
    """Make a three-device scene dataset in the TAU Mobile layout at OUT.

    The same settings make the same files; where OUT already holds them there is nothing to do.
    """
    from asccli.output import progress_reporter
    from ascfeat.demo import make

    with progress_reporter(per_scene * scenes, unit="segments") as report_done:
        made = make(
            out,
            per_scene=per_scene,
            seconds=seconds,
            seed=seed,
            scenes=scenes,
            sample_rate=sample_rate,
            parallel=parallel,
            progress=lambda done, _total: report_done(done),
        )
    verb = "made" if made.new else "already there; nothing to do"
    click.echo(f"{made.root}: {made.clips} recordings of {len(made.classes)} scenes, {verb}.")
