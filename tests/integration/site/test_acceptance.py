"""What a visitor, and a program that uses the site, get from the whole stack."""

import http.client
import json
import re
import secrets
import socket
import time
from contextlib import ExitStack

import pytest
from stack import DOMAIN, WEB, Https, wait
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

QUEUES = ("celery", "accounts", "trading", "services")
HSTS = "max-age=63072000"
POLICY = {
    "default-src": "'self'", "connect-src": f"'self' wss://{DOMAIN}", "img-src": "'self' data:", "object-src": "'none'",
    "base-uri": "'self'", "form-action": "'self'", "frame-ancestors": "'none'",
}  # fmt: skip


def fetch(stack, path, method="GET", secure=True, **headers):
    """The whole answer, headers as they came; `_` in a header's name is a dash."""
    connection = Https(stack.address, stack.context) if secure else http.client.HTTPConnection(stack.address, timeout=10)
    connection.request(method, path, headers={"Host": DOMAIN} | {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer


def log_lines(stack, marker):
    """What nginx wrote of requests that bear this marker."""
    return stack.sh(f"grep -F {marker} /var/log/nginx/access.log || true").splitlines()


@pytest.fixture(scope="module")
def assets(stack):
    """Paths of the page's own files, as the page names them: with a hash."""
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', stack.get("/")[1])
    assert len(found) == 3
    return found


# The address


def test_http_redirects_to_the_same_place_over_https(stack):
    answer = fetch(stack, "/some/place?x=1&y=2", secure=False)
    assert (answer.status, answer.getheader("Location")) == (301, f"https://{DOMAIN}/some/place?x=1&y=2")


@pytest.mark.parametrize("secure", [False, True])
def test_another_host_name_gets_no_answer(stack, secure):
    with pytest.raises(ConnectionResetError):
        fetch(stack, "/", secure=secure, Host="www.example.com")


def test_both_web_instances_serve(stack):
    seen = {json.loads(stack.get("/version/")[1])["instance"] for _ in range(12)}
    assert seen == set(WEB)


def test_the_application_sees_the_true_client(stack):
    """The machine that asks, whatever it claims."""
    connection = Https(stack.address, stack.context)
    connection.request("GET", "/api/client/", headers={"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1", "Forwarded": "for=192.0.2.1"})
    mine, seen = connection.sock.getsockname()[0], json.load(connection.getresponse())
    connection.close()
    assert seen == {"address": mine, "secure": True, "host": DOMAIN}


def test_djangos_own_deployment_check_is_content(stack):
    stack.user("podman", "exec", "web-1", "python", "/app/manage.py", "check", "--deploy", "--fail-level", "WARNING")


# Tasks


@pytest.mark.parametrize("queue", QUEUES)
def test_task_runs_in_a_worker_and_its_result_comes_back(stack, queue):
    x, y = secrets.randbelow(10**6), secrets.randbelow(10**6)
    identity = stack.post("/api/tasks/", {"kind": "add", "x": x, "y": y, "queue": queue})["id"]
    wait(lambda: json.loads(stack.get(f"/api/tasks/{identity}/")[1])["state"] == "SUCCESS", 20, f"a result from queue {queue}")
    assert json.loads(stack.get(f"/api/tasks/{identity}/")[1])["result"] == x + y


def test_task_writes_what_the_site_reads(stack):
    """From nginx through web, broker and worker into the database, and back."""
    text = f"{secrets.token_hex(4)} é 漢"
    stack.post("/api/tasks/", {"kind": "write", "text": text})
    wait(lambda: (json.loads(stack.get("/api/rows/")[1])["newest"] or {}).get("text") == text, 20, "the row that a worker wrote")


def test_beat_goes_on_giving_work(stack):
    def heartbeat():
        return json.loads(stack.get("/api/heartbeat/")[1])

    first = heartbeat()
    assert first["age"] is not None and first["age"] < 30
    wait(lambda: heartbeat()["count"] > first["count"], 30, "another periodic row", pause=1)


# WebSockets


def websocket(stack, path, origin=f"https://{DOMAIN}"):
    raw = socket.create_connection((stack.address, 443), 10)
    return connect(f"wss://{DOMAIN}{path}", sock=raw, ssl=stack.context, origin=origin, proxy=None, open_timeout=30)


def test_broadcast_reaches_sockets_on_every_web_instance(stack):
    text = secrets.token_hex(8)
    with ExitStack() as sockets:
        held = []
        end = time.monotonic() + 30
        while {instance for instance, _ in held} != set(WEB) or len(held) < 4:
            assert time.monotonic() < end, f"every socket ended on {held[0][0]}"
            # nginx gives an instance that failed once nothing for a second, in which a dozen sockets find their way to the other
            time.sleep(0.25 if len(held) > 3 else 0)
            one = sockets.enter_context(websocket(stack, "/ws/broadcast/"))
            held.append((json.loads(one.recv(timeout=10))["instance"], one))
        stack.post("/api/broadcast/", {"text": text})
        for instance, one in held:
            while (message := json.loads(one.recv(timeout=10))).get("text") != text:
                pass  # somebody else's: a page in a browser that is open, say
            assert message["instance"] == instance


@pytest.mark.parametrize("origin", ["https://www.example.com", f"http://{DOMAIN}.example.com", None])
def test_websocket_of_another_site_is_refused(stack, origin):
    with pytest.raises(InvalidStatus) as refused, websocket(stack, "/ws/echo/", origin):
        pass
    assert refused.value.response.status_code == 403


# Files


def test_files_with_a_hash_in_their_name_may_be_kept_for_ever(stack, assets):
    for path in assets:
        answer = fetch(stack, path)
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", path)
        assert (answer.status, answer.msg.get_all("Cache-Control")) == (200, ["public, max-age=31536000, immutable"])


def test_files_without_a_hash_are_asked_for_again(stack):
    answer = fetch(stack, "/static/probe/site.css")
    assert answer.status == 200
    assert answer.msg.get_all("Cache-Control") == ["public, max-age=3600"]
    assert fetch(stack, "/static/probe/site.css", If_None_Match=answer.getheader("ETag")).status == 304


def test_files_come_from_nginx_and_pages_from_an_instance(stack, assets):
    marker = secrets.token_hex(8)
    for path in (assets[0], "/version/"):
        assert fetch(stack, f"{path}?{marker}").status == 200
    wait(lambda: len(log_lines(stack, marker)) == 2, 5, "two lines in the access log")
    upstream = [re.search(r"upstream=(\S+)", line)[1] for line in log_lines(stack, marker)]
    assert upstream[0] == "-" and upstream[1] in ("127.0.0.1:8001", "127.0.0.1:8002")


def test_text_is_compressed(stack):
    plain, small = (fetch(stack, "/static/admin/css/base.css", Accept_Encoding=encoding) for encoding in ("identity", "gzip"))
    assert small.getheader("Content-Encoding") == "gzip" and len(small.body) < len(plain.body) / 2


# Limits and headers


def test_login_is_limited_while_the_rest_goes_on(stack):
    """5 a minute and 2 at once: of eight in a row three at most reach the application."""
    answers = [fetch(stack, "/accounts/login/", "POST") for _ in range(8)]
    limited = [answer for answer in answers if answer.status == 429]
    assert len(limited) >= 5, [answer.status for answer in answers]
    assert {tuple(answer.msg.get_all("Retry-After")) for answer in limited} == {("12",)}
    assert {answer.status for answer in answers} <= {403, 429}  # without its CSRF token a login is refused, too
    for path in ("/", "/version/", "/accounts/login/", "/health/simple/", "/api/heartbeat/", "/static/probe/site.css"):
        assert stack.get(path)[0] == 200, path


def test_other_paths_are_limited_later(stack):
    """The general limit is 10 a second, 40 at once: a page's worth of requests passes."""
    begin = time.monotonic()
    assert {stack.get("/version/")[0] for _ in range(20)} == {200}
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("path", ["/", "/version/", "/accounts/login/", "/health/simple/", "/nothing/here", "/static/probe/site.css", "/static/nothing"])
def test_security_headers_are_there_once(stack, path):
    answer = fetch(stack, path)
    assert answer.status == (404 if "nothing" in path else 200)
    names = ("Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Permissions-Policy", "Content-Security-Policy")
    values = {name: answer.msg.get_all(name) for name in names}
    assert {name: len(found or []) for name, found in values.items()} == dict.fromkeys(names, 1)
    assert values["Strict-Transport-Security"] == [HSTS]
    assert values["X-Content-Type-Options"] == ["nosniff"]
    assert values["X-Frame-Options"] == ["DENY"]
    assert values["Referrer-Policy"][0] in ("same-origin", "strict-origin-when-cross-origin")
    policy = dict(part.strip().split(" ", 1) for part in values["Content-Security-Policy"][0].split(";"))
    if answer.status == 200:
        assert policy == POLICY
    assert policy["default-src"] in ("'self'", "'none'") and "unsafe-eval" not in str(policy) and "unsafe-inline" not in policy.get("script-src", "")
    assert answer.getheader("Server") == "nginx"
    assert answer.getheader("X-Powered-By") is None


def test_a_health_check_leaves_no_line_in_the_journal(stack):
    """Podman reads what role podman sets for it; asked to write the line all the same, it does."""
    wanted = "/run/health-events.conf"
    stack.sh(f"printf '[engine]\nhealthcheck_events = true\n' >{wanted}")
    try:
        counted = [lines_of_a_check(stack, words) for words in ([], [f"CONTAINERS_CONF_OVERRIDE={wanted}"])]
    finally:
        stack.sh(f"rm {wanted}")
    assert counted == [0, 1]


def lines_of_a_check(stack, words):
    begin = stack.sh("date +@%s.%N").strip()
    stack.user("env", *words, "podman", "healthcheck", "run", "postgres")
    stack.sh("journalctl --sync")
    # By the field that Podman sets itself: the name of a process that has ended is often not in the journal any more.
    # Checks that Podman starts itself in this second leave no line either
    return len(stack.sh(f"journalctl --since {begin} --output=cat PODMAN_EVENT=health_status").splitlines())
