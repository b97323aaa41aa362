"""What root writes for the service user: as that user for good, in a process that ends when its time is over."""

import os
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, service_user
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser
from controller import ROOT

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as another user")


@pytest.fixture
def user():
    found = object.__new__(ServiceUser)
    found.name, found.uid, found.gid, found.home = "nobody", NOBODY, NOBODY, "/"
    return found


@pytest.fixture
def place():
    # Not in tmp_path, which is closed to others from above
    with tempfile.TemporaryDirectory() as found:
        os.chown(found, NOBODY, NOBODY)
        yield Path(found)


def test_a_file_system_that_never_answers_holds_a_run_no_longer_than_that(user, monkeypatch):
    monkeypatch.setattr(service_user, "WRITES", 0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0.3 s"):
        user.writes(time.sleep, 30)
    assert time.monotonic() - began < 5


def test_files_and_directories_are_the_users(user, place):
    user.writes(fileset.swap, [(str(place / "config"), b"text", (0o640, NOBODY, NOBODY))])
    user.make_directory(str(place / "deep/data"), 0o750, None, None)
    for name, mode in (("config", 0o640), ("deep/data", 0o750)):
        seen = os.stat(place / name)
        assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o777) == (NOBODY, NOBODY, mode)
    assert sorted(os.listdir(place / "deep")) == ["data"] and (os.geteuid(), os.getegid()) == (0, 0)


def test_nothing_is_read_or_written_that_only_root_may(user, place):
    secret = place / "secret"
    secret.write_bytes(b"x")
    os.chmod(secret, 0o640)
    with pytest.raises(PermissionError):
        user.writes(secret.read_text)
    with pytest.raises(OSError, match=r"[Pp]ermission|has"):
        user.writes(fileset.swap, [("/etc/senex-test", b"x", (0o644, NOBODY, NOBODY))])
    assert not os.path.exists("/etc/senex-test")


def test_a_reason_comes_back_whole(user):
    def full():
        raise OSError(28, "No space left on device", "/there")

    with pytest.raises(OSError, match="No space left on device") as found:
        user.writes(full)
    assert (found.value.errno, found.value.filename) == (28, "/there")


def test_who_is_that_user_already_writes_by_itself(user):
    user.uid, user.gid = os.geteuid(), os.getegid()
    here = []
    user.writes(here.append, 1)
    assert here == [1]


def test_the_page_says_how_long_that_is_and_nothing_writes_otherwise():
    page = (ROOT / "docs/operations/hardening.md").read_text()
    assert f"{service_user.WRITES / 60:.0f} minutes for files that it writes as that user" in page
    engine = "".join(path.read_text() for path in (ROOT / "plugins").rglob("*.py"))
    assert "acting(" not in engine, "no file operation of another user's in the process of root itself, which nothing ends"
