"""How well each model finds what it says it finds; truth is made by mixing pictures with a known alpha."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.worker.reference_media import (
    MEDIA, PORTRAIT, WEBCAM, Image, bgr, overlap, pictures, quarters, read, write,
)
from worker.reference import MODELS, BadInput, replace_background
from worker.reference.chroma import ChromaKey
from worker.reference.classical import GrabCut, StillCamera, grown, has_both, head_and_shoulders
from worker.reference.composite import cover, plain, read_picture
from worker.reference.models import Segmenter, find_model
from worker.reference.neural import Selfie, span
from worker.reference.options import GREEN, Options
from worker.reference.picture import Alpha, Picture, picture
from worker.reference.refine import Refiner, follow_edges

pytestmark = pytest.mark.media

Truth = list[tuple[Picture, Alpha]]


def before(clip: Path, every: int, limit: int, background: Callable[[int, int], Image]) -> Truth:
    """A clip's person before another background, and the alpha that put them there: it is the truth."""
    find, refine = Selfie.general(), Refiner(0.3, 0.8)
    made = []
    for shown in pictures(clip, every, limit):
        alpha = refine(find(shown), shown)
        behind = background(shown.width, shown.height)
        mixed = bgr(shown) * alpha[..., None] + behind * (1 - alpha[..., None])
        made.append((planar(mixed.astype(np.uint8)), alpha))
    return made


def planar(image: Image) -> Picture:
    return picture(av.VideoFrame.from_ndarray(image, format="bgr24"), image.shape[1], image.shape[0])


def scores(model: Segmenter, refine: Refiner, truth: Truth) -> list[float]:
    return [overlap(refine(model(shown), shown), alpha) for shown, alpha in truth]


def rocket(width: int, height: int) -> Image:
    return cover(read_picture(MEDIA / "bg-rocket.jpg"), width, height)


def green(width: int, height: int) -> Image:
    return plain(GREEN, width, height)


@pytest.mark.parametrize("clip, every", [(WEBCAM, 8), (PORTRAIT, 50)], ids=["webcam", "portrait"])
@pytest.mark.parametrize("make, gate", [(Selfie.general, 0.95), (Selfie.landscape, 0.93)], ids=["general", "landscape"])
def test_selfie_finds_people_near_the_camera(
    clip: Path, every: int, make: Callable[[], Selfie], gate: float
) -> None:
    found = scores(make(), Refiner(0.3, 0.8), before(clip, every, 8, rocket))
    assert np.mean(found) >= gate, found


@pytest.mark.parametrize("clip, every", [(WEBCAM, 8), (PORTRAIT, 50)], ids=["webcam", "portrait"])
def test_chroma_key_finds_what_stands_before_green(clip: Path, every: int) -> None:
    truth = before(clip, every, 8, green)
    key = ChromaKey(None, iter([shown for shown, _ in truth]))
    found = scores(key, Refiner(), truth)
    assert np.mean(found) >= 0.97, found


def test_grabcut_finds_a_centred_portrait() -> None:
    found = scores(GrabCut(), Refiner(), before(WEBCAM, 12, 5, rocket))
    assert np.mean(found) >= 0.90, found


def test_grabcut_survives_pictures_that_are_all_one_thing() -> None:
    for image in (quarters(2, 2), np.full((90, 160, 3), 90, np.uint8), rocket(160, 90)):
        model = GrabCut()
        for _ in range(3):
            mask = model(planar(image))
            assert 0 <= mask.min() <= mask.max() <= 1


def test_grabcut_starts_again_after_a_face_that_filled_the_picture() -> None:
    prior = head_and_shoulders(160, 90)
    assert has_both(prior)
    assert not has_both(grown(np.ones((90, 160), np.uint8), prior))


def test_still_camera_finds_what_moves() -> None:
    rng = np.random.default_rng(1)
    scene = cv2.resize(rng.integers(0, 255, (9, 16, 3), np.uint8), (320, 180), interpolation=cv2.INTER_CUBIC)
    truth: Truth = []
    for step in range(40):
        alpha = np.zeros((180, 320), np.float32)
        cv2.circle(alpha, (40 + step * 6, 90), 30, 1.0, -1)
        mixed = np.where(alpha[..., None] > 0, np.array([20, 240, 240], np.uint8), scene)
        truth.append((planar(mixed.astype(np.uint8)), alpha))
    found = scores(StillCamera(iter([shown for shown, _ in truth])), Refiner(), truth)
    assert np.mean(found) >= 0.90, found


def test_selfie_looks_closer_at_small_people() -> None:
    """A person a quarter as wide as the picture: the closer look keeps what the first one blurs or loses."""
    webcam = pictures(WEBCAM, 1, 12)
    find = Selfie.general()
    alpha = Refiner(0.3, 0.8)(find(webcam[0]), webcam[0])
    behind = rocket(640, 360)
    truth = np.zeros((360, 640), np.float32)
    truth[270:360, 400:560] = cv2.resize(alpha, (160, 90), interpolation=cv2.INTER_AREA)
    small = np.zeros((360, 640, 3), np.uint8)
    small[270:360, 400:560] = cv2.resize(bgr(webcam[0]), (160, 90), interpolation=cv2.INTER_AREA)
    shown = planar((small * truth[..., None] + behind * (1 - truth[..., None])).astype(np.uint8))
    model = Selfie.general()
    masks = [model(shown) for _ in range(3)]
    assert overlap(np.clip((masks[-1] - 0.3) / 0.5, 0, 1), truth) >= 0.85


def test_selfie_finds_nobody_where_nobody_is() -> None:
    model = Selfie.general()
    empty = planar(rocket(640, 360))
    for _ in range(3):
        assert (model(empty) > 0.5).mean() < 0.02


def test_chroma_key_refuses_a_video_without_a_screen() -> None:
    with pytest.raises(BadInput) as refused:
        ChromaKey(None, iter(pictures(WEBCAM, 10, 4)))
    assert refused.value.code == "no_screen"


def test_chroma_key_waits_for_a_fade_in(tmp_path: Path) -> None:
    black, screen = np.zeros((96, 128, 3), np.uint8), plain(GREEN, 128, 96)
    video = write(tmp_path / "fade.mp4", [black] * 5 + [screen] * 5)
    told: list[float] = []
    replace_background(
        video, None, tmp_path / "out.mp4", "chroma-key", {"color": "#ffffff"},
        lambda phase, percent, frames: told.append(percent), lambda: False,
    )
    shown = read(tmp_path / "out.mp4").pictures
    assert shown[-1].mean() > 240 and shown[0].mean() < 40
    assert told == sorted(told) and told[-1] == 100


def test_edges_follow_the_picture() -> None:
    """A mask that is eight times too coarse comes back with the picture's own edge."""
    luma = np.full((256, 256), 40, np.uint8)
    luma[:, 131:] = 220
    coarse = np.zeros((32, 32), np.float32)
    coarse[:, 16:] = 1
    edge = follow_edges(cv2.resize(coarse, (128, 128)), luma) > 0.5
    assert np.abs(edge.argmax(axis=1) - 131).max() <= 2


def test_noise_is_damped_and_movement_is_not() -> None:
    flat = planar(np.full((64, 64, 3), 128, np.uint8))
    refine = Refiner()
    refine(np.full((64, 64), 0.5, np.float32), flat)
    trembling = refine(np.full((64, 64), 0.6, np.float32), flat)
    assert 0.5 < trembling.mean() < 0.6
    moved = refine(np.ones((64, 64), np.float32), flat)
    assert moved.mean() == 1


@pytest.mark.parametrize("middle, length, limit", [(5, 40, 100), (95, 40, 100), (50, 300, 101), (50.7, 3.3, 100)])
def test_a_closer_look_stays_inside(middle: float, length: float, limit: int) -> None:
    start, end = span(middle, length, limit)
    assert 0 <= start < end <= limit
    assert start % 2 == end % 2 == 0


def test_every_offered_model_can_be_made() -> None:
    assert MODELS[0].name == "mediapipe-selfie"
    still = pictures(WEBCAM, 30, 2)
    for model in MODELS:
        assert model.description and model.alias
        made = find_model(model.name).make(Options(key_color=GREEN), iter(still))
        mask = made(still[0])
        assert mask.dtype == np.float32 and 0 <= mask.min() <= mask.max() <= 1


def test_weights_are_the_ones_that_the_notice_names() -> None:
    weights = Path(__file__).parents[2] / "worker" / "weights"
    notice = (weights / "NOTICE").read_text()
    found = sorted(weights.glob("*.tflite"))
    assert len(found) == 2
    for file in found:
        assert file.name in notice and sha256(file.read_bytes()).hexdigest() in notice
