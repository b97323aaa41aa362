"""What golive says of a start page, asked of a real nginx with the role's configuration and an application behind it."""

import nginx_door
import pytest
from nginx_door import DOMAIN, door, needs_nginx
from watched import SETTINGS, settings

from senex_ops import golive_page  # isort: skip
from senex_ops.findings import WARN  # isort: skip

APPLICATION = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = b"<!doctype html><style>a {}</style><img src='data:image/png;base64,AA'>"
        self.send_response(200)
        for name, value in (("Content-Type", "text/html"), ("Content-Length", str(len(page)))):
            self.send_header(name, value)
        if self.path == "/own/":
            self.send_header("Content-Security-Policy", "img-src 'none'")
        self.end_headers()
        self.wfile.write(page)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""


@needs_nginx
@pytest.mark.parametrize(
    ("path", "key", "whose"),
    [("/", "page style-src", "nginx_content_security_policy"), ("/own/", "page img-src", "the application's own Content-Security-Policy")],
)
def test_the_policy_in_force_is_the_one_that_is_judged(tmp_path, monkeypatch, path, key, whose):
    (tmp_path / "application.py").write_text(APPLICATION, encoding="utf-8")
    monkeypatch.setattr(nginx_door, "UPSTREAM", tmp_path / "application.py")
    monkeypatch.setattr(golive_page, "START", path)
    with door(tmp_path, senex_web_instances=1) as site:
        web = {**SETTINGS["web"], "instances": [{"unit": "web-1.service", "address": "127.0.0.1", "port": site.first}]}
        config = settings(public={"domain": DOMAIN, "port": site.https}, web=web)
        (found,) = golive_page.judge_page(golive_page.read_page(None, config), config, 0)
    assert (found.level, found.key) == (WARN, key) and whose in found.says and f"put into {whose}: " in found.do
