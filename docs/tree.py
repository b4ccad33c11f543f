"""The module tree of the README, made of the first sentence of every module: ``python docs/tree.py README.md``."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas/ascschemas", "ascfeat", "ascmodels", "cli/asccli")
PLACE = re.compile(r"(<!-- tree -->\n```text\n).*?(```\n<!-- /tree -->)", re.DOTALL)


def modules() -> list[Path]:
    """Every module of every package, each package's own first."""
    return [path for package in PACKAGES for path in _walk(ROOT / package)]


def sentence(module: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def tree() -> str:
    """The tree as text, one module a line."""
    rows = [(_label(module), sentence(module).replace("``", "`")) for module in modules()]
    width = max(len(label) for label, _ in rows) + 2
    return "".join(f"{label:<{width}}{words}\n" for label, words in rows)


def with_tree(text: str) -> str:
    """A text whose marked place holds the present tree."""
    return PLACE.sub(lambda found: found[1] + tree() + found[2], text)


def _walk(folder: Path) -> Iterator[Path]:
    yield folder / "__init__.py"
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path.stem != "__init__":
            yield path
        elif (path / "__init__.py").exists():
            yield from _walk(path)


def _label(module: Path) -> str:
    path = module.relative_to(ROOT)
    package = next(p for p in PACKAGES if path.is_relative_to(p))
    if module.name != "__init__.py":
        return "  " * len(path.relative_to(package).parts) + module.name
    inside = path.parent.relative_to(package).parts
    return "  " * len(inside) + f"{inside[-1] if inside else package}/"


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(with_tree(readme.read_text(encoding="utf-8")), encoding="utf-8")
