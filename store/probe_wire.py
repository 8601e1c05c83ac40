"""The words that the hub and its probing child share: what to look at, and why a file is refused.

Owns the refusal codes of the probe. Imports nothing but the standard library, so that neither side drags in the other's
tools.
"""

from __future__ import annotations

from dataclasses import dataclass

REFUSALS = {
    "not_video": "no video in it that can be decoded: text, zeros, a picture, damage, a list of other files",
    "not_picture": "no still picture in it that can be decoded",
    "no_video_stream": "a media file with sound or subtitles only",
    "unsupported_format": "a real media file, but of a format or codec that is not taken here",
    "heic": "a HEIC picture, as phones take them",
    "svg": "an SVG drawing: a program more than a picture",
    "no_frames": "a film whose picture track is empty",
    "animated": "a moving picture (GIF, APNG, animated WebP), which is neither a background nor a film",
    "truncated": "the end is missing",
    "too_many_pixels": "larger than the limit, seen before any decoding",
    "too_many_frames": "more pictures than the limit",
    "probe_timeout": "looking into it took longer than the limit",
    "probe_memory": "looking into it took more memory than the limit",
    "probe_crashed": "the child that looked into it died or answered nonsense",
}
OUT_OF_MEMORY = 11  # exit status of a child whose memory limit was reached
CRASHED = 12  # exit status of a child that failed in any other way
MAX_ANSWER = 1 << 20  # bytes that a child may answer: one line of JSON, then the JPEGs whose `sizes` it names


class Refused(Exception):
    """The file is not what was asked for; `code` is one of REFUSALS, `detail` a sentence for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Job:
    """What one child may look for and use up.

    `purpose` is a hub.media.Purpose, `every_frame` asks to decode and count all of them, `wall_s` and `cpu_s` are
    seconds, `memory` bytes of address space, `size` the file's bytes.
    """

    purpose: str
    size: int
    every_frame: bool
    max_pixels: int
    max_frames: int
    wall_s: float
    cpu_s: int
    memory: int
