"""What a release does on a host before it changes anything: messages of a full disk, and what killed dumps leave."""

import datetime
import hashlib
import json
import os
import pwd
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import confined, service_user
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
                code, out = (0, images[name]) if name in images else (125, "")
            case ["image", "inspect", name]:
                out = json.dumps([{"Id": images[name], "Digest": "sha256:d", "Created": "2026-11-29T19:02:42.845725346Z", "RepoDigests": []}])
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
    assert made == {"changed": True, "image": IMAGE, "digest": "sha256:d", "built": "2026-11-29T19:02:42Z", "running": {}} and images["r/app:1"] == IMAGE
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


# A unit such as the action plugin renders
UNIT = """[Container]
Image=r/app:2
User=1000
EnvironmentFile=/home/x/.env
Volume=/etc/passwd:/run/senex/ca.crt:ro
Volume=/nowhere/data/static/2:/app/static
ReadOnly=true
Tmpfs=/tmp:rw,mode=1777
Secret=key,type=mount,target=/run/secrets/KEY
Secret=next,type=mount,target=/run/secrets/NEXT
Exec=./m shell --command "exec(1)"

[Service]
TasksMax=64
MemoryMax=512M
MemoryHigh=460M
"""
CONTAINER = {"image": "r/app:2", "network": "net", "unit": UNIT, "timeout": 1, "environment": {"PLAN_UNDO": '["a.0004", "a.0003", "a.0002"]', "COST": "$5"}}
SAID = f'{release_steps.MARK}{{"undone": ["a.0003"], "back": ["a.0004"], "failed": "it ended before it was done"}}\n'


@pytest.fixture
def shell(user, monkeypatch):
    """What Podman's and systemd's programs are asked for a script, and what the script answers."""
    asked = []
    answer = {"code": 0, "out": "", "err": "", "secrets": "key\nother\n"}

    def run(argv, **_):
        asked.append(argv)
        of_script = "run" in argv
        if argv[:3] == ["podman", "secret", "ls"]:
            return subprocess.CompletedProcess(argv, 0, answer["secrets"], "")
        return subprocess.CompletedProcess(argv, answer["code"] if of_script else 0, answer["out"] if of_script else "", answer["err"])

    monkeypatch.setattr(user, "podman", lambda *words, **_: run(["podman", *words]))
    monkeypatch.setattr(user, "run", run)
    monkeypatch.setattr(user, "check_manager", lambda: None)
    return asked, answer


def test_a_script_of_a_release_has_what_the_unit_has(user, shell):
    asked, answer = shell
    answer["out"] = release_steps.MARK + "{}"
    release_steps.plan(user, CONTAINER, "script")
    (words,) = [argv for argv in asked if "run" in argv]
    limits, inside = words[: words.index("--")], words[words.index("--") + 1 :]
    assert {"--property=TasksMax=64", "--property=MemoryMax=512M", "--property=MemoryHigh=460M", "--property=Delegate=yes", "--collect"} <= set(limits)
    assert {"--read-only", "--user=1000", "--tmpfs=/tmp:rw,mode=1777", "--cgroups=split", *confined.OPTIONS} <= set(inside)
    pairs = list(zip(inside, inside[1:], strict=False))
    assert {("--volume", "/etc/passwd:/run/senex/ca.crt:ro"), ("--env-file", "/home/x/.env"), ("--network", "net")} <= set(pairs)
    assert [word for word in inside if "secret" in word] == ["--secret=key,type=mount,target=/run/secrets/KEY"], "what the host has not yet is not named"
    assert ("--tmpfs", "/app/static:rw,mode=1777,size=64m") in pairs, "what the host has not yet is there and empty"
    assert ("--env", "COST=$$5") in pairs, "systemd would look for a variable"
    assert inside[inside.index("r/app:2") :] == ["r/app:2", "./m", "shell", "--verbosity", "0"]


def test_a_plan_that_cannot_be_made_does_not_speak_for_what_others_changed(user, shell):
    _, answer = shell
    answer |= {"code": 1, "err": "PermissionError: /app/media"}
    with pytest.raises(OSError, match=r"the plan of r/app:2 could not be made, no migration was run: PermissionError: /app/media"):
        release_steps.plan(user, CONTAINER, "script")


@pytest.mark.parametrize(
    ("code", "out", "err", "undone", "left", "failed"),
    [
        (0, f'{SAID}{release_steps.MARK}{{"undone": ["a.0003", "a.0002"], "back": ["a.0004"], "failed": ""}}\n', "", ["a.0003", "a.0002"], [], ""),
        (0, SAID, "", ["a.0003"], ["a.0002"], "it ended before it was done"),
        (137, SAID, "killed", ["a.0003"], ["a.0002"], "it ended with 137: killed"),
        (124, "", "no end after 900 s", [], ["a.0004", "a.0003", "a.0002"], "it ended with 124: no end after 900 s"),
        (0, f"{release_steps.MARK}[1]\n", "", [], ["a.0004", "a.0003", "a.0002"], "it ended with 0: "),
    ],
)
def test_what_was_taken_back_is_told_also_where_the_rest_was_not(user, shell, code, out, err, undone, left, failed):
    """And what did not end in time is ended before anything else is done."""
    asked, answer = shell
    answer |= {"code": code, "out": out, "err": err}
    found = release_steps.undo(user, CONTAINER, "")
    assert (found["undone"], found["left"]) == (undone, left)
    assert found["failed"].startswith(failed) and bool(found["failed"]) is bool(failed)
    removed = [argv for argv in asked if argv[:2] == ["podman", "rm"]]
    assert bool(removed) is (code == 124)


def test_what_plans_has_the_files_that_the_hosts_environment_names(user, shell, monkeypatch):
    asked, answer = shell
    answer["out"] = release_steps.MARK + "{}"
    answer["secrets"] = "environment_DB_PASSWORD\nredis_auth\nenvironment_\nenvironment_../../x\nenvironment_SECRET_KEY\n"
    assert release_steps.plan(user, CONTAINER, "") == {}
    (words,) = [argv for argv in asked if "run" in argv]
    assert [word for word in words if word.startswith("--secret=")] == [
        f"--secret=environment_{name},type=mount,target=/run/secrets/{name},uid=1000,gid=1000,mode=0400" for name in ("DB_PASSWORD", "SECRET_KEY")
    ]


def test_an_undo_that_failed_says_what_it_did_and_what_not(user, shell, monkeypatch):
    _, answer = shell
    answer["out"] = SAID
    monkeypatch.setattr(module, "ServiceUser", lambda *_: user)
    found = module.work({"step": "undo", "user": user.name, "home": user.home, "container": CONTAINER, "script": ""})
    said = (
        "the migrations were not all undone: it ended before it was done. Undone: a.0003. Undone before: a.0004. Not undone: a.0002. "
        "It can be run again: what is undone is passed over then"
    )
    assert found == {"changed": True, "undone": ["a.0003"], "back": ["a.0004"], "trouble": said}


def test_a_restore_point_is_made_by_postgresqls_own_functions():
    """The superuser's session is in the application's database, whose owner may have set a search path."""
    said = []

    class User:
        def podman(self, *words, **_):
            said.extend(words)
            return subprocess.CompletedProcess(words, 0, "2026-01-02 03:04:05.678901+00\n", "")

    pre_deploy.restore_point(User(), "senex", "postgres", "r", "postgres")
    assert said[said.index("-d") + 1] == session.target("senex")
