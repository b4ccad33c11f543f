"""Every kind of finding has a weight, and a report's verdict follows from its findings."""

from typing import get_args

import pytest
from pydantic import ValidationError

from ascschemas.findings import SEVERITIES, CheckReport, Finding, FindingKind, Severity


def report(fit, *kinds):
    findings = tuple(Finding(kind=kind, severity=SEVERITIES[kind], detail="It is so.") for kind in kinds)
    return CheckReport(
        dataset="scenes",
        kind="csv",
        fit=fit,
        clips=3,
        usable=2,
        audio=None,
        splits=(),
        origins={},
        counts=(),
        findings=findings,
    )


def test_every_kind_has_a_severity_and_they_stand_worst_first():
    assert tuple(SEVERITIES) == get_args(FindingKind)
    order = [get_args(Severity).index(severity) for severity in SEVERITIES.values()]
    assert order == sorted(order)


@pytest.mark.parametrize("kind", get_args(FindingKind))
def test_verdict_follows_from_the_findings(kind):
    fit = SEVERITIES[kind] in ("warning", "note")
    assert report(fit, kind).fit == fit
    with pytest.raises(ValidationError, match="contradicts"):
        report(not fit, kind)


def test_nothing_found_is_fit():
    assert report(True).fit
