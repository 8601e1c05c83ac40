"""One file out of a multipart/form-data body (RFC 7578), as it streams by."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hub.errors import Invalid, TooLarge

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a stranger's broken form is no reason to warn

MAX_PARTS = 20
MAX_FIELD = 8 * 1024
MAX_OUTSIDE = 256 * 1024  # bytes of the body that belong to no part


@dataclass(slots=True)
class Part:
    """One part: `filename` is None where it is a plain field."""

    name: str = ""
    filename: str | None = None
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """What the form said about its file, and in which field it was."""

    field: str
    filename: str
    content_type: str


class FormReader:
    """Yields the bytes of the one file part that is named as one of `file_names`; keeps the small fields."""

    def __init__(self, content_type: str, file_names: tuple[str, ...]) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:
            raise Invalid("the content type names no boundary", code="bad_multipart")
        self.file_names = file_names
        self.fields: dict[str, str] = {}
        self.file: File | None = None
        self.parts = 0
        self.outside = 0
        self.ended = False
        self.part = Part()
        self.header_name = self.header_value = b""
        self.field = bytearray()
        self.pieces: list[bytes] = []
        self.parser = MultipartParser(boundary, {
            "on_part_begin": self.part_began, "on_part_data": self.part_came, "on_part_end": self.part_ended,
            "on_header_field": self.header_name_came, "on_header_value": self.header_value_came,
            "on_header_end": self.header_ended, "on_headers_finished": self.headers_ended, "on_end": self.form_ended,
        }, max_header_size=1 << 20)  # ours is stricter, and says what is wrong

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the body; returns those of the file.

        Raises:
            Invalid: the form is broken, or has a second file.
            TooLarge: too many parts, or far too much around the file.
        """
        self.pieces = []
        inside = self.parts
        try:
            self.parser.write(chunk)
        except FormParserError as error:
            raise Invalid(f"the form is broken: {str(error)[:200]}", code="bad_multipart") from None
        if self.ended or self.parts == inside == 0:
            self.outside += len(chunk)
        if self.outside > MAX_OUTSIDE + len(chunk):
            raise Invalid("too much before or after the parts of the form", code="bad_multipart")
        return b"".join(self.pieces)

    def close(self) -> File:
        """The body is over: what the form said about its file.

        Raises:
            Invalid: the form was not closed, or had no file.
        """
        if not self.ended:
            raise Invalid("the form ends before its last boundary", code="bad_multipart")
        if self.file is None:
            raise Invalid(f"the form has no file in a field named {' or '.join(self.file_names)}")
        return self.file

    # --- what the parser finds ----------------------------------------------------------------------------------

    def part_began(self) -> None:
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise TooLarge(f"a form has at most {MAX_PARTS} parts")
        self.part = Part()
        self.field.clear()

    def header_name_came(self, data: bytes, start: int, end: int) -> None:
        self.header_name += data[start:end]
        self.check_header()

    def header_value_came(self, data: bytes, start: int, end: int) -> None:
        self.header_value += data[start:end]
        self.check_header()

    def check_header(self) -> None:
        if len(self.header_name) + len(self.header_value) > MAX_FIELD:
            raise Invalid("a part's header is too long", code="headers_too_large")

    def header_ended(self) -> None:
        name, value = self.header_name.lower(), self.header_value
        self.header_name = self.header_value = b""
        if name == b"content-disposition":
            _, options = parse_options_header(value)
            self.part.name = text(options.get(b"name", b""))
            self.part.filename = text(options[b"filename"]) if b"filename" in options else None
        elif name == b"content-type":
            self.part.content_type = text(value)[:100]

    def headers_ended(self) -> None:
        if self.part.filename is not None and self.part.name in self.file_names:
            if self.file is not None:
                raise Invalid("send one file in a form, not two")
            self.file = File(self.part.name, self.part.filename, self.part.content_type)

    def part_came(self, data: bytes, start: int, end: int) -> None:
        if self.part.filename is not None:
            if self.part.name in self.file_names:
                self.pieces.append(data[start:end])
            return
        self.field += data[start:end]
        if len(self.field) > MAX_FIELD:
            raise TooLarge(f"the form field {self.part.name[:50]!r} is longer than {MAX_FIELD} bytes")

    def part_ended(self) -> None:
        if self.part.filename is None and self.part.name:
            self.fields[self.part.name] = text(bytes(self.field))

    def form_ended(self) -> None:
        self.ended = True


def text(raw: bytes) -> str:
    """Text as browsers send it; what is not UTF-8 is shown as such, not refused."""
    return raw.decode("utf-8", "replace")
