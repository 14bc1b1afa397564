"""A few counters in the text format of Prometheus (exposition format 0.0.4)."""

import threading
from collections import defaultdict
from collections.abc import Iterator

from attrs import frozen

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends in seconds."""


@frozen
class _Labels:
    """path: the address with its placeholders, so that the number of series does not grow with the items."""

    method: str
    path: str
    status: int


class Metrics:
    """Requests served by this process. Safe for use by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_progress = 0
        self._requests: dict[_Labels, int] = defaultdict(int)
        self._seconds = 0.0
        self._buckets = [0] * (len(BUCKETS) + 1)

    def begin(self) -> None:
        with self._lock:
            self._in_progress += 1

    def end(self, method: str, path: str, status: int, seconds: float) -> None:
        place = next((place for place, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))
        with self._lock:
            self._in_progress -= 1
            self._requests[_Labels(method, path, status)] += 1
            self._seconds += seconds
            self._buckets[place] += 1

    def text(self, version: str) -> str:
        with self._lock:
            return "\n".join(self._lines(version)) + "\n"

    def _lines(self, version: str) -> Iterator[str]:
        yield "# HELP ordersync_api_info The release that serves."
        yield "# TYPE ordersync_api_info gauge"
        yield f'ordersync_api_info{{version="{version}"}} 1'
        yield "# HELP ordersync_api_requests_in_progress Requests that have no answer yet."
        yield "# TYPE ordersync_api_requests_in_progress gauge"
        yield f"ordersync_api_requests_in_progress {self._in_progress}"
        yield "# HELP ordersync_api_requests_total Requests answered, by method, address and status."
        yield "# TYPE ordersync_api_requests_total counter"
        for labels, count in self._requests.items():
            yield (
                f'ordersync_api_requests_total{{method="{labels.method}",path="{labels.path}",'
                f'status="{labels.status}"}} {count}'
            )
        yield "# HELP ordersync_api_request_seconds From the request's first byte to the answer's last."
        yield "# TYPE ordersync_api_request_seconds histogram"
        total = 0
        for end, count in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
            total += count
            yield f'ordersync_api_request_seconds_bucket{{le="{end}"}} {total}'
        yield f"ordersync_api_request_seconds_sum {self._seconds:.6f}"
        yield f"ordersync_api_request_seconds_count {total}"
