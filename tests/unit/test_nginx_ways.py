"""Further ways to an application: several WebSocket paths, streams, aliases that lead on, TLS that ends before this host."""

import http.client
import socket
import ssl
import time

import pytest
from nginx_door import DOMAIN, door, evaluated, needs_nginx, rendered

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
    with door(tmp_path, nginx_websocket_paths=["/ws/", "/chat/live/", "/live", "/a.b/c"], nginx_unbuffered_paths=["/ws/events"]) as site:
        for path in ("/ws/x", "/chat/live/x", "/live", "/live?room=1", "/a.b/c"):
            assert spoken(site, path, UPGRADE)[0] == "HTTP/1.1 101 Switching Protocols"
        for path in ("/chat/", "/other/", "/live/", "/lively", "/live/x", "/x/live", "/a-b/c", "/live%0A", "/ws/events/x"):
            assert spoken(site, path, UPGRADE)[0] == "HTTP/1.1 200 OK"
        # A client writes what it likes: neither another path's upgrade, nor past what is asked of an upgrade, nor uncounted among the other requests
        for word in ("websocket:/ws/", "WebSocket:/live", "1:/ws/", "websocket\x01", "a:websocket"):
            assert spoken(site, "/other/", UPGRADE.replace("websocket", word))[0] != "HTTP/1.1 101 Switching Protocols", word
        assert spoken(site, "/ws/x", UPGRADE.replace("websocket", "WebSocket"))[0] == "HTTP/1.1 101 Switching Protocols"


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


@pytest.mark.parametrize(
    ("subdomains", "preload", "value"),
    [
        (False, False, "max-age=63072000"),
        (True, False, "max-age=63072000; includeSubDomains"),
        (True, True, "max-age=63072000; includeSubDomains; preload"),
    ],
)
def test_hsts(subdomains, preload, value):
    assert f'Strict-Transport-Security "{value}" always' in rendered("site.conf.j2", nginx_hsts_include_subdomains=subdomains, nginx_hsts_preload=preload)


BALANCER, STRANGER = "127.0.0.7", "127.0.0.8"
HTTPS = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
MOUNTED = {"Daphne-Root-Path": "/x", "X-Forwarded-Prefix": "/x", "X-Script-Name": "/x"}


@needs_nginx
def test_tls_that_ends_at_a_load_balancer(tmp_path):
    with door(tmp_path, nginx_tls_mode="upstream", nginx_trusted_proxies=["127.0.0.7/32"], senex_domain_aliases=["senex.test"]) as site:
        answer = site.ask("/a", source=BALANCER, headers=HTTPS, tls=False)
        assert answer.status == 200
        seen = answer.json["headers"]
        assert (seen["X-Forwarded-Proto"], seen["X-Forwarded-For"], seen["Host"]) == ("https", "203.0.113.9", DOMAIN)
        assert answer.headers["strict-transport-security"] == "max-age=63072000"
        for source, headers in ((BALANCER, HTTPS | {"X-Forwarded-Proto": "http"}), (BALANCER, {}), (STRANGER, HTTPS)):
            redirected = site.ask("/a?b=c", source=source, headers=headers, tls=False)
            assert (redirected.status, redirected.headers["location"]) == (301, f"https://{DOMAIN}/a?b=c")
        assert site.ask("/a", source=BALANCER, headers=HTTPS, tls=False, host="senex.test").status == 200
        for path in ("/a", "/health/simple/"):
            spoofed = site.ask(path, source=STRANGER, headers=HTTPS | MOUNTED)
            assert spoofed.status == 200 and spoofed.json["headers"]["X-Forwarded-For"] == STRANGER, "by HTTPS to this host all is as ever"
            assert not set(MOUNTED) & set(spoofed.json["headers"]), "a client would have nginx' limits and refusals look at other paths than the application"


@needs_nginx
def test_a_load_balancers_health_check_is_answered_by_address(tmp_path):
    with door(tmp_path, nginx_tls_mode="upstream", nginx_trusted_proxies=["127.0.0.7/32"]) as site:
        for host in ("10.0.0.5", DOMAIN):
            answer = site.ask("/health/simple/", source=BALANCER, tls=False, host=host)
            assert answer.status == 200 and answer.json["headers"]["Host"] == DOMAIN and answer.json["headers"]["X-Forwarded-Proto"] == "https"
        for source, path in ((STRANGER, "/health/simple/"), (BALANCER, "/a")):
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                site.ask(path, source=source, tls=False, host="10.0.0.5")
        for process in site.processes[:2]:
            process.kill()
            process.wait()
        assert {site.ask("/health/simple/", source=BALANCER, tls=False, host=host).status for host in ("10.0.0.5", DOMAIN)} == {502}


def test_behind_a_load_balancer_its_networks_have_to_be_named():
    problems = evaluated("__nginx_input_problems", nginx_tls_mode="upstream")
    assert len(problems) == 1 and problems[0].startswith("nginx_trusted_proxies:")
    assert evaluated("__nginx_tls_file", nginx_tls_mode="upstream").endswith("/ownca")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "10.0.0.0/0"])
def test_not_everybody_is_a_load_balancer(network):
    """Whoever is believed is counted and logged as the address that they send."""
    problems = evaluated("__nginx_input_problems", nginx_trusted_proxies=["10.0.0.0/24", network])
    assert len(problems) == 1 and problems[0].startswith(f"nginx_trusted_proxies: {network} is every address")


@needs_nginx
def test_elsewhere_nobodys_forwarded_scheme_is_believed(tmp_path):
    with door(tmp_path, nginx_trusted_proxies=["127.0.0.7/32"]) as site:
        assert site.ask("/a", source=BALANCER, headers=HTTPS, tls=False).status == 301


def test_names_keep_their_order():
    """Sets of text have another one in each process, and nginx would be reloaded with each run."""
    aliases = [f"{letter}.senex.test" for letter in "zyxabc"]
    for redirect in (True, False):
        text = rendered("site.conf.j2", senex_domain_aliases=[*aliases, aliases[0]], nginx_redirect_aliases=redirect)
        assert f"server_name {'' if redirect else DOMAIN + ' '}{' '.join(aliases)};" in text
    asked = evaluated("__nginx_asked", senex_domain_aliases=aliases, __nginx_nowhere={"stdout_lines": ["x.senex.test"]})
    assert asked == [DOMAIN, *(alias for alias in aliases if alias[0] != "x")]
