"""The page in a real browser: Chromium, driven over its own protocol."""

import base64
import hashlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from stack import DOMAIN, ROOT
from websockets.sync.client import connect

ARTIFACTS = ROOT / "artifacts"
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--no-proxy-server", "--remote-debugging-port=0", "--window-size=1000,700",
]  # fmt: skip


class Browser:
    """One tab: calls, and every event that came meanwhile."""

    def __init__(self, socket):
        self.socket, self.number, self.events = socket, 0, []

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=20))
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression, seconds=15):
        """Until the expression is true; what it last gave."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {expression}; the page reads: {self.text()}; {self.complaints()}"
            time.sleep(0.1)
        return value

    def text(self):
        return self.evaluate("document.body.innerText")

    def of(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def complaints(self):
        """Whatever a developer would see in red or yellow, refusals by the security policy first."""
        issues = [i["issue"]["details"] for i in self.of("Audits.issueAdded") if i["issue"]["code"] == "ContentSecurityPolicyIssue"]
        entries = [e["entry"]["text"] for e in self.of("Log.entryAdded") if e["entry"]["level"] in ("error", "warning")]
        written = [c["args"] for c in self.of("Runtime.consoleAPICalled") if c["type"] in ("error", "warning", "assert")]
        thrown = [t["exceptionDetails"]["text"] for t in self.of("Runtime.exceptionThrown")]
        return issues + entries + written + thrown

    def policy_complaints(self):
        return [c for c in self.complaints() if "ontent" in str(c) and "ecurity" in str(c)]


@contextmanager
def chromium(profile, *flags):
    program = shutil.which("chromium") or pytest.fail("chromium is not installed; tests/run installs it")
    errors = profile.parent / "chromium.log"
    with open(errors, "wb") as log:
        process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        active, deadline = profile / "DevToolsActivePort", time.monotonic() + 30
        while not (active.exists() and active.read_text(encoding="utf-8").count("\n")):
            assert process.poll() is None and time.monotonic() < deadline, errors.read_text(encoding="utf-8", errors="replace")[-2000:]
            time.sleep(0.1)
        port = active.read_text(encoding="utf-8").split()[0]
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def leaf_key(stack):
    """The site's public key as Chromium wants it named, from a connection that the environment's authority vouches for."""
    with socket.create_connection((stack.address, 443), timeout=10) as plain, stack.context.wrap_socket(plain, server_hostname=DOMAIN) as secure:
        key = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).public_key()
    return base64.b64encode(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()).decode()


@pytest.fixture(scope="module")
def browser(stack, tmp_path_factory):
    flags = [
        f"--host-resolver-rules=MAP {DOMAIN} {stack.address}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        # Of the certificate errors only the unknown authority of this one key is passed over; the key is that of a verified connection.
        f"--ignore-certificate-errors-spki-list={leaf_key(stack)}",
    ]
    with chromium(tmp_path_factory.mktemp("chromium") / "profile", *flags) as port:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        with connect(page["webSocketDebuggerUrl"], max_size=None, compression=None, proxy=None) as tab:
            browser = Browser(tab)
            for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
                browser.call(f"{domain}.enable")
            browser.call("Page.navigate", url=f"http://{DOMAIN}/")
            browser.wait("document.readyState == 'complete'")
            yield browser


def test_page_comes_over_https_and_http2(browser, stack):
    page = [r["response"] for r in browser.of("Network.responseReceived") if r["type"] == "Document"][-1]
    assert (page["url"], page["status"], page["protocol"]) == (f"https://{DOMAIN}/", 200, "h2")
    assert page["securityDetails"]["protocol"] == "TLS 1.3"


def test_everything_the_page_needs_arrives(browser):
    browser.wait("document.getElementById('heartbeat').textContent.endsWith('s ago')")
    answers = [r["response"] for r in browser.of("Network.responseReceived")]
    assert {"site.js", "site.css"} <= {a["url"].rsplit("/", 1)[-1].split(".")[0] + "." + a["url"].rsplit(".", 1)[-1] for a in answers}
    assert [a["url"] for a in answers if a["status"] >= 400] == []
    assert [f for f in browser.of("Network.loadingFailed") if not f.get("canceled")] == []
    # Of the style sheet, not of the browser: the sheet was applied
    assert browser.evaluate("[...document.styleSheets].reduce((n, sheet) => n + sheet.cssRules.length, 0)") > 0


def test_websocket_is_live(browser):
    browser.wait("document.getElementById('ws').textContent == 'live'")
    assert browser.evaluate("document.getElementById('ws-instance').textContent").strip("()").startswith("web-")


def test_task_run_by_button_gives_its_result(browser):
    browser.wait("document.getElementById('ws').textContent == 'live'")
    browser.evaluate("document.getElementById('task').click()")
    browser.wait("document.getElementById('task-result').textContent == 'SUCCESS: 42'", seconds=20)


def test_broadcast_comes_back_to_the_page(browser):
    """Pressed until it does: the page does not show when its second socket is up."""
    press = "document.getElementById('broadcast').click()"
    shown = "document.getElementById('broadcast-result').textContent.includes('from web-')"
    browser.wait(f"({press}, new Promise((done) => setTimeout(() => done({shown}), 500)))")


def test_screenshot(browser):
    """Kept for a person to look at; here only that something was drawn."""
    browser.wait("document.getElementById('ws').textContent == 'live'")
    picture = base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / "demo-page.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000


def test_browser_has_nothing_to_complain_of(browser):
    browser.wait("document.getElementById('heartbeat').textContent.endsWith('s ago')")
    assert browser.complaints() == []


def test_security_policy_is_enforced_and_noticed(browser):
    """A script in the page does not run. It is also the proof that a complaint would have been seen above."""
    browser.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.injected = 1'}))")
    browser.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert browser.evaluate("window.injected === undefined")
    assert browser.policy_complaints() != []
