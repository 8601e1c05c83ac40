"""The command line: accounts and interface services, in a database of their own and beside a running hub."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hub.__main__ import cli
from hub.account import User
from hub.ids import new_id
from hub.interface import Interface, hash_token
from store.mongo import MongoStore, connect
from store.passwords import Passwords

from .process import hub_process

ROOT = Path(__file__).parents[2]
PASSWORD = "a sentence that works"


class Line:
    """The command line of one hub, and what it left in the database."""

    def __init__(self, mongo_uri: str, folder: Path) -> None:
        self.uri = mongo_uri
        self.name = f"errands_{new_id()}"
        self.environment = {
            "MONGODB_URI": mongo_uri, "DB_NAME": self.name, "DATA_DIR": str(folder), "LOG_LEVEL": "error",
            "INTERFACE_NETWORKS": "127.0.0.0/8", "HUB_PASSWORD": PASSWORD,
        }

    def __call__(self, *words: str, **environment: str) -> Result:
        return CliRunner().invoke(cli, words, env={**self.environment, **environment})

    def fine(self, *words: str, **environment: str) -> str:
        result = self(*words, **environment)
        assert result.exit_code == 0, result.output
        return result.output

    def refused(self, *words: str, **environment: str) -> str:
        """One line for people, no traceback."""
        result = self(*words, **environment)
        assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), result.output
        return result.output

    def ask(self, kind: type[Any], **equal: Any) -> Any:
        async def work() -> Any:
            client = connect(self.uri)
            try:
                return await MongoStore(client, self.name, "test").find(kind, **equal)
            finally:
                client.close()

        return asyncio.run(work())


@pytest.fixture
def line(mongo_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr("hub.logs.configure", lambda format, level: None)  # the tests' own logging stays
    made = Line(mongo_uri, tmp_path)
    yield made

    async def drop() -> None:
        client = connect(mongo_uri)
        await client.drop_database(made.name)
        client.close()

    asyncio.run(drop())


# --- accounts ---------------------------------------------------------------------------------------------------


def test_accounts(line: Line) -> None:
    assert line.fine("user", "add", "Ann@Example.org", "--name", "Ann") == "created Ann@Example.org\n"
    line.fine("user", "add", "bob@example.org", "--admin")
    assert "exists already" in line.refused("user", "add", "ann@example.org")
    listed = line.fine("user", "list")
    rows = [row.split()[:2] for row in listed.splitlines()]
    assert rows == [["ann@example.org", "user"], ["bob@example.org", "admin"]]
    assert "hash" not in listed and PASSWORD not in listed
    line.fine("user", "role", "ann@example.org", "admin")
    assert line.ask(User, email="ann@example.org").role == "admin"
    assert "no user" in line.refused("user", "role", "carl@example.org", "admin")
    line.refused("user", "role", "ann@example.org", "king")
    line.fine("user", "weight", "ann@example.org", "2")
    assert line.ask(User, email="ann@example.org").weight == 2 and "admin weight 2" in line.fine("user", "list")
    line.refused("user", "weight", "ann@example.org", "0")


def test_a_new_password_ends_all_sessions(line: Line) -> None:
    line.fine("user", "add", "ann@example.org")
    before = line.ask(User, email="ann@example.org")
    assert "new password" in line.fine("user", "password", "ANN@example.org", HUB_PASSWORD="another sentence")
    after = line.ask(User, email="ann@example.org")
    assert after.token_epoch == before.token_epoch + 1
    hashing = Passwords(cost=4)
    assert asyncio.run(hashing.matches("another sentence", after.password_hash))
    assert not asyncio.run(hashing.matches(PASSWORD, after.password_hash))
    hashing.close()
    assert "8 characters" in line.refused("user", "password", "ann@example.org", HUB_PASSWORD="short")


# --- interface services -----------------------------------------------------------------------------------------


def test_a_worker_gets_its_token_once(line: Line) -> None:
    token = line.fine("interface", "add", "box-1").strip()
    record = line.ask(Interface, id="box-1")
    assert (record.token_hash, record.dialect, record.address) == (hash_token(token), "worker", None)
    again = line.fine("interface", "rotate", "box-1").strip()
    assert line.ask(Interface, id="box-1").token_hash == hash_token(again) != record.token_hash
    assert again not in line.fine("interface", "list")
    assert "letters" in line.refused("interface", "add", "a b")


def test_services_that_are_called(line: Line) -> None:
    token, secret = line.fine("interface", "add", "p", "--push", "http://10.0.0.5:8000/hook", "--slots", "3").split()
    pushed = line.ask(Interface, id="p")
    assert secret.startswith("whsec_") and pushed.token_hash == hash_token(token)
    assert (pushed.address, pushed.path, pushed.slots) == ("http://10.0.0.5:8000", "/hook", 3)
    said = line.fine(
        "interface", "add", "s", "--seed", "http://127.0.0.1:8001", "--path", "/api/video/segment",
        "--model", "matting:Fine matting", "--model", "other", "--note", "by the window",
    )
    assert said == "registered s at http://127.0.0.1:8001/api/video/segment\n"
    seed = line.ask(Interface, id="s")
    assert (seed.dialect, seed.models, seed.note) == ("seed", ("matting:Fine matting", "other"), "by the window")
    assert "s  enabled  seed  http://127.0.0.1:8001/api/video/segment" in line.fine("interface", "list")
    assert "no token" in line.refused("interface", "rotate", "s")
    assert "no usual address" in line.refused("interface", "add", "t", "--seed", "http://127.1")
    assert "one" in line.refused("interface", "add", "t", "--seed", "http://10.0.0.1", "--push", "http://10.0.0.1")
    assert "path" in line.refused("interface", "add", "t", "--seed", "http://10.0.0.1", "--path", "process")


def test_an_address_keeps_its_path_where_the_path_is_given_beside_it(line: Line) -> None:
    for name in ("gpu1", "gpu2"):
        said = line.fine("interface", "add", name, "--seed", f"http://gw.example.org/{name}", "--path", "/process")
        assert said == f"registered {name} at http://gw.example.org/{name}/process\n"
        assert line.ask(Interface, id=name).address == f"http://gw.example.org/{name}"


def test_an_address_that_another_has_is_refused_by_the_name_of_the_other(line: Line) -> None:
    line.fine("interface", "add", "first", "--seed", "http://10.0.0.6:8000")
    line.fine("interface", "add", "second", "--seed", "http://10.0.0.7:8000")
    for name in ("second", "third"):
        assert "first has the address http://10.0.0.6:8000" in line.refused(
            "interface", "add", name, "--seed", "http://10.0.0.6:8000",
        )
    assert line.ask(Interface, id="second").address == "http://10.0.0.7:8000"
    line.fine("interface", "add", "first", "--seed", "http://10.0.0.6:8000", "--slots", "2")


def test_pause_resume_drain_remove(line: Line) -> None:
    line.fine("interface", "add", "box-1")
    for command, state in (("pause", "paused"), ("resume", "enabled"), ("drain", "draining"), ("resume", "enabled")):
        line.fine("interface", command, "box-1")
        assert line.fine("interface", "list").split()[:2] == ["box-1", state]
    line.fine("interface", "remove", "box-1")
    assert line.fine("interface", "list") == ""
    for command in ("pause", "resume", "drain", "rotate", "remove"):
        assert "no interface service" in line.refused("interface", command, "box-1")


def test_many_services_out_of_a_file(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "services.json"
    entries: list[dict[str, Any]] = [
        {"interfaceAddress": "http://10.0.0.5:8000/", "models": [{"name": "a", "alias": "Model A"}, "b"], "slots": 2},
        {"address": "http://10.0.0.6:8000", "name": "six", "path": "/api/video/segment", "note": "new", "other": 1},
    ]
    file.write_text(json.dumps({"interfaces": entries}))
    assert line.fine("interface", "import", str(file)) == "added 10-0-0-5-8000\nadded six\n"
    first, six = line.ask(Interface, id="10-0-0-5-8000"), line.ask(Interface, id="six")
    assert (first.dialect, first.models, first.slots) == ("seed", ("a:Model A", "b"), 2)
    assert (six.path, six.note, six.pending) == ("/api/video/segment", "new", False)
    file.write_text(json.dumps([{"address": "http://10.0.0.6:8000", "slots": 5}]))
    assert line.fine("interface", "import", str(file)) == "changed six\n"
    assert (line.ask(Interface, id="six").slots, line.ask(Interface, id="six").note) == (5, "new")


def test_an_address_in_a_file_is_read_as_on_the_command_line(line: Line, tmp_path: Path) -> None:
    entries = [
        {"address": "http://10.0.0.5:8000/api/video/segment"},
        {"address": "http://gw.example.org/gpu1", "path": "/process"},
        {"address": "http://gw.example.org/gpu2", "path": "/process"},
    ]
    assert imported(line, tmp_path, entries).splitlines() == [
        "added 10-0-0-5-8000", "added gw-example-org-gpu1", "added gw-example-org-gpu2",
    ]
    listed = line.fine("interface", "list")
    for place in ("10.0.0.5:8000/api/video/segment", "gw.example.org/gpu1/process", "gw.example.org/gpu2/process"):
        assert f"  http://{place}  " in listed


def test_two_services_of_one_long_host_are_two(line: Line, tmp_path: Path) -> None:
    host = "http://ec2-203-0-113-125.ap-northeast-1.compute.amazonaws.com"
    entries = [{"address": f"{host}:8000", "models": ["a"]}, {"address": f"{host}:8001", "models": ["b"]}]
    for word in ("added", "changed"):
        assert [row.split()[0] for row in imported(line, tmp_path, entries).splitlines()] == [word, word]
    for entry in entries:
        assert line.ask(Interface, address=entry["address"]).models == tuple(entry["models"])


def test_a_file_does_not_take_over_a_service_of_another_dialect(line: Line, tmp_path: Path) -> None:
    line.fine("interface", "add", "by-itself")
    line.fine("interface", "add", "pushed", "--push", "http://10.0.0.5:8000/hub")
    fine = {"address": "http://10.0.0.9:8000", "name": "fine"}
    for other in ({"address": "http://10.0.0.6:8000", "name": "by-itself"}, {"address": "http://10.0.0.5:8000"}):
        assert "another dialect" in imported(line, tmp_path, [fine, other], refused=True)
    assert [line.ask(Interface, id=name).dialect for name in ("by-itself", "pushed")] == ["worker", "push"]
    assert line.ask(Interface, id="fine") is None


@pytest.mark.parametrize("entries", [
    [{"address": "http://10.0.0.5", "name": "a"}, {"address": "http://10.0.0.6", "name": "a"}],
    [{"address": "http://10.0.0.5/one"}, {"address": "http://10.0.0.5/two"}],
])
def test_a_file_that_names_a_service_twice_changes_nothing(
    line: Line, tmp_path: Path, entries: list[dict[str, Any]],
) -> None:
    assert "twice" in imported(line, tmp_path, entries, refused=True)
    assert line.fine("interface", "list") == ""


def imported(line: Line, folder: Path, entries: list[dict[str, Any]], refused: bool = False) -> str:
    """What is said of a file with these entries."""
    file = folder / "services.json"
    file.write_text(json.dumps(entries))
    return (line.refused if refused else line.fine)("interface", "import", str(file))


@pytest.mark.parametrize("content", [
    "{", "[]]", "1", '{"a": 1}', "[1]", '[{"name": "x"}]', '[{"address": "file:///x"}]',
    '[{"address": "http://0x7f.1"}]',
    '[{"address": "http://10.0.0.1", "slots": "2"}]', '[{"address": "http://10.0.0.1", "slots": true}]',
    '[{"address": "http://10.0.0.1", "slots": 0}]', '[{"address": "http://10.0.0.1", "models": ["a b"]}]',
    '[{"address": "http://10.0.0.1", "name": "a b"}]', "[" * 100_000,
])
def test_a_file_that_makes_no_sense_changes_nothing(line: Line, tmp_path: Path, content: str) -> None:
    file = tmp_path / "services.json"
    file.write_text(content)
    assert "makes no sense" in line.refused("interface", "import", str(file))
    assert line.fine("interface", "list") == ""


# --- beside a running hub ---------------------------------------------------------------------------------------


async def test_beside_a_running_hub_with_its_own_database(tmp_path: Path) -> None:
    """Real processes: the errands share the hub's embedded database, and the hub notices within seconds."""
    async with hub_process(tmp_path, HUB_PASSWORD=PASSWORD) as hub:

        async def run(*words: str) -> str:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hub", *words, cwd=ROOT, env=hub.environment, stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0
            return output.decode()

        async def ask(path: str, token: str = "", body: dict[str, Any] | None = None) -> Any:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            data = None
            if body is not None:
                headers["Content-Type"], data = "application/json", json.dumps(body).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{hub.port}{path}", data, headers)

            def fetch() -> Any:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)

            return await asyncio.to_thread(fetch)

        await run("user", "add", "ann@example.org", "--admin")
        await run("interface", "add", "box-1", "--note", "beside")
        login = await ask("/api/auth/login", body={"email": "ann@example.org", "password": PASSWORD})
        async with asyncio.timeout(20):
            while not (items := (await ask("/api/admin/interfaces", login["token"]))["items"]):
                await asyncio.sleep(0.1)  # another process: there is nothing to wait on but its answer
        assert [(item["name"], item["state"], item["note"]) for item in items] == [("box-1", "offline", "beside")]
