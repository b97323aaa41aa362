"""What a release does on a host before it changes anything: messages of a full disk, and what killed dumps leave."""

import datetime
import hashlib
import os
import pwd
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import service_user
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import pre_deploy, session
from ansible_collections.senex.trader.plugins.module_utils.release import release_steps
from ansible_collections.senex.trader.plugins.modules import release as module


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A service user whose Podman is told what to answer, by its first word."""
    found = ServiceUser(pwd.getpwuid(os.getuid()).pw_name, str(tmp_path))
    answers = {"info": (0, f"{tmp_path}/storage/overlay\n/var/tmp\n", ""), "pull": (125, "", "")}  # noqa: S108
    monkeypatch.setattr(found, "podman", lambda *argv, **_: subprocess.CompletedProcess(argv, *answers[argv[0]]))
    found.answers = answers
    return found


@pytest.mark.parametrize(
    ("said", "word", "other"),
    [
        ("copying layers: write /usr/lib/x.py: no space left on device", "the disk is full: ", "senex_registry_login"),
        ("open /opt/x: disk quota exceeded", "the disk is full: ", "senex_registry_login"),
        ("manifest unknown", "senex_registry_login may read", "the disk is full"),
    ],
)
def test_an_image_that_does_not_come_says_what_to_do(user, said, word, other):
    user.answers["pull"] = (125, "", said)
    with pytest.raises(OSError, match="django_image_tag: the image registry/app:2 cannot be pulled") as raised:
        release_steps.pull(user, "registry/app:2")
    text = str(raised.value)
    assert word in text and other not in text and text.endswith(f"Podman said: {said}")


def test_a_full_disk_is_named_with_what_it_has_though_podman_says_nothing(user, tmp_path, monkeypatch):
    user.answers["info"] = (125, "", "no space left on device")
    nothing = os.statvfs_result((4096, 4096, 250_000, 0, 0, 1000, 0, 0, 0, 255))
    monkeypatch.setattr(service_user.os, "fstatvfs", lambda _descriptor: nothing)
    text = user.cannot_pull("", "registry/app:2", "No space left on device")
    assert f"{tmp_path} has 0 of 1024 MB free and no inode left" in text
    assert f"{tmp_path}/bin/senex-prune-images --keep 1" in text and f"{tmp_path}/backups" in text


def test_the_restore_point_has_the_time_that_a_restore_takes(user, monkeypatch):
    """Text goes from psql into the record, and from there into restore_to."""
    asked = []

    def podman(*argv, **more):
        asked.append((argv, more["stdin"]))
        return subprocess.CompletedProcess(argv, 0, "2026-11-21 12:00:00.123456+00\n", "")

    monkeypatch.setattr(user, "podman", podman)
    made = pre_deploy.restore_point(user, "senex", "senex", "20261121-1200-beef", "postgres")
    assert made == {"restore_point": "20261121-1200-beef", "restore_point_at": "2026-11-21 12:00:00.123456+00"}
    assert "name=20261121-1200-beef" in asked[0][0] and "pg_create_restore_point(:'name')" in asked[0][1]
    assert datetime.datetime.fromisoformat(made["restore_point_at"]).utcoffset() == datetime.timedelta(0)


IMAGE = "ab" * 32


@pytest.fixture
def storage(user, monkeypatch, tmp_path):
    """Local images of the user, {name or id: id}, and an archive."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"layers")
    images, log = {}, []

    def podman(*argv, stdin=None, **_):
        log.append(argv[0] if argv[0] != "image" else "inspect")
        out, code = "", 0
        match argv:
            case ["image", "inspect", "--format", _, name]:
                code, out = (0, f"{images[name]} sha256:d" if "Digest" in argv[3] else images[name]) if name in images else (125, "")
            case ["load", *_]:
                images[images["next"]] = images["next"]
                assert stdin.read() == b"layers", "from its beginning"
            case ["tag", image, name]:
                images[name] = images[image]
            case ["ps", *_]:
                out = "[]"
        return subprocess.CompletedProcess(argv, code, out, "")

    monkeypatch.setattr(user, "podman", podman)
    images["next"] = IMAGE
    wanted = {"image": IMAGE, "sha256": hashlib.sha256(b"layers").hexdigest(), "bytes": 6}
    return images, log, wanted, str(archive)


def test_an_image_comes_from_an_archive_where_it_is_missing(user, storage):
    images, log, wanted, archive = storage
    assert release_steps.load(user, "r/app:1", wanted) == {"missing": True} and "load" not in log
    made = release_steps.load(user, "r/app:1", wanted, archive)
    assert made == {"changed": True, "image": IMAGE, "digest": "sha256:d", "running": {}} and images["r/app:1"] == IMAGE
    log.clear()
    assert release_steps.load(user, "r/app:1", wanted, archive)["changed"] is False and not {"load", "tag"} & set(log)
    assert release_steps.load(user, "r/app:again", wanted)["changed"] and "load" not in log, "the same image by another name needs no copy"


def test_another_image_of_that_name_gives_way(user, storage):
    images, _log, wanted, archive = storage
    images["r/app:1"] = "cd" * 32
    assert release_steps.load(user, "r/app:1", wanted) == {"missing": True}
    assert release_steps.load(user, "r/app:1", wanted, archive)["image"] == IMAGE


def test_what_arrives_is_what_was_sent(user, storage):
    images, log, wanted, archive = storage
    with pytest.raises(OSError, match="arrived damaged"):
        release_steps.load(user, "r/app:1", {**wanted, "sha256": "0" * 64}, archive)
    assert "load" not in log
    images["next"] = "cd" * 32
    with pytest.raises(OSError, match="the archive gave another image than abababababab"):
        release_steps.load(user, "r/app:1", wanted, archive)
    assert "r/app:1" not in images


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_a_file_can_be_a_commands_input(user, tmp_path):
    (tmp_path / "in").write_bytes(bytes(range(256)))
    with open(tmp_path / "in", "rb") as handle:
        assert ServiceUser.run(user, ["wc", "-c"], stdin=handle).stdout.strip() == "256"
    assert ServiceUser.run(user, ["wc", "-c"], stdin="x").stdout.strip() == "1"


CONTAINER = {name: "x" for name in ("network", "env_file", "user", "image")} | {"dns_options": [], "volumes": [], "manage": [], "timeout": 1}
SAID = f'{release_steps.MARK}{{"undone": ["a.0003"], "back": ["a.0004"], "failed": "it ended before it was done"}}\n'


@pytest.mark.parametrize(
    ("code", "out", "err", "undone", "failed"),
    [
        (0, f'{SAID}{release_steps.MARK}{{"undone": ["a.0003", "a.0002"], "back": ["a.0004"], "failed": ""}}\n', "", ["a.0003", "a.0002"], ""),
        (0, SAID, "", ["a.0003"], "it ended before it was done"),
        (137, SAID, "killed", ["a.0003"], "it ended with 137: killed"),
        (124, "", "no end after 900 s", [], "it ended with 124: no end after 900 s"),
        (0, f"{release_steps.MARK}[1]\n", "", [], "it ended with 0: "),
    ],
)
def test_what_was_taken_back_is_told_also_where_the_rest_was_not(user, monkeypatch, code, out, err, undone, failed):
    """And what did not end in time is ended before anything else is done."""
    asked = []
    monkeypatch.setattr(user, "podman", lambda *argv, **_: asked.append(argv[0]) or subprocess.CompletedProcess(argv, code, out, err))
    found = release_steps.undo(user, CONTAINER, "")
    assert found["undone"] == undone and found["failed"].startswith(failed) and bool(found["failed"]) is bool(failed)
    assert asked == ["secret", "run", *(["rm"] if code == 124 else [])]


def test_what_plans_has_the_files_that_the_hosts_environment_names(user, monkeypatch):
    asked = []
    listed = "environment_DB_PASSWORD\nredis_auth\nenvironment_\nenvironment_../../x\nenvironment_SECRET_KEY\n"

    def podman(*argv, **_):
        asked.append(argv)
        return subprocess.CompletedProcess(argv, 0, listed if argv[0] == "secret" else f"{release_steps.MARK}{{}}\n", "")

    monkeypatch.setattr(user, "podman", podman)
    assert release_steps.plan(user, CONTAINER | {"user": 1000}, "") == {}
    assert [word for word in asked[-1] if word.startswith("--secret=")] == [
        f"--secret=environment_{name},type=mount,target=/run/secrets/{name},uid=1000,gid=1000,mode=0400" for name in ("DB_PASSWORD", "SECRET_KEY")
    ]


def test_an_undo_that_failed_says_so_with_what_it_did(user, monkeypatch):
    given = {"step": "undo", "user": user.name, "home": user.home, "container": CONTAINER, "script": ""}
    monkeypatch.setattr(user, "check_manager", lambda: None)
    monkeypatch.setattr(user, "podman", lambda *argv, **_: subprocess.CompletedProcess(argv, 0, SAID, ""))
    monkeypatch.setattr(module, "ServiceUser", lambda *_: user)
    answer = module.work(given)
    assert answer == {"changed": True, "undone": ["a.0003"], "back": ["a.0004"], "trouble": "it ended before it was done"}


def test_a_restore_point_is_made_by_postgresqls_own_functions():
    """The superuser's session is in the application's database, whose owner may have set a search path."""
    said = []

    class User:
        def podman(self, *words, **_):
            said.extend(words)
            return subprocess.CompletedProcess(words, 0, "2026-01-02 03:04:05.678901+00\n", "")

    pre_deploy.restore_point(User(), "senex", "postgres", "r", "postgres")
    assert said[said.index("-d") + 1] == session.target("senex")
