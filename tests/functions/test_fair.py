from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from ordersync_functions.fair import FairOrder, Limits

LIMITS = Limits(overall=6, administration=4, webhook=2)
Item = tuple[str, int, int]
"""Administration, webhook, and its place in the webhook's lane."""

lanes = st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 4))
steps = st.lists(st.tuples(st.sampled_from(["put", "take", "release", "withdraw"]), lanes), max_size=200)


def put_all(order: FairOrder[Item], *items: Item) -> None:
    for item in items:
        order.put(item[0], item[1], item)


@given(steps=steps)
def test_limits_hold_lanes_keep_their_order_and_nothing_that_may_start_is_kept(
    steps: list[tuple[str, tuple[str, int]]],
) -> None:
    order: FairOrder[Item] = FairOrder(LIMITS)
    numbers: Counter[tuple[str, int]] = Counter()
    waiting: dict[tuple[str, int], list[Item]] = defaultdict(list)
    flying: list[Item] = []
    for step, lane in steps:
        if step == "put":
            numbers[lane] += 1
            item = (*lane, numbers[lane])
            order.put(*lane, item)
            waiting[lane].append(item)
        elif step == "take":
            by_webhook = Counter(item[:2] for item in flying)
            by_administration = Counter(item[0] for item in flying)
            startable = {
                queue[0]
                for place, queue in waiting.items()
                if queue
                and by_webhook[place] < LIMITS.webhook
                and by_administration[place[0]] < LIMITS.administration
                and len(flying) < LIMITS.overall
            }
            taken = order.take()
            assert (taken in startable) if startable else taken is None
            if taken is not None:
                waiting[taken[:2]].remove(taken)
                flying.append(taken)
        elif step == "release" and any(item[:2] == lane for item in flying):
            flying.remove(next(item for item in flying if item[:2] == lane))
            order.release(*lane)
        elif step == "withdraw":
            assert order.withdraw(*lane) == waiting.pop(lane, [])
        assert order.in_flight == len(flying)
        assert order.waiting(*lane) == len(waiting[lane])
        assert order.startable() >= 0
    assert sorted(order.withdraw_all()) == sorted(item for queue in waiting.values() for item in queue)


def test_administrations_take_turns_however_much_one_of_them_has() -> None:
    order: FairOrder[Item] = FairOrder(Limits(overall=100, administration=100, webhook=100))
    put_all(order, *(("flood", 1, number) for number in range(50)), ("small", 1, 0), ("small", 1, 1))

    started = [order.take() for _ in range(4)]

    assert started == [("flood", 1, 0), ("small", 1, 0), ("flood", 1, 1), ("small", 1, 1)]


def test_webhooks_of_one_administration_take_turns() -> None:
    order: FairOrder[Item] = FairOrder(LIMITS)
    put_all(order, ("a", 1, 0), ("a", 1, 1), ("a", 1, 2), ("a", 2, 0))

    assert [order.take() for _ in range(4)] == [("a", 1, 0), ("a", 2, 0), ("a", 1, 1), None]

    order.release("a", 1)
    assert order.take() == ("a", 1, 2)


def test_startable_counts_what_only_the_overall_limit_keeps() -> None:
    order: FairOrder[Item] = FairOrder(Limits(overall=1, administration=3, webhook=2))
    put_all(order, *(("a", webhook, number) for webhook in (1, 2, 3) for number in range(5)))
    assert order.take() is not None

    assert order.take() is None
    assert order.startable() == 2
