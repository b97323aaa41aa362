"""What another user owns: root reads nothing through its links, waits for none of its FIFOs, and changes nothing of root's by its paths."""

import base64
import errno
import os
import shutil
import stat
import subprocess
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight
from ansible_collections.senex.trader.plugins.module_utils.engine import payload, system_transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import Component
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import SystemComponent, SystemTransaction
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest, WantedFile
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_file, pre_deploy, upgrade_state
from hostile import KINDS, NOBODY, ROOT_ALONE, Steps, at_every_step, secret_of

pytestmark = [ROOT_ALONE, pytest.mark.usefixtures("impatient")]


# The walk
def test_a_file_below_a_users_directory_is_read_as_that_user(ground):
    ground.file("home/own", "x")
    ground.file("home/roots", "y", owner=0).chmod(0o600)
    found = untrusted.read([str(ground.home / "own"), str(ground.home / "roots"), str(ground.secret)])
    own, roots, secret = found.values()
    assert own == {"content": b"x", "owner": [0o644, NOBODY, NOBODY]} and "Permission" in str(untrusted.problem(roots))
    assert secret["content"] == b"hunter2-of-root" and (os.geteuid(), os.getegid()) == (0, 0)


def test_links_on_the_way_lead_no_further_than_their_owner(ground):
    (ground.home / "data").symlink_to(ground.base)
    ground.directory("base-of-user")
    ground.file("base-of-user/file", "x")
    (ground.home / "disk").symlink_to(ground.base / "base-of-user")
    found = untrusted.read([str(ground.home / "data/secret"), str(ground.home / "disk/file")])
    assert "Permission" in str(untrusted.problem(found[str(ground.home / "data/secret")]))
    assert found[str(ground.home / "disk/file")]["content"] == b"x"


def test_a_link_of_a_users_in_a_directory_of_roots_is_followed_as_the_user(ground):
    link = ground.base / "planted"
    link.symlink_to(ground.secret)
    os.lchown(link, NOBODY, NOBODY)
    assert "Permission" in str(untrusted.problem(untrusted.read([str(link)], follow=True)[str(link)]))
    (ground.base / "own").symlink_to(ground.secret)
    assert untrusted.read([str(ground.base / "own")], follow=True)[str(ground.base / "own")]["content"] == b"hunter2-of-root"
    assert "link" in str(untrusted.problem(untrusted.read([str(ground.base / "own")])[str(ground.base / "own")]))


def test_a_file_that_becomes_a_link_at_any_step_shows_nothing_of_roots(ground, monkeypatch):
    """In a directory of root's in which anybody may make names, as /tmp is: nobody else's ground, so root opens the file as root."""
    ground.directory("shared", 0o1777, owner=0)
    step, swapped = -1, True
    while swapped:
        step += 1
        path = ground.file(f"shared/{step}", "x")

        def swap(path=path):
            path.unlink()
            path.symlink_to(ground.secret)

        with monkeypatch.context() as patch:
            steps = Steps(patch, step, swap)
            found = untrusted.matching([str(path)])
        swapped = steps.seen > step
        assert not secret_of(found), f"step {step}"
    assert step > 5 and found[str(path)]["content"] == b"x"


def test_a_container_users_directory_is_entered_as_that_user_and_a_strangers_is_not(ground, monkeypatch):
    monkeypatch.setattr(untrusted, "subordinate", lambda uid: range(300_000, 300_010) if uid == NOBODY else range(0))
    for number in (300_001, 400_001):
        ground.directory(f"home/{number}", 0o700, owner=number)
        ground.file(f"home/{number}/PG_VERSION", "15\n", owner=number).chmod(0o600)
    found = untrusted.matching([f"{ground.home}/*/PG_VERSION"])
    assert [path.split("/")[-2] for path, one in found.items() if one.get("content") == b"15\n"] == ["300001"]


def test_ranges_of_subordinate_ids(tmp_path):
    (tmp_path / "subuid").write_text("other:1:2\nnobody:300000:65536\n")
    assert untrusted.subordinate(NOBODY, str(tmp_path / "subuid")) == range(300_000, 365_536)
    assert not untrusted.subordinate(0, str(tmp_path / "subuid")) and not untrusted.subordinate(NOBODY, str(tmp_path / "none"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "words"])
def test_what_is_no_small_file_is_a_sentence_and_never_content(ground, kind):
    path = str(ground.plant("home/file", kind))
    answer = untrusted.read([path], follow=False)[path]
    assert "content" not in answer and "move it away" in str(untrusted.problem(answer)) and path in str(untrusted.problem(answer))


def test_what_gives_no_answer_is_given_up(monkeypatch):
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0.2 s"):
        untrusted.run(NOBODY, NOBODY, time.sleep, 30, patience=0.2)
    assert time.monotonic() - began < 5


def test_a_function_that_is_run_is_the_users_for_good(ground):
    def who():
        with pytest.raises(PermissionError):
            os.seteuid(0)
        return [*os.getresuid(), *os.getresgid(), len(os.getgroups())]

    assert untrusted.run(NOBODY, NOBODY, who) == [NOBODY] * 6 + [0]
    with pytest.raises(PermissionError, match="secret"):
        untrusted.run(NOBODY, NOBODY, lambda: ground.secret.read_text())
    with pytest.raises(OSError, match="ZeroDivisionError"):
        untrusted.run(NOBODY, NOBODY, lambda: 1 / 0)
    assert untrusted.run(NOBODY, NOBODY, lambda: {"a": b"\xff"}) == {"a": b"\xff"}


def test_one_process_for_all_that_is_asked(ground, monkeypatch):
    for number in range(30):
        ground.file(f"home/{number}", str(number))
    forks, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: forks.append(1) or fork())
    assert len(fileset.read_all([str(ground.home / str(number)) for number in range(30)])) == 30 and len(forks) == 1
    fileset.read_all([str(ground.secret), "/etc/passwd"])
    assert len(forks) == 1


def test_nothing_stays_open(ground):
    before = sorted(os.listdir("/proc/self/fd"))
    untrusted.read([str(ground.home / "x"), str(ground.secret)])
    untrusted.matching([f"{ground.base}/*"])
    untrusted.owner_above(str(ground.home / "x"))
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("content", "major"), [(b"15\n", 15), (b"9", 9), (b"15.1\n", None), (b"hunter2", None), (b"", None), (None, None), (b"1\n2\n", None)])
def test_a_major_version_is_a_number(content, major):
    assert untrusted.major(content) == major


def test_words_of_others_are_one_printable_line():
    assert untrusted.plain("a\nOK  all well\x1b[32m\ud800 b", 30) == "a OK all well?[32m? b" and len(untrusted.plain("x" * 500)) == 200


# Where root writes
def directories(ground):
    names = ("home/.config", "home/.config/user", "home/.config/new")
    return [{"path": str(ground.base / name), "owner": str(NOBODY), "group": str(NOBODY), "mode": "0700"} for name in names]


def test_a_home_that_answers_root_with_a_refusal_is_nobodys_ground(ground, monkeypatch):
    """As a file system of its owner's (FUSE) does that is mounted over it: it may be gone a moment later, with a link in its place."""
    look, asked = os.stat, []

    def refused(path, **how):
        if path == "home" and how.get("dir_fd") is not None:
            asked.append(path)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return look(path, **how)

    shutil.rmtree(ground.home / ".config")
    (ground.home / ".config").symlink_to(ground.victim)
    os.lchown(ground.home / ".config", NOBODY, NOBODY)
    before = ground.seen()
    monkeypatch.setattr(os, "stat", refused)
    for item in directories(ground)[1:]:
        with pytest.raises(PermissionError):
            system_transaction.make_directory(item)
        with pytest.raises(PermissionError):
            fileset.swap([(f"{item['path']}/file", b"x", (0o644, 0, 0))])
    assert asked and ground.seen() == before
    assert untrusted.owner_above(str(ground.base / "missing/x")) is None


def test_a_parent_that_becomes_a_link_at_any_step_leads_root_nowhere(monkeypatch, tmp_path):
    monkeypatch.setattr(system_transaction, "Manifest", lambda component: Manifest(component, str(tmp_path / "state")))

    def apply(ground):
        SystemTransaction(SystemComponent("common", directories=directories(ground)), present=True).run(check=False)

    assert at_every_step(monkeypatch, lambda ground: ground.swap, apply) > 30


def test_a_directory_that_becomes_a_link_at_any_step_keeps_roots_owner_and_mode(monkeypatch):
    def prepare(ground):
        ground.directory("home/.config/systemd", 0o755)

        def swap():
            os.rename(ground.home / ".config/systemd", ground.home / ".config/aside")
            os.symlink(ground.victim, ground.home / ".config/systemd")

        return swap

    def apply(ground):
        system_transaction.make_directory({**directories(ground)[0], "path": str(ground.home / ".config/systemd")})

    assert at_every_step(monkeypatch, prepare, apply) > 10


def test_a_dumps_directory_that_becomes_a_link_at_any_step_costs_root_no_file(monkeypatch, ground):
    class User:
        uid = gid = NOBODY
        environment = {"PATH": "/usr/bin:/bin"}

        def does(self, function, *arguments, patience):
            return untrusted.run(NOBODY, NOBODY, function, *arguments, patience=patience)

        def writes(self, function, *arguments):
            return self.does(function, *arguments, patience=60)

        def podman(self, *words, **_):
            return subprocess.CompletedProcess(words, 0, "UTF8\n", "")  # the server's encoding

    monkeypatch.setattr(dump_file, "command", lambda *_: ["echo", dump_file.ENDS.decode()])

    def prepare(ground):
        ground.directory("home/backups", 0o700)
        for directory in (ground.home / "backups", ground.victim):
            component = directory / "pre-deploy-2020-01-01-000000.sql.gz.part"
            component.write_text("")
            os.utime(component, (1, 1))
        return lambda: ground.swap("backups")

    def dump(ground):
        user = User()
        user.home = str(ground.home)
        pre_deploy.dump(user, "db", "role", str(ground.home / "backups"), 1, "postgres")

    assert at_every_step(monkeypatch, prepare, dump) > 20


def test_good_directories_are_made_and_found_right(ground):
    for item in directories(ground):
        system_transaction.make_directory(item)
    assert system_transaction.wrong_directories(directories(ground)) == []
    made = (ground.home / ".config/new").stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (NOBODY, NOBODY, 0o700)
    (ground.home / ".config/user").chmod(0o755)
    assert [item["path"] for item in system_transaction.wrong_directories(directories(ground))] == [str(ground.home / ".config/user")]


def test_root_makes_nothing_of_its_own_below_a_users_directory(ground):
    for item in (str(ground.home / "file"), str(ground.home / ".config/deep/file")):
        component = SystemComponent("x", [WantedFile(item, b"x")])
        with pytest.raises(OSError, match="lies below a directory of the user 65534"):
            SystemTransaction(component, present=True).run(check=True)
        with pytest.raises(OSError, match="lies below a directory of the user 65534"):
            fileset.swap([(item, b"x", (0o644, 0, 0))])
    with pytest.raises(OSError, match="nothing is made for another"):
        system_transaction.make_directory({"path": str(ground.home / "roots")})
    assert sorted(os.listdir(ground.home)) == [".config"]


# Where root reads
@pytest.mark.parametrize("kind", KINDS)
def test_a_guard_shows_none_of_it(ground, monkeypatch, kind):
    path = str(ground.plant("home/PG_VERSION", kind))
    transaction = Transaction(Component("postgresql", preconditions=[{"file": path, "content": 15, "message": "data of PostgreSQL FOUND"}]), None, True)
    with pytest.raises((ApplyError, OSError)) as refused:
        transaction.installation.check_preconditions()
    assert not secret_of(refused.value) and len(str(refused.value)) < 300


PREPARED = [
    ("nothing", None, False, ""), ("its own", NOBODY, False, ""), ("root's", 0, False, "belongs to root"), ("a disk", 0, True, "top of a file system"),
    ("a disk that was given away", NOBODY, True, "top of a file system"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "disk", "says"), [row[1:] for row in PREPARED], ids=[row[0] for row in PREPARED])
def test_a_prepared_data_directory_is_refused_by_name(ground, owner, disk, says):
    """Before anything is changed, and by preflight."""
    path = ground.home / "postgres"
    if owner is not None:
        ground.directory("home/postgres", 0o755 if disk else 0o700, owner)
    if disk:
        ground.directory("home/postgres/lost+found", 0o700, 0)
    transaction = Transaction(Component("postgresql", preconditions=[{"file": f"{path}/PG_VERSION", "content": 15, "message": "FOUND"}]), None, True)
    found = preflight.directory(str(path), "PG_VERSION", "postgresql")
    if says:
        with pytest.raises(ApplyError, match=f"postgresql: {path} .*{says}"):
            transaction.installation.check_preconditions()
        assert found["level"] == "FAIL" and says in found["says"] and found["do"], found
    else:
        transaction.installation.check_preconditions()
        assert found["level"] == "OK"


def test_what_holds_data_is_not_asked_whose_it_is(ground):
    ground.directory("home/postgres", 0o755, 0)
    (ground.home / "postgres/PG_VERSION").write_text("15\n")
    assert preflight.directory(f"{ground.home}/postgres", "PG_VERSION", "postgresql")["level"] == "OK"


@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_shows_none_of_it(ground, kind):
    ground.plant("home/PG_VERSION", kind)
    with pytest.raises(OSError) as refused:
        upgrade_state.major_of(str(ground.home))
    assert not secret_of(refused.value) and "PG_VERSION" in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_part_is_compared_with_is_no_secret_of_roots(ground, kind):
    path = str(ground.plant("home/file", kind))
    if kind in ("huge", "words"):
        assert fileset.compare([WantedFile(path, b"x")], [])[0].before  # the user's own file, replaced
    else:
        with pytest.raises(OSError, match="move it away") as refused:
            fileset.compare([WantedFile(path, b"x")], [])
        assert not secret_of(refused.value)
    data = {"files": [{"path": path, "secret": True, "content": base64.b64encode(b"x").decode()}]}
    if kind not in ("huge", "words"):
        with pytest.raises(OSError, match="move it away"):
            payload.with_secrets(data, {})
        with pytest.raises(OSError):
            payload.secret_value({"name": "x", "file": path}, check=False)
