"""Strategies give valid values only: what a rule would refuse or tidy never comes out of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_core.connections.model import Connection, ConnectionState, shown
from ordersync_core.flows.model import Execution
from ordersync_core.items.model import Item, ItemCode, version_of
from ordersync_core.jobs.model import JobDefinition, JobRun, RunState
from ordersync_core.jobs.schedule import parse
from ordersync_core.kernel.localised import LocalisedText, localised_text
from ordersync_core.testing import strategies
from ordersync_core.webhooks.model import EventTypePattern, Webhook, WebhookState


@given(item=strategies.items(updated_at=strategies.moments()))
def test_items_are_tidy(item: Item) -> None:
    assert ItemCode(item.code) == item.code
    assert localised_text(item.name) == item.name
    assert item.updated_at is not None
    assert len({unit.unit for unit in item.units}) == len(item.units)
    assert version_of(item) == version_of(item)


@given(item=strategies.items(codes=st.just(ItemCode("A-1"))))
def test_items_can_be_narrowed_to_codes(item: Item) -> None:
    assert (item.code, item.updated_at) == ("A-1", None)


@given(text=strategies.localised_texts(tags=st.just("nl"), text=st.just("schroef")))
def test_texts_can_be_narrowed_to_languages(text: LocalisedText) -> None:
    assert dict(text) in ({}, {"nl": "schroef"})


@given(webhook=strategies.webhooks(), event_type=strategies.event_types())
def test_webhooks_take_known_patterns(webhook: Webhook, event_type: str) -> None:
    assert all(EventTypePattern(pattern) == pattern for pattern in webhook.event_types)
    assert webhook.selects(event_type) or "*" not in webhook.event_types
    assert (webhook.disabled_because is not None) == (webhook.state is WebhookState.DISABLED)


@given(connection=strategies.connections())
def test_connected_ones_have_tokens(connection: Connection) -> None:
    assert connection.state is not ConnectionState.CONNECTED or connection.tokens is not None
    assert "tokens" not in shown(connection)


@given(definition=strategies.job_definitions())
def test_schedules_are_such_as_parse_gives(definition: JobDefinition) -> None:
    assert parse(definition.schedule.cron, definition.schedule.time_zone) == definition.schedule


@pytest.mark.parametrize("state", RunState)
def test_runs_of_every_state_are_consistent(state: RunState) -> None:
    @given(run=strategies.job_runs(states=st.just(state)))
    def check(run: JobRun) -> None:
        assert run.state is state
        assert (run.ended_at is not None) == (run.ticket_at is None) == state.ended
        assert (run.definition_id is None) == (run.due_at is None)
        assert run.waits_for is None or state is RunState.WAITING

    check()


@given(execution=strategies.executions())
def test_executions_add_up(execution: Execution) -> None:
    counts = execution.counts
    assert counts.read == counts.created + counts.updated + counts.unchanged + counts.quarantined
