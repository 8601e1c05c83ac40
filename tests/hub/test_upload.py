"""The decisions about uploads, with the time given: what may begin, go on, let go, expire and end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.effects import Delete, Save
from hub.errors import Conflict, DiskFull, Forbidden, HubError, Invalid, MediaRefused, NotFound, RateLimited, TooLarge
from hub.media import Media, Purpose
from hub.task import Problem
from hub.upload import (
    REMEMBERED_S, Limits, State, Upload, Uploads, Usage, check_offset, check_open, check_size, gives_way, put_together,
    stored,
)

DAY = 24 * 3600.0
DISK = (10_000, 10_000)  # all of it, free


def upload(id: str = "u1", length: int | None = 1000, **fields: Any) -> Upload:
    return Upload(**{
        "id": id, "owner": "ann", "purpose": Purpose.VIDEO, "ceiling": 5000, "created_at": 0.0, "length": length,
        **fields,
    })


def book(size: int = 5000, files: int = 10, uploads: int = 3) -> Uploads:
    return Uploads(Limits(size, files, uploads, DAY))


def begin(uploads: Uploads, new: Upload, have: Usage = Usage(), free: int = 10_000) -> Upload:
    """Claim and settle, as the edges do."""
    others = uploads.claim(new, 0.0)
    try:
        return uploads.settle(new, others + have, 10_000, free)
    except HubError:
        uploads.release(new.id)
        raise


def media(id: str = "u1") -> Media:
    return Media(id, "ann", Purpose.VIDEO, "v", "video/mp4", 1000, "0" * 64, "0" * 32, None, 0.0)


def refused(code: str, kind: type[HubError], decide: Any, *arguments: Any) -> None:
    with pytest.raises(kind) as caught:
        decide(*arguments)
    assert caught.value.code == code


# --- beginning --------------------------------------------------------------------------------------------------


def test_what_is_declared_is_reserved_until_it_ends() -> None:
    uploads = book()
    begin(uploads, upload("u1", 1000))
    begin(uploads, upload("u2", 3000))
    assert uploads.reserved("ann") == Usage(4000, 2) and uploads.reserved("bob") == Usage()
    refused("quota", TooLarge, begin, uploads, upload("u3", 1001))
    uploads.release("u2")
    assert begin(uploads, upload("u3", 1001)).length == 1001


def test_what_is_stored_counts_with_what_is_reserved() -> None:
    uploads = book()
    refused("quota", TooLarge, begin, uploads, upload(length=1000), Usage(4001, 1))
    refused("quota", TooLarge, begin, uploads, upload(length=1), Usage(0, 10))
    assert uploads.reserved("ann") == Usage()
    assert begin(uploads, upload(length=1000), Usage(4000, 9))


def test_row_86_there_are_only_so_many_at_once() -> None:
    uploads = book(size=10**9)
    for number in range(3):
        begin(uploads, upload(f"u{number}", 1))
    refused("too_many_uploads", RateLimited, begin, uploads, upload("u9", 1))
    assert begin(uploads, upload("u9", 1, owner="bob"))


@pytest.mark.parametrize(("purpose", "algorithms"), [
    (Purpose.VIDEO, ("sha256", "md5")), (Purpose.BACKGROUND, ("sha256", "md5")), (Purpose.RESULT, ("sha256",)),
    (Purpose.PREVIEW, ("sha256",)), (None, ()),
])
def test_only_what_is_asked_for_by_md5_is_hashed_with_it(purpose: Purpose | None, algorithms: tuple[str, ...]) -> None:
    assert upload(purpose=purpose).algorithms == algorithms


def test_an_open_length_reserves_what_may_come_and_no_more_than_is_left() -> None:
    uploads = book()
    assert begin(uploads, upload("u1", None), Usage(1000, 1)).ceiling == 4000
    assert uploads.reserved("ann") == Usage(4000, 1)
    refused("quota", TooLarge, begin, uploads, upload("u2", None), Usage(1000, 1))


def test_p14_promised_bytes_are_kept_free_on_the_disk() -> None:
    """P14: what others were promised, less what has come of it, cannot be promised again."""
    uploads = book()
    begin(uploads, upload("u1", 3000), free=5000)
    refused("disk_full", DiskFull, begin, uploads, upload("u2", 1900, owner="bob"), Usage(), 5000)
    uploads.arrived("u1", 2000, 1.0)
    assert begin(uploads, upload("u2", 1700, owner="bob"), free=3000)
    refused("disk_full", DiskFull, begin, uploads, upload("u3", 101, owner="bob"), Usage(), 3000)


def test_p14_a_part_of_the_disk_is_never_promised() -> None:
    uploads = book()
    refused("disk_full", DiskFull, begin, uploads, upload(length=1000), Usage(), 1199)
    assert begin(uploads, upload(length=1000), free=1200)


def test_what_workers_send_is_not_their_users_to_pay() -> None:
    uploads = book(size=10, uploads=1)
    begin(uploads, upload("u1", 1000, task_id="t", lease="l"))
    begin(uploads, upload("u2", 1000, task_id="t", lease="l"))
    assert uploads.reserved("ann") == Usage() and begin(uploads, upload("u3", 10))


@given(st.lists(st.tuples(st.integers(1, 2000), st.booleans()), max_size=30))
def test_p14_no_order_of_beginnings_and_ends_exceeds_the_quota(days: list[tuple[int, bool]]) -> None:
    uploads, have = book(uploads=100), Usage()
    for number, (size, finishes) in enumerate(days):
        new = upload(f"u{number}", size)
        try:
            begin(uploads, new, have)
        except TooLarge:
            continue
        if finishes:
            have += Usage(size, 1)
            uploads.release(new.id)
        assert (uploads.reserved("ann") + have).size <= 5000 and (uploads.reserved("ann") + have).files <= 10


# --- going on ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "offset", "coming", "code"), [
    (100, 100, 0, ""), (100, 100, 900, ""), (0, 0, 1000, ""), (1000, 1000, 0, ""),
    (100, 99, 1, "offset_mismatch"), (100, 101, 1, "offset_mismatch"), (0, 2**60, 1, "offset_mismatch"),
    (100, 100, 901, "too_large"), (0, 0, 2**60, "too_large"), (1000, 1000, 1, "upload_finished"),
    (1000, 0, 1000, "upload_finished"),
])
def test_p2_bytes_go_on_where_the_last_ended(size: int, offset: int, coming: int, code: str) -> None:
    try:
        check_offset(upload(length=1000), size, offset, coming)
        said = ""
    except HubError as error:
        said = error.code
    assert said == code


def test_p2_never_more_than_was_declared_or_allowed() -> None:
    check_size(upload(length=1000), 1000)
    refused("too_large", TooLarge, check_size, upload(length=1000), 1001)
    check_size(upload(length=None), 5000)
    refused("too_large", TooLarge, check_size, upload(length=None), 5001)


@pytest.mark.parametrize(("size", "offset", "goes"), [
    (500, None, True), (500, 500, True), (500, 0, False), (500, 501, False), (0, 0, True),
])
def test_who_lets_go(size: int, offset: int | None, goes: bool) -> None:
    """The one that asks wins, so does the one that goes on exactly; a repetition of an older one does not."""
    assert gives_way(size, offset) is goes


def test_an_open_length_is_said_once() -> None:
    uploads = book()
    new, effects = stored(begin(uploads, upload(length=None)))
    assert effects == [Save(new, 0)] and new.version == 1
    refused("bad_length", Invalid, uploads.say_length, new, 99, 100)
    refused("too_large", TooLarge, uploads.say_length, new, 5001, 100)
    after, effects = uploads.say_length(new, 100, 100)
    assert (after.length, after.version) == (100, 2) and effects == [Save(after, 1)]
    assert uploads.reserved("ann") == Usage(100, 1)
    assert uploads.say_length(after, 100, 100) == (after, [])
    refused("bad_length", Invalid, uploads.say_length, after, 101, 100)


def test_each_byte_gives_a_day_more() -> None:
    uploads = book()
    begin(uploads, upload("u1"))
    begin(uploads, upload("u2"))
    uploads.arrived("u1", 1, DAY - 1)
    assert not uploads.late("u2", DAY - 1) and uploads.expires_in("u2", DAY - 1) == 1
    assert uploads.late("u2", DAY) and not uploads.late("u1", DAY) and uploads.expires_in("u1", DAY) == DAY - 1
    uploads.arrived("gone", 1, DAY)
    assert uploads.expires_in("gone", DAY) == 0 and not uploads.late("gone", DAY)


def test_what_is_looked_into_does_not_expire() -> None:
    uploads = book()
    checking = uploads.complete(begin(uploads, upload("u1")))
    assert not uploads.late("u1", 2 * DAY)
    refused("upload_finished", Forbidden, check_open, checking)


def test_an_upload_of_an_earlier_life_goes_on() -> None:
    uploads = book()
    uploads.know(upload(version=1), 400, -DAY + 5)
    assert uploads.reserved("ann") == Usage(1000, 1) and uploads.late("u1", 5) and not uploads.late("u1", 4)


# --- ending -----------------------------------------------------------------------------------------------------


def test_p3_a_record_takes_the_place_of_its_upload() -> None:
    uploads = book()
    new, _ = stored(begin(uploads, upload()))
    assert uploads.accept(new, media(), 9.0) == [Save(media(), 0), Delete(Upload, "u1")]


def test_one_that_nobody_can_come_back_to_is_never_stored() -> None:
    uploads = book()
    new = begin(uploads, upload())
    assert uploads.accept(new, media(), 9.0) == [Save(media(), 0)]
    assert uploads.reject(new, Invalid("x"), 9.0)[1] == [] and uploads.end(new, 9.0)[1] == []


def test_a_refusal_is_remembered_for_a_day() -> None:
    uploads = book()
    new, _ = stored(begin(uploads, upload()))
    after, effects = uploads.reject(new, MediaRefused("no frames"), 9.0)
    assert effects == [Save(after, 1)]
    assert (after.state, after.problem, after.purge_at) == (
        State.REJECTED, Problem("not_video", "no frames"), 9.0 + REMEMBERED_S,
    )
    refused("upload_finished", Forbidden, check_open, after)


def test_one_that_is_gone_is_known_to_be_gone() -> None:
    uploads = book()
    new, _ = stored(begin(uploads, upload()))
    after, effects = uploads.end(new, 9.0)
    assert effects == [Save(after, 1)] and after.purge_at == 9.0 + REMEMBERED_S
    assert uploads.reserved("ann") == Usage()
    refused("upload_gone", NotFound, check_open, after)


def test_parts_make_a_whole_and_end_with_it() -> None:
    uploads = book()
    parts = [replace(begin(uploads, upload(f"p{n}", 100, partial=True, purpose=None)), version=1) for n in range(2)]
    for part in parts:
        uploads.know(part, 100, 0.0)
    whole = put_together(upload(length=None), parts, [100, 100])
    assert (whole.length, whole.parts) == (200, ("p0", "p1"))
    others = uploads.claim(whole, 0.0, instead=whole.parts)
    assert others == Usage()
    uploads.settle(whole, others, *DISK)
    refused("upload_finished", Forbidden, check_open, whole)
    effects = uploads.accept(replace(whole, version=1), media(), 9.0)
    ended = [effect.record for effect in effects[2:] if isinstance(effect, Save)]
    assert [(part.id, part.state) for part in ended] == [("p0", State.GONE), ("p1", State.GONE)]


def test_what_does_not_go_together() -> None:
    part = upload("p", 100, partial=True)
    refused("parts_unfinished", Conflict, put_together, upload(length=None), [part], [99])
    refused("bad_metadata", Invalid, put_together, upload(length=None), [upload("x", 100)], [100])
    refused("too_large", TooLarge, put_together, upload(length=None, ceiling=150), [part, part], [100, 100])
