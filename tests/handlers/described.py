"""Holds the hub's answers against what /openapi.json says of them: every answer that a test of the edges gets.

Stricter than a client should be: a field that the description does not name is a mistake too.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, FormatChecker

if TYPE_CHECKING:
    from tests.handlers.running import Answer

ANY_TIME = {  # what can become of any request, and stands under `default`
    "bad_request", "bad_query", "too_large", "unsupported_media_type", "bad_host", "headers_too_large", "internal",
    "unavailable",
}
NAMED = (
    "ETag", "Location", "Retry-After", "WWW-Authenticate", "Upload-Offset", "Upload-Expires", "Idempotency-Replayed",
    "Content-Range", "Content-Disposition", "Repr-Digest", "Last-Modified",
)
Json = dict[str, Any]


class Described:
    """A description of the hub. `document` is as it is told, `strict` allows no field that is not named."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.strict = closed(copy.deepcopy(document))
        fewest_names_first = sorted(document["paths"], key=lambda path: path.count("{"))
        self.forms = {path: form_of(path, document["paths"][path]) for path in fewest_names_first}

    def path(self, asked: str) -> str | None:
        """The path of the description that a request for `asked` goes to."""
        return next((path for path, form in self.forms.items() if form.fullmatch(asked.partition("?")[0])), None)

    def check(self, method: str, asked: str, answer: Answer) -> None:
        """Check status, headers and body of an answer; what is not described must be refused."""
        path = self.path(asked)
        operation = self.strict["paths"][path].get(method.lower()) if path is not None else None
        if operation is None:
            assert answer.status >= 400, f"{method} {asked} is not described"
            return
        where = f"{method} {path}: {answer.status}"
        told = operation["responses"].get(str(answer.status))
        if told is None:
            assert answer.status >= 400 and (not answer.body or answer.json["code"] in ANY_TIME), (where, answer.body)
            told = self.strict["components"]["responses"][operation["responses"]["default"]["$ref"].split("/")[-1]]
        headers = {name for name in NAMED if name.lower() in answer.headers}
        if str(answer.status) in operation["responses"]:
            assert headers <= told.get("headers", {}).keys(), (where, headers)
        if answer.body:
            kind = answer.headers["content-type"].partition(";")[0]
            assert {kind, "*/*"} & told.get("content", {}).keys() or answer.status == 206, (where, kind)
            if kind.endswith("json"):
                self.check_value(answer.json, told["content"][kind]["schema"], where)

    def check_value(self, value: Any, schema: Json, where: str = "") -> None:
        """Check a value against a schema of the description."""
        whole = {**schema, "components": self.strict["components"]}
        wrong = [
            f"{error.json_path}: {error.message[:300]}"
            for error in Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)
        ]
        assert not wrong, (where, wrong)


def form_of(path: str, item: Json) -> re.Pattern[str]:
    """What requests to a path look like."""
    forms = {each["name"]: each["schema"].get("pattern", "[^/]+").strip("^$") for each in item.get("parameters", [])}
    parts = re.split(r"\{(\w+)\}", path)
    return re.compile("".join(forms[part] if at % 2 else re.escape(part) for at, part in enumerate(parts)))


def closed(node: Any) -> Any:
    """The same with objects that have no other fields than those that are named."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            node.setdefault("additionalProperties", False)
        for value in node.values():
            closed(value)
    elif isinstance(node, list):
        for value in node:
            closed(value)
    return node


def codes(operation: Json) -> set[tuple[str, str]]:
    """The status and code of each problem that an operation lists."""
    return {
        (status, code) for status, answer in operation["responses"].items()
        for body in answer.get("content", {}).values()
        for code in body["schema"].get("properties", {}).get("code", {}).get("enum", ())
    }
