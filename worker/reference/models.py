"""The models that this service offers, and how to make one.

Owns names and descriptions; the models themselves live in neural, chroma and classical. A model that was made keeps
what it remembers of one video, so each call makes its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hub.messages import Model
from worker.errors import BadInput

from .chroma import ChromaKey
from .classical import GrabCut, StillCamera
from .neural import Selfie
from .options import Options
from .picture import Alpha, Picture
from .refine import Refiner


class Segmenter(Protocol):
    """Says for each pixel how sure it is that it belongs to the foreground."""

    def __call__(self, picture: Picture) -> Alpha:
        """The mask, 0..1, (height, width) of its own choice, for the next picture of the video."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One model: what users read, how it is made (second argument: the video's pictures, for a look ahead)."""

    model: Model
    make: Callable[[Options, Iterator[Picture]], Segmenter]
    refiner: Callable[[], Refiner] = Refiner


ENTRIES = (
    Entry(
        Model(
            name="mediapipe-selfie",
            alias="Person, best edges / 人像（边缘最佳）",
            description="People near the camera: calls, talks, portraits; also finds whole bodies that fill less of "
            "the picture, one group of them. The right choice when in doubt. / "
            "适合离镜头较近的人物：视频通话、演讲、人像；也能处理较远的全身人物。不确定时请选它。",
        ),
        lambda options, pictures: Selfie.general(),
        lambda: Refiner(0.3, 0.8),
    ),
    Entry(
        Model(
            name="mediapipe-selfie-landscape",
            alias="Person, fast / 人像（快速）",
            description="The faster sibling, for webcams and landscape video of people near the camera; edges are a "
            "little softer, distant people may lose parts. / 速度更快，"
            "适合摄像头和横向的近景人物；边缘稍软，较远的人物可能缺失。",
        ),
        lambda options, pictures: Selfie.landscape(),
        lambda: Refiner(0.3, 0.8),
    ),
    Entry(
        Model(
            name="chroma-key",
            alias="Green screen / 绿幕",
            description="Anything before an evenly lit screen of one strong colour (green, blue). Finds the colour at "
            "the picture's edge. Useless without such a screen. / "
            "适合纯色幕布（绿幕、蓝幕）前的任何物体。自动从画面边缘取色。没有幕布时不可用。",
        ),
        lambda options, pictures: ChromaKey(options.key_color, pictures),
    ),
    Entry(
        Model(
            name="grabcut",
            alias="Centred portrait, no network / 居中人像（无神经网络）",
            description="One person, head and shoulders, in the middle of the picture, clothes unlike the wall. "
            "Uses no trained weights; rougher than mediapipe-selfie, and lost on anything else. / "
            "单人头肩像，位于画面中央，且与背景颜色不同。不使用训练权重，边缘较粗糙。",
        ),
        lambda options, pictures: GrabCut(),
    ),
    Entry(
        Model(
            name="still-camera",
            alias="Still camera, moving things / 固定机位",
            description="Whatever moves before a camera that does not: walkers, traffic, sport. Reads the video twice. "
            "What stands still becomes background, people who sit included. / "
            "固定机位下的移动物体：行人、车辆、运动。会读取视频两遍。静止不动的人会被当作背景。",
        ),
        lambda options, pictures: StillCamera(pictures),
    ),
)
BY_NAME = {entry.model.name: entry for entry in ENTRIES}
MODELS = [entry.model for entry in ENTRIES]


def find_model(name: str) -> Entry:
    """The entry of that name.

    Raises:
        BadInput: `unknown_model`.
    """
    if name not in BY_NAME:
        raise BadInput("unknown_model", f"there is no model {name!r:.80}; there are: {', '.join(BY_NAME)}")
    return BY_NAME[name]
