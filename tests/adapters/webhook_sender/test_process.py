"""The process that sends: how it begins and ends. What it makes of receivers is in `test_sender.py`."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ordersync_adapters.system import SystemClock
from ordersync_adapters.webhook_sender import process
from ordersync_adapters.webhook_sender.process import GONE, ProcessWebhookSender
from tests.adapters.webhook_sender.receivers import Reader, Receiver, Writer, answering, receiver, response
from tests.adapters.webhook_sender.test_sender import QUICK, a_request

WITHIN = 10.0


async def ended(child: int) -> None:
    async with asyncio.timeout(WITHIN):
        while _is_alive(child):
            await asyncio.sleep(0.02)


def _is_alive(child: int) -> bool:
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def hang(told: Receiver, reader: Reader, writer: Writer) -> None:
    told.connections += 100
    await asyncio.sleep(60)


def test_many_requests_at_once_each_get_their_own_answer() -> None:
    async def echo(told: Receiver, reader: Reader, writer: Writer) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            [number] = re.findall(rb"x-number: (\d+)", head.lower())
            await reader.readexactly(len(a_request("").body))
            writer.write(response("200 OK", body=number))

    async def go() -> None:
        sender = ProcessWebhookSender(SystemClock(), allow_private=True)
        async with receiver(echo) as told:
            requests = [a_request(told.url, **{"X-Number": str(number)}) for number in range(300)]
            answers = await asyncio.gather(*map(sender.send, requests))
            await sender.close()
        assert [answer.response.decode() for answer in answers] == [str(number) for number in range(300)]
        assert [answer.request for answer in answers] == requests

    asyncio.run(go())


def test_killed_it_leaves_no_answer_and_the_next_request_starts_another() -> None:
    async def go() -> None:
        sender = ProcessWebhookSender(SystemClock(), allow_private=True)
        async with receiver(hang) as told, receiver(answering(response("200 OK"))) as answers:
            under_way = asyncio.create_task(sender.send(a_request(told.url)))
            async with asyncio.timeout(WITHIN):
                while not told.connections:
                    await asyncio.sleep(0.02)
            first = sender.process_id
            assert first is not None
            os.kill(first, signal.SIGKILL)
            answer = await under_way
            assert (answer.status, answer.error) == (None, GONE)
            assert (await sender.send(a_request(answers.url))).status == 200
            assert sender.process_id != first
            await sender.close()

    asyncio.run(go())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_of_the_group_does_not_end_it(number: int) -> None:
    async def go() -> None:
        sender = ProcessWebhookSender(SystemClock(), allow_private=True)
        async with receiver(answering(response("200 OK"))) as told:
            await sender.send(a_request(told.url))
            first = sender.process_id
            assert first is not None
            os.kill(first, number)
            assert (await sender.send(a_request(told.url))).status == 200
            assert sender.process_id == first
            await sender.close()
            await ended(first)
            assert sender.process_id is None

    asyncio.run(go())


def test_one_that_stands_still_is_ended_and_the_next_request_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SLACK", 0.5)

    async def go() -> None:
        sender = ProcessWebhookSender(SystemClock(), allow_private=True, patience=QUICK)
        async with receiver(answering(response("200 OK"))) as told:
            await sender.send(a_request(told.url))
            first = sender.process_id
            assert first is not None
            os.kill(first, signal.SIGSTOP)
            async with asyncio.timeout(WITHIN):
                assert (await sender.send(a_request(told.url))).error == GONE
                await ended(first)
                while (await sender.send(a_request(told.url))).status != 200:
                    await asyncio.sleep(0.02)
            await sender.close()

    asyncio.run(go())


PARENT = """
import asyncio, sys
from ordersync_adapters.system import SystemClock
from ordersync_adapters.webhook_sender.process import ProcessWebhookSender
from tests.adapters.webhook_sender.test_sender import a_request

async def go():
    sender = ProcessWebhookSender(SystemClock(), allow_private=True)
    under_way = asyncio.create_task(sender.send(a_request(sys.argv[1])))
    while sender.process_id is None:
        await asyncio.sleep(0.02)
    print(sender.process_id, flush=True)
    await under_way

asyncio.run(go())
"""


def test_it_does_not_outlive_a_parent_that_is_killed() -> None:
    async def go() -> None:
        async with receiver(hang) as told:
            parent = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PARENT, told.url, stdout=subprocess.PIPE
            )
            assert parent.stdout is not None
            async with asyncio.timeout(WITHIN):
                child = int(await parent.stdout.readline())
                while not told.connections:
                    await asyncio.sleep(0.02)
            parent.kill()
            await parent.wait()
            await ended(child)

    asyncio.run(go())
