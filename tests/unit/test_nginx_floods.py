"""One client that asks for much and reads nothing, or writes much into the log, takes nothing from the others."""

import base64
import contextlib
import os
import pathlib
import re
import subprocess
import time

from http2 import END_HEADERS, INDEXED_62, Greedy, text
from nginx_door import DOMAIN, door, needs_nginx, rendered, written
from watched import senex_ops as senex_ops  # noqa: PLC0414  (it puts the modules on their path)

from senex_ops import checks_site  # isort: skip

GZIP = b"\x0f\x01" + text(b"gzip")  # accept-encoding


def workers(site):
    return subprocess.run(["pgrep", "--parent", str(site.processes[-1].pid)], capture_output=True, text=True, check=True).stdout.split()


def held(site, name):
    """How many files of this name nginx has open."""
    found = 0
    for pid in workers(site):
        for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += os.readlink(link).endswith(name)
    return found


def sizes(site, folder):
    """Of the files there that nginx has open; they have no names any more."""
    links = [link for pid in workers(site) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    return [link.stat().st_size for link in links if os.readlink(link).startswith(folder)]


def memory(site):
    """MB that are nginx's own."""
    return sum(int(re.search(r"^RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]) for pid in workers(site)) // 1024


@contextlib.contextmanager
def greedy(site, connections):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Greedy(site.https, DOMAIN))) for _ in range(connections)]


@needs_nginx
def test_streams_that_nobody_reads_hold_few_files(tmp_path):
    """128 streams in each of 512 connections would be all files that two workers may have open."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static/a.js").write_text("var a = 1;\n" * 30000)
    inputs = {"nginx_static_directory": f"{tmp_path}/static", "nginx_worker_connections": 1024, "nginx_source_requests": 20}
    with door(tmp_path, **inputs) as site, greedy(site, 8) as clients:
        for client in clients:
            for _ in range(120):
                client.get("/static/a.js", GZIP)
        time.sleep(1)
        assert 0 < held(site, "/static/a.js") <= 20 and held(site, "/429.html") <= 8 * 32
        assert site.ask("/static/a.js", source="127.0.0.9", timeout=5).status == 200


@needs_nginx
def test_headers_that_are_a_byte_each_hold_little_memory(tmp_path):
    """4 kB of a header are a byte where the client has had the server remember them."""
    with door(tmp_path, nginx_worker_connections=1024) as site, greedy(site, 10) as clients:
        before = memory(site)
        for client in clients:
            client.get("/", b"\x40" + text(b"x") + text(b"v" * 4000))
            for _ in range(126):
                client.get("/", INDEXED_62 * 15)
        time.sleep(1)
        assert memory(site) - before < 30
        assert site.ask("/", source="127.0.0.9", timeout=5).status == 200


@needs_nginx
def test_static_files_and_uploads_have_a_rate(tmp_path):
    for name in ("static", "media"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_text("a")
    inputs = {"nginx_static_rate": "1r/m", "nginx_static_burst": 3, "nginx_rate_limit_exempt_networks": ["127.0.0.8"]}
    with door(tmp_path, nginx_static_directory=f"{tmp_path}/static", nginx_media_directory=f"{tmp_path}/media", **inputs) as site:
        assert site.statuses(6, "/static/a.png", source="127.0.0.9") == [200] * 4 + [429] * 2
        assert site.ask("/media/a.png", source="127.0.0.9").status == 429, "counted together"
        (tmp_path / "run/nginx-closing").touch()
        assert site.statuses(6, "/media/a.png", source="127.0.0.10") == [200] * 4 + [429] * 2, "while a reload is announced too"
        assert site.statuses(6, "/static/a.png", source="127.0.0.8") == [200] * 6 and site.ask("/page", source="127.0.0.9").status == 200


@needs_nginx
def test_whatever_is_in_a_request_its_line_in_the_log_is_short(tmp_path):
    """What nginx writes as four characters counts as four, and a user's name may have line ends."""
    odd = "\x02" * 6000
    with door(tmp_path) as site:
        for name in ("\n" + odd, odd, "x" * 3000 + "\n"):
            credentials = base64.b64encode(f"{name}:y".encode()).decode()
            site.ask("/" + '"' * 5000, headers={"User-Agent": "\xe9" * 5000, "Referer": "\\" * 5000, "Authorization": f"Basic {credentials}"})
        site.ask("/whole", headers={"User-Agent": "\xe9", "Referer": "x" * 300, "Authorization": f"Basic {base64.b64encode(b'me:y').decode()}"})
        time.sleep(0.2)
        *cut, whole = (tmp_path / "access.log").read_text().splitlines()
        assert len(cut) == 3 and max(map(len, cut)) < 2500, [len(line) for line in cut]
        assert all(checks_site.LINE.fullmatch(line) for line in (*cut, whole))
        assert " - me [" in whole and f'"{"x" * 300}" "\\xE9"' in whole


def test_a_full_log_is_seen_within_a_minute():
    assert "OnUnitActiveSec=1min\n" in rendered("logs.timer.j2")


def test_what_nginx_may_hold_is_not_all_of_the_host():
    unit = rendered("nginx.service.conf.j2")
    assert "MemoryMax=25%\n" in unit and "OOMPolicy=continue\n" in unit


@needs_nginx
def test_an_answer_that_nobody_reads_takes_so_much_of_the_disk_and_no_more(tmp_path):
    with door(tmp_path, nginx_proxy_max_temp_file_size="512k") as site, greedy(site, 1) as (client,):
        for _ in range(4):
            client.get(f"/large?{8 << 20}")
        time.sleep(1)
        kept = sizes(site, f"{tmp_path}/temporary/")
        assert len(kept) == 4 and max(kept) <= 512 << 10, kept
        assert len(site.ask(f"/large?{8 << 20}", source="127.0.0.9").body) == 8 << 20, "whoever reads gets all of it"


@needs_nginx
def test_a_body_that_does_not_come_counts_as_a_request_whatever_its_form(tmp_path):
    """A GET of HTTP/2 whose stream stays open, and has no Content-Length."""
    with door(tmp_path, nginx_source_requests=3) as site:
        with greedy(site, 1) as (client,):
            for _ in range(5):
                client.get("/page", flags=END_HEADERS)
            time.sleep(1)
        time.sleep(0.5)
        said = [re.search(r" (\d+) 0 .* conn=(\w+)", line).groups() for line in (tmp_path / "access.log").read_text().splitlines()]
        assert said == [("499", "PASSED")] * 3 + [("429", "REJECTED")] * 2


@needs_nginx
def test_there_is_room_for_more_variables(tmp_path):
    """Those of locations of one's own; else nginx warns at each start, and looks longer for each."""
    main = written(tmp_path)
    (tmp_path / "site.d/own.conf").write_text("".join(f"set $own_variable_{number} x;\n" for number in range(150)))
    done = subprocess.run(["nginx", "-t", "-p", tmp_path, "-c", main], capture_output=True, text=True, check=True)
    assert "variables_hash" not in done.stderr
