from datetime import UTC, datetime, timedelta, timezone

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.kernel.moments import json_moment, rfc3339

ZONES = st.timezones() | st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(allow_imaginary=False, timezones=ZONES).filter(lambda moment: 1 < moment.year < 9999)


@given(moment=MOMENTS, whole=st.booleans())
def test_a_moment_has_one_spelling_however_it_is_made(moment: datetime, whole: bool) -> None:
    moment = moment.replace(microsecond=0) if whole else moment

    spelled = orjson.loads(orjson.dumps(json_moment(moment), option=orjson.OPT_UTC_Z))

    assert spelled == rfc3339(moment)
    assert len(spelled) == len("2026-01-31T12:00:00.000000Z")
    assert datetime.fromisoformat(spelled) == moment.astimezone(UTC)
