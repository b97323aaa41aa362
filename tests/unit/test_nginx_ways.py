"""Further ways to an application: several WebSocket paths, streams, aliases that lead on, TLS that ends before this host."""
import socket
import ssl
import time

import pytest
from nginx_door import DOMAIN, door, needs_nginx, rendered

UNLIMITED = {"nginx_rate_limit_exempt_networks": ["127.0.0.0/8"]}
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"


def spoken(site, path, headers=""):
    """The first line of an answer, and the seconds until the first piece of what comes after its header."""
    raw = socket.create_connection(("127.0.0.1", site.https), 10)
    began = time.monotonic()
    with ssl._create_unverified_context().wrap_socket(raw, server_hostname=DOMAIN) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {DOMAIN}\r\n{headers}\r\n".encode())
        lines = stream.makefile("rb")
        first = lines.readline().decode().strip()
        while lines.readline().strip():
            pass
        if " 101 " not in first:
            lines.read(1)
        return first, time.monotonic() - began


@needs_nginx
def test_several_paths_take_websockets_and_no_others(tmp_path):
    with door(tmp_path, nginx_websocket_paths=["/ws/", "/chat/live/"]) as site:
        for path in ("/ws/x", "/chat/live/x"):
            assert spoken(site, path, UPGRADE)[0] == "HTTP/1.1 101 Switching Protocols"
        for path in ("/chat/", "/other/"):
            assert spoken(site, path, UPGRADE)[0] == "HTTP/1.1 200 OK"


@needs_nginx
def test_without_websockets_nothing_is_upgraded(tmp_path):
    with door(tmp_path, nginx_websocket_paths=[]) as site:
        assert spoken(site, "/ws/x", UPGRADE)[0] == "HTTP/1.1 200 OK"


@needs_nginx
def test_events_come_as_they_happen_where_that_is_asked_for(tmp_path):
    with door(tmp_path, nginx_unbuffered_paths=["/events"], **UNLIMITED) as site:
        assert spoken(site, "/events/all")[1] < 0.45
        assert b"data: 2" in site.ask("/events/all").body


@needs_nginx
def test_aliases_lead_to_the_name_of_the_site(tmp_path):
    inputs = {"senex_domain_aliases": ["senex.test", "old.senex.test"]}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with door(tmp_path / "a", nginx_redirect_aliases="yes", **inputs) as site:
        for alias in inputs["senex_domain_aliases"]:
            answer = site.ask("/a?b=c", host=alias)
            assert (answer.status, answer.headers["location"]) == (301, f"https://{DOMAIN}/a?b=c")
            assert answer.headers["strict-transport-security"] == "max-age=63072000"
        assert site.ask("/a").status == 200
    with door(tmp_path / "b", **inputs) as site:
        assert site.ask("/a", host="senex.test").status == 200, "as before, where nobody asked for it"


def test_the_sites_own_name_among_the_aliases_is_not_led_in_a_circle():
    text = rendered("site.conf.j2", senex_domain_aliases=[DOMAIN], nginx_redirect_aliases=True)
    assert "return 301 https://www" not in text


@pytest.mark.parametrize(("subdomains", "preload", "value"), [
    (False, False, "max-age=63072000"), (True, False, "max-age=63072000; includeSubDomains"), (True, True, "max-age=63072000; includeSubDomains; preload"),
])
def test_hsts(subdomains, preload, value):
    assert f'Strict-Transport-Security "{value}" always' in rendered("site.conf.j2", nginx_hsts_include_subdomains=subdomains, nginx_hsts_preload=preload)
