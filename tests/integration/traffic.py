"""Traffic as a busy day brings it, kept up while something happens: requests over TLS, WebSockets, tasks. In a process of its own."""

import asyncio
import json
import re
import resource
import secrets
import select
import ssl
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

PATIENCE = 30  # seconds until a request counts as failed
CLIENTS = 400  # connections at most: what comes beyond waits, and the wait counts
# Django takes 5 to 7 ms of CPU for an answer, of which two cores have 300 a second at the very most. So most of the POSTs go to the page
# that Daphne answers without Django, and most of the GETs are static, as those of a page are; a few of every kind go all the way.
LEAN, SLOW = "/lean/?seconds=0.1", "/api/slow/?seconds=2"
POST = [LEAN] * 17 + ["/api/rows/"] + [LEAN] * 18 + [SLOW, LEAN, LEAN, SLOW]
GET = ["/version/", *["/static/"] * 4, "/health/simple/", *["/static/"] * 3, "/"]
MIX = [one for pair in zip([("POST", path) for path in POST], [("GET", path) for path in GET * 4], strict=True) for one in pair]
TROUBLE = (OSError, EOFError, ValueError, TimeoutError, InvalidHandshake, InvalidMessage)


@dataclass
class Sockets:
    wanted: int = 0
    open: int = 0  # at the end
    echoes: int = 0
    reconnects: int = 0
    cut: int = 0  # ends without a close frame
    longest_gap: float = 0.0  # seconds from an end to the next hello
    closes: list = field(default_factory=list)  # (second, path, code; None: cut)
    failures: list = field(default_factory=list)  # (second, path, what): no connection, no echo


@dataclass
class Tasks:
    sent: int = 0  # and accepted
    unsure: int = 0  # sent, but the answer failed: may run once or not at all
    lost: list = field(default_factory=list)  # keys that did not come to their end
    twice: list = field(default_factory=list)  # keys that began more than once
    seconds: float = 0.0  # from the end of the traffic to the end of the last task


@dataclass
class Result:
    seconds: float = 0.0
    requests: int = 0
    posts: int = 0
    rate: float = 0.0  # requests a second, sent
    failures: list = field(default_factory=list)  # (second, path, status, what)
    reconnects: int = 0  # GETs sent again because the server closed an idle connection under them
    p50: float = 0.0  # seconds from when a request was due to its whole answer, without the time that /api/slow/ sleeps
    p99: float = 0.0
    slowest: float = 0.0
    late: float = 0.0  # seconds by which the generator itself was late at worst: beyond that, times say something of the server
    cpu: float = 0.0  # cores that the generator took
    answers: list = field(default_factory=list)  # (second, instance, canary, version)
    sockets: Sockets = field(default_factory=Sockets)
    tasks: Tasks = field(default_factory=Tasks)

    def __str__(self):
        """Figures, and of each list its length and first entry."""

        def short(found):
            if isinstance(found, list):
                return f"{len(found)}{found[:1] or ''}"
            return {name: short(one) for name, one in found.items()} if isinstance(found, dict) else found

        return re.sub(r"(\.\d{3})\d+", r"\1", str(short(asdict(self))))


class Traffic:
    """`with Traffic(stack) as traffic:` runs until the block ends; then `traffic.result()` and `traffic.expect_nothing_lost()`.

    nginx lets one address ask 10 times a second: nginx_rate_limit_exempt_networks must hold this machine's network.
    """

    def __init__(self, stack, rate=200, sockets=50, tasks_per_second=3, limit=300):
        authorities = "".join(ssl.DER_cert_to_PEM_cert(one) for one in stack.context.get_ca_certs(binary_form=True))
        self.settings = {"address": stack.address, "authorities": authorities, "domain": _domain(), "rate": rate, "sockets": sockets,
                         "tasks_per_second": tasks_per_second, "limit": limit}  # fmt: skip

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps(self.settings) + "\n")
        self.process.stdin.flush()
        started = self.process.stdout.readline()  # every socket has said hello, the first requests are on their way
        assert started == "started\n", f"the traffic did not start: {started}"
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.process.kill()
            self.process.communicate()
            return
        output, _errors = self.process.communicate(timeout=200)  # closing its input is the sign to end
        found = json.loads(output)
        self.found = Result(**{**found, "sockets": Sockets(**found["sockets"]), "tasks": Tasks(**found["tasks"])})

    def result(self):
        return self.found

    def expect_nothing_lost(self, least=10000, gap=5, cut=0):
        """No request failed, `cut` WebSockets at most ended without a close frame, none was away for more than `gap` seconds, each task ran once."""
        found = self.found
        assert found.requests >= least, f"only {found.requests} requests were sent: nothing was proven"
        assert found.rate >= 0.98 * self.settings["rate"], f"only {found.rate:.0f} requests a second: nothing was proven"
        assert not found.failures, f"{len(found.failures)} of {found.requests} requests failed: {found.failures[:8]}"
        sockets, tasks = found.sockets, found.tasks
        assert sockets.cut <= cut, f"{sockets.cut} WebSockets were cut without a close frame: {sockets.closes[:8]}"
        silent = [one for one in sockets.failures if "echo" in one[2]]  # a first try to reconnect may fail: the gap says how long it took
        assert sockets.open == sockets.wanted and not silent, f"{sockets.open} of {sockets.wanted} WebSockets: {silent[:8]}"
        assert sockets.longest_gap <= gap, f"a WebSocket was away for {sockets.longest_gap:.1f} s, at most {gap} s is wanted"
        # Celery promises at least once: a task that a worker was handed in its last moment was seen twice, one of 1,025
        assert not tasks.lost and len(tasks.twice) <= 1, f"of {tasks.sent} tasks lost: {tasks.lost[:8]}, ran twice: {tasks.twice[:8]}"


def _domain():
    from stack import DOMAIN  # the child needs nothing else of it

    return DOMAIN


# What follows runs in the child


class Connection:
    """One HTTP/1.1 connection that is kept alive."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.used, self.answering = reader, writer, False, False
        self.waiting = select.poll()
        self.waiting.register(writer.get_extra_info("socket").fileno(), select.POLLIN)

    def closed(self):
        """Whether the server said anything since its last answer: it closes. The socket is asked, as the event loop may not know yet."""
        return self.reader.at_eof() or self.writer.is_closing() or bool(self.waiting.poll(0))

    async def ask(self, head, data):
        """(status, body, whether the server keeps the connection)."""
        self.answering = False
        self.writer.write(head + data)
        raw = await self.reader.readuntil(b"\r\n\r\n")
        self.answering = self.used = True
        lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        status = int(lines[0].split()[1])
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        elif status in (204, 304):
            body = b""
        else:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return status, body, headers.get("connection") != "close"


class Generator:
    def __init__(self, address, authorities, domain, rate, sockets, tasks_per_second, limit):
        self.address, self.domain, self.rate, self.limit = address, domain, rate, limit
        self.context = ssl.create_default_context(cadata=authorities)
        self.result, self.idle, self.latencies = Result(sockets=Sockets(wanted=sockets)), [], []
        self.tasks_per_second, self.prefix, self.accepted = tasks_per_second, f"traffic-{secrets.token_hex(4)}-", set()
        self.assets, self.under_way, self.stop = ["/static/"], set(), asyncio.Event()
        self.clients = asyncio.Semaphore(CLIENTS)

    def now(self):
        return time.monotonic() - self.begin

    async def main(self):
        self.begin = time.monotonic()
        hellos = [asyncio.Event() for _ in range(self.result.sockets.wanted)]
        sockets = [asyncio.create_task(self.socket(number, hello)) for number, hello in enumerate(hellos)]
        await asyncio.wait_for(asyncio.gather(*(hello.wait() for hello in hellos)), PATIENCE)
        await self.request("GET", "/", self.now())  # names the static files
        self.result, self.latencies = Result(sockets=self.result.sockets), []
        print("started", flush=True)
        told = asyncio.create_task(self.until_told())
        self.begin, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.gather(self.requests(), self.tasks())
        self.result.seconds = self.now()
        spent = resource.getrusage(resource.RUSAGE_SELF)
        self.result.cpu = (spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime) / self.result.seconds
        self.result.rate = self.result.requests / self.result.seconds
        await asyncio.gather(told, *self.under_way)
        await asyncio.gather(*sockets)
        await self.ledger()
        ordered = sorted(self.latencies) or [0.0]
        self.result.p50, self.result.p99, self.result.slowest = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1))
        print(json.dumps(asdict(self.result)))

    async def until_told(self):
        """The parent closes standard input when its block ends, or when it dies."""
        await asyncio.to_thread(sys.stdin.read)
        self.stop.set()

    # Requests

    async def requests(self):
        await self.at_rate(self.rate, lambda number: self.request(*MIX[number % len(MIX)], due=number / self.rate))

    async def at_rate(self, rate, make):
        """Begin make(number) when it is due, whatever became of those before."""
        number = 0
        while not self.stop.is_set() and self.now() < self.limit:
            while number / rate <= self.now():
                task = asyncio.create_task(make(number))
                self.under_way.add(task)
                task.add_done_callback(self.under_way.discard)
                number += 1
            await asyncio.sleep(max(0.0, number / rate - self.now()))

    async def request(self, method, path, due, data=None):
        """(status, body), after the outcome is noted; status 0 is none."""
        path = secrets.choice(self.assets) if path == "/static/" else path
        if method == "POST" and data is None:
            data = {"text": f"{self.prefix}{due:.3f}"} if path == "/api/rows/" else {}
        begin = self.now()
        self.result.late = max(self.result.late, begin - due)
        self.result.requests += 1
        self.result.posts += method == "POST"
        try:
            async with asyncio.timeout(PATIENCE), self.clients:
                status, body = await self.exchange(method, path, data)
        except (*TROUBLE, asyncio.LimitOverrunError, KeyError) as error:
            status, body = 0, repr(error).encode()
        self.latencies.append(max(0.0, self.now() - due - float(path.partition("seconds=")[2] or 0)))
        if not 200 <= status < 400:
            said = re.sub(r"<(style|title)>.*?</\1>|<[^>]*>", "", body.decode(errors="replace"), flags=re.DOTALL)
            said = f"after {self.now() - begin:.1f} s: {' '.join(said.split())[:120]}"
            self.result.failures.append((round(begin, 2), f"{method} {path}", status, said))
        elif path == "/version/":
            found = json.loads(body)
            self.result.answers.append((round(begin, 2), found["instance"], found["canary"], found["version"]))
        elif path == "/":
            self.assets = re.findall(r'(?:href|src)="(/static/[^"]+)"', body.decode())
        return status, body

    async def exchange(self, method, path, data):
        """Sent again, once, only where a browser does too: a GET under which the server closed an idle connection, before any answer."""
        body = b"" if data is None else json.dumps(data).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.domain}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection = self.kept() or await self.opened()
        try:
            status, answer, keep = await connection.ask(head, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            connection.writer.transport.abort()
            if method != "GET" or not connection.used or connection.answering:
                raise
            self.result.reconnects += 1
            connection = await self.opened()
            status, answer, keep = await connection.ask(head, body)
        except BaseException:
            connection.writer.transport.abort()
            raise
        if keep:
            self.idle.append(connection)
        else:
            connection.writer.transport.abort()
        return status, answer

    def kept(self):
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed():
                return connection
            connection.writer.transport.abort()
        return None

    async def opened(self):
        return Connection(*await asyncio.open_connection(self.address, 443, ssl=self.context, server_hostname=self.domain))

    # Tasks

    async def tasks(self):
        if self.tasks_per_second:
            await self.at_rate(self.tasks_per_second, self.task)

    async def task(self, number):
        key = f"{self.prefix}{number}"
        kind = {"kind": "sleep", "seconds": 0.5} if number % 2 else {"kind": "add", "x": number, "y": 1}
        status, _body = await self.request("POST", "/api/tasks/", number / self.tasks_per_second, {**kind, "key": key})
        if status == 202:
            self.accepted.add(key)
            self.result.tasks.sent += 1
        else:
            self.result.tasks.unsure += 1

    async def ledger(self, patience=60):
        """What the application wrote down of each task, once all that it accepted are through."""
        tasks, begin, found = self.result.tasks, self.now(), {}
        while self.accepted:
            try:
                async with asyncio.timeout(PATIENCE):
                    status, body = await self.exchange("GET", f"/api/ledger/?prefix={self.prefix}", None)
                found = json.loads(body)["by_key"] if status == 200 else found
            except TROUBLE:
                pass
            tasks.lost = sorted(key for key in self.accepted if not found.get(key, {}).get("finished"))
            tasks.seconds = self.now() - begin
            if not tasks.lost or tasks.seconds > patience:
                break
            await asyncio.sleep(0.5)
        tasks.twice = sorted(key for key, runs in found.items() if runs["runs"] > 1)

    # WebSockets

    async def socket(self, number, hello):
        """An echo every three seconds; what the server ends is opened again at once."""
        path, sockets, left = "/ws/broadcast/" if number % 10 == 9 else "/ws/echo/", self.result.sockets, None
        where = {"host": self.address, "port": 443, "ssl": self.context, "server_hostname": self.domain, "origin": f"https://{self.domain}"}
        while not self.stop.is_set():
            try:
                async with asyncio.timeout(PATIENCE):
                    connection = await connect(f"wss://{self.domain}{path}", **where, compression=None, proxy=None, ping_interval=None)
                    assert json.loads(await connection.recv())["type"] == "hello"
            except (*TROUBLE, ConnectionClosed) as error:
                sockets.failures.append((round(self.now(), 2), path, repr(error)))
                await asyncio.sleep(0.1)
                continue
            hello.set()
            sockets.open += 1
            if left is not None:
                sockets.longest_gap = max(sockets.longest_gap, self.now() - left)
                sockets.reconnects += 1
            try:
                await self.talk(connection, number)
            except TimeoutError:
                sockets.failures.append((round(self.now(), 2), path, "no echo within 10 s"))
                await connection.close()
            except ConnectionClosed as error:
                sockets.cut += error.rcvd is None
                sockets.closes.append((round(self.now(), 2), path, error.rcvd and error.rcvd.code))
            else:
                await connection.close()
                return
            left = self.now()
            sockets.open -= 1
        if left is not None:
            sockets.longest_gap = max(sockets.longest_gap, self.now() - left)

    async def talk(self, connection, number):
        """Until the traffic ends (returns), the connection ends (ConnectionClosed), or an echo is missing (TimeoutError)."""
        count = 0
        while not self.stop.is_set():
            count += 1
            text = f"{self.prefix}{number}-{count}"
            async with asyncio.timeout(10):
                await connection.send(text)
                while text not in await connection.recv():
                    pass
            self.result.sockets.echoes += 1
            done, _ = await asyncio.wait([ended := asyncio.create_task(connection.wait_closed())], timeout=3)
            ended.cancel()
            if done:
                await connection.recv()  # says how it ended


if __name__ == "__main__":
    asyncio.run(Generator(**json.loads(sys.stdin.readline())).main())
