"""What the keys of a bucket are for restic, which reads them from a file: what they are in the inventory."""

import http.server
import re
import shutil
import subprocess
import threading

import pytest
from rendered import component
from test_input_checks import GIVEN, refusal

OFFSITE = {**GIVEN, "backup_offsite_repository": "s3:https://s3.senex.test/bucket/path", "backup_passphrase": "p" * 20}
KEYS = ["AKIA0123456789", "ab+c/d==", "ab#cd", "ab;cd", '"abcd"', "'abcd'", "abcd\\", 'a"b=c', "ab%(x)scd", "$HOME", "äb"]


def written(key):
    files = component("backup", **{**OFFSITE, "backup_offsite_access_key": key, "backup_offsite_secret_key": key})[0]
    return files["config/backup/s3-credentials"][0]


class Bucket(http.server.BaseHTTPRequestHandler):
    """Refuses everybody, and keeps who came."""

    seen: list = []

    def do_GET(self):
        self.seen.append(self.headers.get("Authorization", ""))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *words):
        """Nothing."""


@pytest.mark.skipif(not shutil.which("restic"), reason="restic is not installed here")
@pytest.mark.parametrize("key", KEYS)
def test_restic_comes_with_the_key(tmp_path, key):
    (tmp_path / "keys").write_text(written(key))
    Bucket.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RESTIC_PASSWORD": "x", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"),
                   "RESTIC_REPOSITORY": f"s3:http://127.0.0.1:{server.server_address[1]}/bucket/path"}  # fmt: skip
    running = subprocess.Popen([shutil.which("restic"), "--no-cache", "cat", "config"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        running.wait(20)
    except subprocess.TimeoutExpired:
        running.kill()
    finally:
        server.shutdown()
    assert Bucket.seen and re.search(r"Credential=(.*?)/\d{8}/", Bucket.seen[0].encode("latin-1").decode())[1] == key


def test_what_needs_no_quotation_is_written_as_before():
    assert written("ab+c/d==") == "[default]\naws_access_key_id = ab+c/d==\naws_secret_access_key = ab+c/d==\n"


def test_a_backtick_ends_the_quotation():
    for key, good in (("a`b", False), ("a b", False), ("a#b", True)):
        found = refusal("backup", **{**OFFSITE, "backup_offsite_access_key": key, "backup_offsite_secret_key": "x" * 20})
        assert found.startswith("backup_offsite_access_key, backup_offsite_secret_key: one of them holds") is not good, found
