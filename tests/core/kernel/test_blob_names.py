import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ordersync_core.kernel.blobs import MAXIMUM_NAME, MAXIMUM_SEGMENT, blob_name
from ordersync_core.kernel.errors import InvalidInput

hostile = st.text(st.sampled_from(["a", "é", ".", "/", "\\", "\x00", " ", "-"]), max_size=12)


@given(hostile | st.text(max_size=500))
@example("a/../b")
@example("..")
def test_what_is_let_through_is_a_plain_relative_path(name: str) -> None:
    try:
        assert blob_name(name) == name
    except InvalidInput:
        return
    assert posixpath.normpath(name) == name
    assert not posixpath.isabs(name)
    assert not any(segment in ("", ".", "..") for segment in name.split("/"))
    assert "\\" not in name
    assert "\x00" not in name
    assert len(name) <= MAXIMUM_NAME
    assert all(len(segment.encode()) <= MAXIMUM_SEGMENT for segment in name.split("/"))


@given(st.lists(st.text("abc-_ é", min_size=1, max_size=20), min_size=1, max_size=10))
def test_ordinary_names_are_let_through(segments: list[str]) -> None:
    assert blob_name("/".join(segments)) == "/".join(segments)


def test_the_refusal_is_one_line_that_does_not_repeat_the_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        blob_name("a\nb")

    assert "\n" not in str(refused.value)
