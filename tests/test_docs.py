"""The documents cannot rot: what they must name is asked of the code, and what they point at must be there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest

from handlers import content, live, worker_line, worker_socket
from handlers.answers import Answering
from handlers.problems import CODE_STATUS, WORDS, status_of
from hub import errors, messages, task
from hub.errors import HubError
from hub.settings import SETTINGS
from hub.task import Move, State
from store.documents import KINDS
from store.probe_wire import REFUSALS
from tests import docs

ROOT = docs.ROOT
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """The part of a document under one heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"no section {title!r}"
    return found[1]


# --- routes -----------------------------------------------------------------------------------------------------


def routes() -> list[tuple[str, type[Answering]]]:
    """Every route of the hub: those in the modules' ROUTES, and those under the configured paths."""
    modules = [import_module(f"handlers.{path.stem}") for path in sorted((ROOT / "handlers").glob("*.py"))]
    listed: list[tuple[str, Any]] = [route for module in modules for route in getattr(module, "ROUTES", [])]
    return [*listed, *content.routes("videos", "backgrounds")]


def verbs(handler: type[Answering]) -> list[str]:
    """The methods that a handler answers; OPTIONS and HEAD are described for all at once."""
    return [verb for verb in ("GET", "POST", "PUT", "PATCH", "DELETE") if handler.serves(verb)]


def described() -> list[tuple[str, str]]:
    """Method and path of each route that the reference has a heading for; placeholders stand for ids."""
    found = re.findall(r"^### ([A-Z]+) (/\S*)$", read("docs/reference/http.md"), re.MULTILINE)
    return [(verb, path.replace("{digest}", "0" * 32)) for verb, path in found if path != "/"]


def test_every_route_is_in_the_reference() -> None:
    for pattern, handler in routes():
        for verb in verbs(handler):
            ways = [path for told, path in described() if told == verb and re.fullmatch(pattern, path)]
            assert ways, f"docs/reference/http.md: no heading for {verb} {pattern}"


def test_every_route_in_the_reference_exists() -> None:
    for told, path in described():
        there = next((handler for pattern, handler in routes() if re.fullmatch(pattern, path)), None)
        assert there is not None, f"docs/reference/http.md: there is no {path}"
        assert told in verbs(there), f"docs/reference/http.md: {path} does not answer {told}"


# --- messages ---------------------------------------------------------------------------------------------------


def types(union: Any) -> dict[str, list[str]]:
    """The tags of a union of messages, each with its own fields."""
    shared = {"n", "ack", "id", "v"}
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(union)}
    return {tag: [name for name in kind.__struct_fields__ if name not in shared] for tag, kind in kinds.items()}


WIRES = [
    ("docs/reference/worker-protocol.md", "Worker to hub", messages.FromWorker),
    ("docs/reference/worker-protocol.md", "Hub to worker", messages.ToWorker),
    ("docs/reference/live.md", "Browser to hub", messages.FromBrowser),
]


@pytest.mark.parametrize(("document", "title", "union"), WIRES)
def test_every_message_is_in_the_reference_with_its_fields(document: str, title: str, union: Any) -> None:
    text = section(read(document), title)
    for tag, names in types(union).items():
        for name in (tag, *names):
            assert re.search(rf"`{name}\??`", text), f"{document}: {title} does not name {name} of {tag}"


@pytest.mark.parametrize("kind", [messages.Model, messages.Artifact, messages.Input])
def test_the_parts_of_messages_are_in_the_reference(kind: Any) -> None:
    told = [set(re.findall(r"\w+", part)) for part in re.findall(r"\{([^{}`]*)\}", read(WIRES[0][0]))]
    assert set(kind.__struct_fields__) in told


def test_every_reply_and_event_is_in_the_reference() -> None:
    text = read("docs/reference/live.md")
    replies = [kind.__struct_config__.tag for kind in messages.Reply.__subclasses__()]
    for word in (*replies, *messages.EVENT_TYPES, *messages.Subscribed.__struct_fields__):
        assert f"`{word}" in text or f'"{word}"' in text, f"docs/reference/live.md does not name {word}"


@pytest.mark.parametrize(("document", "module"), [
    ("docs/reference/live.md", live), ("docs/reference/worker-protocol.md", worker_socket),
    ("docs/reference/worker-protocol.md", worker_line),
])
def test_every_close_code_is_in_the_reference(document: str, module: Any) -> None:
    codes = {value for name, value in vars(module).items() if name.startswith("CLOSE_")}
    text = section(read(document), "Close codes")
    assert codes and not [code for code in codes if f"| {code} |" not in text]


# --- settings, problems, states ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["settings", "titles"])
def test_the_tables_are_those_of_the_code(name: str) -> None:
    """`python -m tests.docs` writes them anew."""
    where, table = docs.TABLES[name]
    assert read(where) == docs.written(read(where), name, table())


def test_every_setting_is_in_operating() -> None:
    text = section(read("docs/operating.md"), "Settings")
    assert SETTINGS and not [each.name for each in SETTINGS if f"| `{each.name}` |" not in text]


def kinds() -> dict[str, type[HubError]]:
    """The refusals by the names of their classes."""
    found = {**vars(errors), **vars(task)}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, HubError)}


def raised() -> Iterator[HubError]:
    """Every refusal that is spelled out in the code, as it would be raised."""
    for path in docs.sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds():
                code = next((word.value for word in node.keywords if word.arg == "code"), None)
                if code is None:
                    yield kinds()[node.func.id]()
                elif isinstance(code, ast.Constant):
                    yield kinds()[node.func.id](code=str(code.value))


def statuses() -> dict[str, int]:
    """What the reference says about the status of each code."""
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", read("docs/reference/problems.md"), re.MULTILINE)
    return {code: int(status) for status, code in rows}


def test_every_problem_is_in_the_reference_with_its_status() -> None:
    told, text = statuses(), read("docs/reference/problems.md")
    for error in raised():
        named = f"`{error.code}`" in text
        assert named, f"docs/reference/problems.md does not name {error.code}"
        assert told.get(error.code, status_of(error)) == status_of(error), f"{error.code} is {status_of(error)}"
    for code, status in CODE_STATUS.items():
        assert told.get(code, status) == status, f"{code} is {status}"


def test_every_problem_in_the_reference_exists() -> None:
    known = {error.code for error in raised()} | set(WORDS) | set(CODE_STATUS)
    assert statuses() and not statuses().keys() - known


def test_every_refusal_of_a_file_is_in_the_reference() -> None:
    text = read("docs/reference/problems.md")
    assert not [code for code in REFUSALS if f"| `{code}` |" not in text]


def test_every_event_to_watch_is_logged_somewhere() -> None:
    text = section(read("docs/operating.md"), "What to watch")
    watched = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`[^|]*) \|", text, re.MULTILINE))))
    watched |= set(re.findall(r"`(\w+_\w+)`", text[text.index("the ones to count"):])) - {"request_id"}
    code = "".join(path.read_text(encoding="utf-8") for path in docs.sources())
    logged = set(re.findall(r"log\.\w+\(\s*\"(\w+)\"", code))
    assert watched and not watched - logged


def test_the_collections_are_those_of_the_store() -> None:
    text = section(read("docs/operating.md"), "The database")
    told = re.findall(r"`(\w+)`", text[text.index("Collections:"):])
    assert sorted(told) == sorted(kind.collection for kind in KINDS.values())


def test_every_state_and_move_is_in_architecture() -> None:
    text = section(read("docs/architecture.md"), "A task's states")
    assert not [word for word in (*State, *Move) if word not in text]
    lettered = re.findall(r"\*\*[A-Z]: (\w+)\*\*", text)
    assert sorted(lettered) == sorted(Move)


def test_every_phase_is_in_architecture() -> None:
    text = section(read("docs/architecture.md"), "A task's states")
    assert not [phase for phase in task.PHASES if f"`{phase}`" not in text]


# --- what documents point at ------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """What can be linked to within a document: its headings, as they are made into names."""
    headings = re.findall(r"^#{1,6} (.+)$", CODE.sub(lambda code: code[0].strip("`"), path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{document}: {target}"
        assert not anchor or anchor in anchors(there), f"{document}: {target}"


def test_every_document_can_be_found_from_the_readme() -> None:
    found, looked = {ROOT / "README.md"}, set[Path]()
    while waiting := found - looked:
        path = waiting.pop()
        looked.add(path)
        if path.suffix == ".md":
            links = (target.partition("#")[0] for target in LINK.findall(path.read_text(encoding="utf-8")))
            places = {(path.parent / link).resolve() for link in links if link and ":" not in link}
            found |= {page for place in places for page in ([*place.glob("*.md")] if place.is_dir() else [place])}
    assert not [str(path.relative_to(ROOT)) for path in DOCUMENTS if path not in found and "tests" not in path.parts]


def test_the_readme_names_only_targets_that_make_knows() -> None:
    known = set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "docs/tutorial.md"):
        spoken = set(re.findall(r"(?:^|`)make ([a-z-]+)", read(name), re.MULTILINE))
        assert spoken <= known, f"{name}: {sorted(spoken - known)}"


def test_every_promise_is_proved_by_tests_that_exist() -> None:
    """`python -m tests.docs` lists the tests anew."""
    text = read("docs/promises.md")
    promised = re.findall(r"^## (P\d+): ", text, re.MULTILINE)
    proofs = dict(re.findall(r"^\| (P\d+) \| (.+) \|$", text, re.MULTILINE))
    assert promised and promised == list(proofs)
    for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert (ROOT / path).is_file(), f"docs/promises.md: {path}"
        assert test in {function.name for function in docs.functions(ROOT / path)}, f"docs/promises.md: {path}::{test}"


def test_python_in_documents_compiles() -> None:
    found = [
        (path, block) for path in DOCUMENTS
        for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ]
    assert found
    for path, block in found:
        compile(block, str(path), "exec")
