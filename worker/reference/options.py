"""What a user may ask for beyond the model, and what is taken when nothing is asked.

Owns names, defaults and checks of options; never does what they ask for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.errors import BadInput

Color = tuple[int, int, int]  # red, green, blue, 0..255

OPTIONS: dict[str, str] = {
    "color": 'Background where no picture is given, as "#rrggbb"; "#00b140", the green of film studios, by default.',
    "key_color": 'chroma-key only: the colour to replace, as "#rrggbb"; by default what the picture\'s edge shows.',
}
GREEN: Color = (0x00, 0xB1, 0x40)


@dataclass(frozen=True, slots=True)
class Options:
    """Checked options; colours are (red, green, blue)."""

    color: Color = GREEN
    key_color: Color | None = None


def parse_options(options: Mapping[str, Any]) -> Options:
    """The options as values; None stands for the default.

    Raises:
        BadInput: `bad_option`, an unknown name or a value that makes no sense.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise BadInput("bad_option", f"unknown option {unknown[0]!r}; there are: {', '.join(OPTIONS)}")
    given = {name: _color(name, value) for name, value in options.items() if value is not None}
    return Options(**given)


def _color(name: str, value: object) -> Color:
    if not isinstance(value, str) or re.fullmatch(r"#[0-9a-fA-F]{6}", value) is None:
        raise BadInput("bad_option", f'{name} must look like "#00b140", not {value!r:.40}')
    number = int(value[1:], 16)
    return number >> 16, number >> 8 & 0xFF, number & 0xFF
