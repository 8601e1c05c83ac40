"""What the documents say in tables that are made of the code: `python -m tests.docs` writes them anew.

Owns the tables' looks and where the code is asked. What must agree with the code is tested in tests/test_docs.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from handlers.problems import WORDS
from hub.settings import GROUPS, SETTINGS, Setting

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("hub", "handlers", "store", "worker")


def sources() -> list[Path]:
    """All modules of the product."""
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def unused(declared: Setting, code: str) -> bool:
    """Whether nothing in `code` ever asks for this setting's value."""
    return re.search(rf"\.{declared.name.lower()}\b", code) is None


def settings() -> str:
    """Every setting: its name, its default and what it does."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources())
    lines: list[str] = []
    for group in GROUPS:
        lines += [f"### {group}", "", GROUPS[group], "", "| setting | default | |", "|---|---|---|"]
        for declared in (each for each in SETTINGS if each.group == group):
            default = declared.default or ("none" if not declared.secret else "none; a secret")
            plain = default if declared.derive is not None or not declared.default else f"`{default}`"
            note = " *Unused.*" if unused(declared, code) else ""
            lines.append(f"| `{declared.name}` | {plain} | {declared.help}{note} |")
        lines.append("")
    return "\n".join(lines)


def titles() -> str:
    """Every code that has words of its own, with them."""
    lines = ["| code | title | 标题 |", "|---|---|---|"]
    lines += [f"| `{code}` | {english} | {chinese} |" for code, (english, chinese) in WORDS.items()]
    return "\n".join(lines) + "\n"


def tests() -> str:
    """Every test that names a promise, by promise."""
    promised = re.findall(r"^## P(\d+): ", (ROOT / "docs/promises.md").read_text(encoding="utf-8"), re.MULTILINE)
    named: dict[int, list[str]] = {int(number): [] for number in promised}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for test in functions(path):
            said = f"{test.name.upper().replace('_', ' ')} {ast.get_docstring(test) or ''}"
            for number in {int(number) for number in re.findall(r"\bP([0-9]{1,2})\b", said)}:
                if number in named:
                    named[number].append(f"`{path.relative_to(ROOT)}::{test.name}`")
    lines = ["| promise | tests |", "|---|---|"]
    lines += [f"| P{number} | {'<br>'.join(found)} |" for number, found in sorted(named.items())]
    return "\n".join(lines) + "\n"


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The test functions of a file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


TABLES = {
    "settings": ("docs/operating.md", settings),
    "titles": ("docs/reference/problems.md", titles),
    "tests": ("docs/promises.md", tests),
}


def written(text: str, name: str, table: str) -> str:
    """`text` with the table between its two marks."""
    marks = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    made, count = marks.subn(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"the marks of the table {name!r} are missing")
    return made


def write() -> None:
    """Put all tables into their documents."""
    for name, (where, table) in TABLES.items():
        path = ROOT / where
        path.write_text(written(path.read_text(encoding="utf-8"), name, table()), encoding="utf-8")


if __name__ == "__main__":
    write()
