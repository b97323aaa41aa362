"""Steady requests over TLS while something happens, bounded in rate and in time."""

import http.client
import json
import subprocess
import threading
import time

from stack import DOMAIN, Https

# nginx lets one address ask 10 times a second; the health page has no limit for the lab's network, and the same instances answer it
MIX = ("/version/", "/health/simple/", "/health/simple/", "/health/simple/", "/health/simple/")


class Load:
    """`with Load(stack) as load:` sends GET requests until the block ends; `load.failures` says what went wrong.

    Django takes 5 to 7 ms of a core for each (traffic.py), on the cores on which everything else happens too. One instance alone restarts in 1.7 s or
    more, so one request every 67 ms meets such a gap many times; gaps of less than that are for the releases under Traffic.
    """

    def __init__(self, stack, rate=15, limit=240, clients=4, paths=MIX):
        self.paths = paths
        self.stack, self.pause, self.limit = stack, clients / rate, limit
        self.requests, self.reconnects, self.slowest = 0, 0, 0.0
        self.failures, self.answers = [], []  # (second, path, what), (second, instance, canary, version)
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self):
        self.begin = time.monotonic()
        for thread in self.threads:
            thread.start()
        while self.requests < 2 * len(self.threads) and time.monotonic() < self.begin + 30:
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        time.sleep(1)
        self.stop.set()
        for thread in self.threads:
            thread.join(timeout=30)
        self.seconds = time.monotonic() - self.begin

    def _client(self, number):
        connection, count = None, number
        due = self.begin + number * self.pause / len(self.threads)
        while not self.stop.wait(max(0.0, due - time.monotonic())) and time.monotonic() - self.begin < self.limit:
            path, count = self.paths[count % len(self.paths)], count + 1
            begin = time.monotonic()
            connection, status, body = self._ask(connection, path)
            taken = time.monotonic() - begin
            with self.lock:
                self.requests += 1
                self.slowest = max(self.slowest, taken)
                if status != 200:
                    self.failures.append((round(begin - self.begin, 2), path, f"{status} after {taken:.1f} s: {body[:120]}"))
                elif path == "/version/":
                    found = json.loads(body)
                    self.answers.append((begin - self.begin, found["instance"], found["canary"], found["version"]))
            due = max(due + self.pause, time.monotonic() - 1)  # what was late is not made up for by a burst

    def _ask(self, connection, path):
        """As a browser does, an idle connection that the server has just closed is opened again, once."""
        reused = connection is not None
        for _attempt in range(2):
            connection = connection or Https(self.stack.address, self.stack.context, domain=self.stack.domain)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read().decode(errors="replace")
                return (None if answer.will_close else connection), answer.status, body
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                connection, said = None, repr(error)
                if not (reused and isinstance(error, (ConnectionError, http.client.RemoteDisconnected))):
                    break
                with self.lock:
                    self.reconnects += 1
                reused = False
        return None, 0, said

    def instances(self, canary=None):
        """Instances that answered (with this canary)."""
        return {instance for _, instance, found, _ in self.answers if canary is None or found == canary}

    def expect_none_failed(self, least=50):
        assert self.requests >= least, f"only {self.requests} requests were sent: nothing was proven"
        assert not self.failures, f"{len(self.failures)} of {self.requests} requests failed: {self.failures[:8]}"


class Ports:
    """What each web instance answers at its own port meanwhile, asked on the host five times a second."""

    SCRIPT = f"""
        end=$((SECONDS + 240)); rm -f /run/senex-test-ports; exec 2>/dev/null
        while [ $SECONDS -lt $end ] && [ ! -e /run/senex-test-ports ]; do
            line=""
            for port in 8001 8002; do
                line="$line $(curl -s -o /dev/null -m 2 -w '%{{http_code}}' -H 'Host: {DOMAIN}' -H 'X-Forwarded-Proto: https' \\
                    http://127.0.0.1:$port/health/simple/)"
            done
            echo $line; sleep 0.2
        done; rm -f /run/senex-test-ports"""

    def __init__(self, stack):
        self.stack = stack

    def __enter__(self):
        self.process = subprocess.Popen(self.stack.ssh_command(self.SCRIPT), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.stack.sh("touch /run/senex-test-ports")
        self.pairs = [tuple(line.split()) for line in self.process.communicate(timeout=30)[0].splitlines()]

    def expect_always_one(self):
        assert len(self.pairs) > 10, "the ports were not watched"
        assert any(first != "200" for first, _ in self.pairs), "the watch did not see the first instance restart"
        assert any(second != "200" for _, second in self.pairs), "the watch did not see the second instance restart"
        assert all("200" in pair for pair in self.pairs), "there was a moment without a web instance"
