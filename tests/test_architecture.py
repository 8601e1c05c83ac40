"""The rooms and their arrows: who may import whom, who may await, who may name a driver or spell a type."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from hub import messages

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("hub", "handlers", "store", "worker")
LONGEST = 400
ALLOWED_LONGER = {"tests/odd_media.py": 450}  # for now, each until it is split
DRIVERS = {"motor", "pymongo", "bson", "gridfs"}
DRIVEN = {"store/mongo.py", "store/embedded.py"}
ENCODES = "store/memory.py"  # knows the driver's documents, so as to refuse what it would
COMPOSITION_ROOT = "hub/__main__.py"
# the command line: opens the store for each errand
ERRANDS = {"hub/commands.py", "hub/interface_commands.py", "hub/media_commands.py"}
DUTIES = {"hub/runner.py", "hub/verify.py", "hub/elsewhere.py", "hub/sweeper.py", COMPOSITION_ROOT, *ERRANDS}
MAY_AWAIT = {"hub/ports.py", *DUTIES}
MAY_IMPORT_MORE = {"hub/logs.py", *DUTIES}
ARROWS = {"hub": {"hub"}, "handlers": {"hub", "handlers"}, "store": {"hub", "store"}, "worker": {"hub", "worker"}}
TIMELESS = {"hub/core.py", "hub/task.py", "hub/session.py", "hub/dispatcher.py", "hub/topics.py"}
CLOCKS_AND_DICE = {"time", "datetime", "random", "secrets", "os", "uuid", "asyncio"}
WORDS = {str(kind.__struct_config__.tag) for union in (
    messages.FromWorker, messages.ToWorker, messages.FromBrowser,
) for kind in get_args(union)} | set(messages.EVENT_TYPES)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every imported module by its full name, wherever in the file; `from a import b` counts as a.b."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def first(module: str) -> str:
    return module.partition(".")[0]


every_module = pytest.mark.parametrize("path", sources(*ROOMS), ids=name_of)
every_hub_module = pytest.mark.parametrize("path", sources("hub"), ids=name_of)


def test_there_is_something_to_look_at() -> None:
    assert {room for room in ROOMS if (ROOT / room / "__init__.py").is_file()} == set(ROOMS)
    assert {*MAY_AWAIT, *MAY_IMPORT_MORE, *TIMELESS, *DRIVEN} <= {name_of(path) for path in sources(*ROOMS)}


@every_module
def test_a_room_imports_only_along_the_arrows(path: Path) -> None:
    room = name_of(path).partition("/")[0]
    if name_of(path) == COMPOSITION_ROOT:
        assert {first(module) for module in imports(path)} >= set(ROOMS), "the one module that sees every room"
        return
    allowed = {"hub", "handlers", "store"} if name_of(path) in ERRANDS else ARROWS[room]
    foreign = {module for module in imports(path) if first(module) in set(ROOMS) - allowed}
    assert not foreign


@every_hub_module
def test_the_hub_needs_the_standard_library_and_message_types_only(path: Path) -> None:
    if name_of(path) not in MAY_IMPORT_MORE:
        allowed = {"hub", "msgspec", *sys.stdlib_module_names}
        assert {module for module in imports(path) if first(module) not in allowed} == set()


@pytest.mark.parametrize("path", sources("worker"), ids=name_of)
def test_a_worker_knows_of_the_hub_its_messages_alone(path: Path) -> None:
    known = [module for module in imports(path) if first(module) == "hub"]
    assert all(module == "hub.messages" or module.startswith("hub.messages.") for module in known)
    assert not {first(module) for module in imports(path)} & {"tornado", *DRIVERS}


@every_module
def test_two_files_alone_know_a_database_driver(path: Path) -> None:
    if name_of(path) not in DRIVEN:
        known = {first(module) for module in imports(path)} & DRIVERS
        assert known <= ({"bson"} if name_of(path) == ENCODES else set())


@pytest.mark.parametrize("path", sources("hub", "store"), ids=name_of)
def test_http_is_the_handlers_business(path: Path) -> None:
    if name_of(path) != COMPOSITION_ROOT:
        assert not {module for module in imports(path) if first(module) == "tornado"}


@every_hub_module
def test_no_decision_awaits(path: Path) -> None:
    if name_of(path) not in MAY_AWAIT:
        awaiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
        assert [node.lineno for node in ast.walk(parsed(path)) if isinstance(node, awaiting)] == []


@pytest.mark.parametrize("name", sorted(TIMELESS))
def test_the_core_reads_no_clock_and_rolls_no_dice(name: str) -> None:
    assert not {module for module in imports(ROOT / name) if first(module) in CLOCKS_AND_DICE}


@every_module
def test_the_words_of_the_wire_are_spelled_in_messages_alone(path: Path) -> None:
    if name_of(path) != "hub/messages.py":
        assert list(spelled(parsed(path))) == []


def spelled(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Where a message's or an event's type is a literal: built, published, passed as `type`, or compared with."""
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        match node:
            case ast.Dict(keys=keys, values=values):
                found = [value for key, value in zip(keys, values, strict=True) if constant(key) == "type"]
            case ast.Call(func=func, args=args, keywords=keywords):
                found = [keyword.value for keyword in keywords if keyword.arg in ("type", "tag")]
                if getattr(func, "id", getattr(func, "attr", "")) in ("Publish", "publish", "settle"):
                    found += args
            case ast.Compare(left=left, comparators=others) if any(says_type(side) for side in (left, *others)):
                found = [part for side in (left, *others) for part in getattr(side, "elts", [side])]
        yield from ((node.lineno, text) for part in found if (text := constant(part)) in WORDS)


def constant(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def says_type(node: ast.expr) -> bool:
    """Whether an expression reads something's type: x.type, x["type"] or x.get("type")."""
    match node:
        case ast.Attribute(attr="type"):
            return True
        case ast.Subscript(slice=key):
            return constant(key) == "type"
        case ast.Call(func=ast.Attribute(attr="get"), args=[key, *_]):
            return constant(key) == "type"
    return False


@pytest.mark.parametrize(("code", "words"), [
    ('Publish(task, "updated")', ["updated"]), ('send({"type": "welcome"})', ["welcome"]),
    ('f(type="offer")', ["offer"]), ('if event.type == "created": pass', ["created"]),
    ('if m["type"] in ("result", "failed"): pass', ["result", "failed"]),
    ('problem = {"type": "urn:x"}', []), ('Publish(task, UPDATED)', []), ('state == "failed"', []),
])
def test_the_search_for_spelled_words_finds_them(code: str, words: list[str]) -> None:
    assert [word for _, word in spelled(ast.parse(code))] == words


@pytest.mark.parametrize("path", sources(*ROOMS, "bench"), ids=name_of)
def test_a_module_says_what_it_is_about(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


@pytest.mark.parametrize("path", sources(*ROOMS, "bench", "tests"), ids=name_of)
def test_a_file_is_short(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= ALLOWED_LONGER.get(name_of(path), LONGEST)


def test_an_allowance_is_gone_when_it_is_not_needed() -> None:
    needed = {name for name in ALLOWED_LONGER if (ROOT / name).read_text(encoding="utf-8").count("\n") > LONGEST}
    assert needed == set(ALLOWED_LONGER)
