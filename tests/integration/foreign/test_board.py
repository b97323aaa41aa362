"""One ASGI application under uvicorn: two health pages, Celery with a schedule file, WebSockets, a directory of its own, a process beside the workers."""

import asyncio

import pytest
from foreign_site import Site, started
from life import Life
from stack import wait
from websockets.asyncio.client import connect

pytestmark = pytest.mark.usefixtures("site")


class Board(Site):
    paths = ("/", "/healthz", "/readyz", "/entries")
    version_path, static_path, table = "/", "/static/board.css", "board_entry"

    def add(self, text):
        """By a worker."""
        self.send("/entries", text)
        wait(lambda: text in self.listed(), 60, "an entry that a worker makes")

    def listed(self):
        return self.json("/entries")["entries"]

    def first_deploy(self):
        super().first_deploy()
        self.send("/inbox", "after the first deploy")

    def inbox(self):
        return self.json("/inbox")["inbox"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    yield from started(Board("board", tmp_path_factory.mktemp("board")))


class TestBoard(Life):
    def test_beat_sends_by_its_file(self, site):
        wait(lambda: "tick" in site.listed(), 60, "a periodic task")

    def test_its_process_writes_into_its_directory(self, site):
        wait(lambda: "after the first deploy" in site.inbox(), 60, "a line that the process writes")
        assert site.stack.get("/srv/data/inbox")[0] == 404

    def test_a_websocket_answers(self, site):
        async def echo():
            async with connect(f"wss://{site.stack.domain}/live/", host=site.address, ssl=site.stack.context, origin=f"https://{site.stack.domain}") as one:
                await one.send("hello")
                return await asyncio.wait_for(one.recv(), 10)

        assert asyncio.run(echo()) == "hello"

    def test_the_directory_and_its_process_are_there_after_all_that(self, site):
        site.send("/inbox", "after all that")
        wait(lambda: "after all that" in site.inbox(), 60, "a line that the process writes")
        assert "after the first deploy" in site.inbox()
