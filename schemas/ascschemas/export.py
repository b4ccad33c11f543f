"""The JSON Schemas of every document, written by ``python -m ascschemas.export schemas/json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ascschemas.base import Frozen
from ascschemas.correction import Audit
from ascschemas.dataset import Manifest
from ascschemas.ensemble import EnsembleReport
from ascschemas.findings import CheckReport
from ascschemas.recipe import FeatureRecipe
from ascschemas.report import Report
from ascschemas.run import Environment, Finished, Progress, RunData
from ascschemas.store import Seal, StoreHeader, UnitRecord
from ascschemas.training import TrainingRecipe

DOCUMENTS: dict[str, type[Frozen]] = {
    "check_report": CheckReport,
    "correction_audit": Audit,
    "ensemble_report": EnsembleReport,
    "feature_recipe": FeatureRecipe,
    "manifest": Manifest,
    "report": Report,
    "run_data": RunData,
    "run_environment": Environment,
    "run_finished": Finished,
    "run_progress": Progress,
    "seal": Seal,
    "store_header": StoreHeader,
    "training_recipe": TrainingRecipe,
    "unit_record": UnitRecord,
}
"""What is written to disk or shared, by the name of its schema's file."""


def schemas() -> dict[str, str]:
    """The text of every schema file, by file name."""
    return {f"{name}.json": _text(model) for name, model in DOCUMENTS.items()}


def write(folder: Path) -> None:
    """Write every schema file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


def _text(model: type[Frozen]) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
