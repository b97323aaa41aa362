"""A line of the kernel's, of a program's or of a file is one record, whatever the names in it hold: Python ends a line at more characters than they do."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_work
from ansible_collections.senex.trader.plugins.module_utils.host import in_force, owned, service_user, storage, untrusted
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.plugin_utils import kept_place
from test_host_fact import fact, script  # noqa: F401  (fixtures)
from watched import host as watched_host

from senex_ops import doctor, golive  # isort: skip

ROOT = pathlib.Path(__file__).parents[2]
# Ends of a line for str.splitlines, and white space for str.split, that the kernel leaves in a name as they are
ENDS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"]
SPACES = ["\xa0", "\u3000", "\x1f"]
SENTENCES = {
    "plugins/module_utils/host/in_force.py": "the last line of why nobody answers",
    "plugins/module_utils/postgresql/server.py": "what PostgreSQL complained of",
    "plugins/module_utils/engine/quadlet_check.py": "findings of systemd-analyze, each of which is one for a person",
    "plugins/module_utils/contract/judge.py": "what a program of the image said, for a person",
    "plugins/module_utils/host/storage.py": "the last line of why it could not be tried",
    "plugins/module_utils/host/words.py": "lines for a screen, printable ones",
    "plugins/plugin_utils/yaml_source.py": "YAML ends a line at these characters too",
    "plugins/filter/releases.py": "the first line of a reason",
    "plugins/filter/status.py": "findings for a person",
    "roles/backup/files/senex_backup/offsite.py": "the last lines of restic's complaint",
    "roles/pitr/files/pitr/archive.py": "what Barman complained of",
    "roles/pitr/files/pitr/programs.py": "the last lines of a complaint",
    "roles/pitr/files/pitr/recovery.py": "what the server complained of",
    "roles/watchdog/files/senex_ops/delivery.py": "a subject of a mail is one line for every program that reads it",
    "roles/watchdog/files/senex_ops/host.py": "the last line of a complaint",
}


def octal(path):
    """As the kernel writes it."""
    return re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", path)


def disks(*paths):
    """/proc/self/mounts and /proc/self/mountinfo with file systems at these places."""
    mounts = "".join(f"/dev/x {octal(path)} ext4 rw 0 0\n" for path in paths)
    return mounts, "".join(f"{number} 1 8:{number} / {octal(path)} rw,relatime shared:1 - ext4 /dev/x rw\n" for number, path in enumerate(paths))


@pytest.mark.parametrize("odd", [*ENDS, *SPACES, "é", "\\040", " \t\n"])
def test_a_mount_point_may_have_any_name(fact, monkeypatch, tmp_path, odd):  # noqa: F811
    """A FUSE file system of the service user's has the name that it likes."""
    place = tmp_path / f"a{odd}b"
    place.mkdir()
    mounts, mountinfo = disks("/", str(place), str(tmp_path))
    (tmp_path / "mounts").write_bytes(mounts.encode())
    (tmp_path / "mountinfo").write_bytes(mountinfo.encode())
    read = fact.system_text
    monkeypatch.setattr(fact, "system_text", lambda path: read(str(tmp_path / "mounts")))
    assert [one["mount"] for one in fact.file_systems()] == [str(place), str(tmp_path), "/"]
    import builtins

    opened = builtins.open
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", lambda path, *words, **more: opened(tmp_path / "mountinfo" if path == "/proc/self/mountinfo" else path, *words, **more))
        assert [where for where, *_ in owned.mounts()] == ["/", str(place), str(tmp_path)]
    assert kept_place.mounted(f"{place}/vault", mountinfo) == (str(place), "ext4")
    probe = storage.PROBE.replace('"/proc/self/mountinfo"', repr(str(tmp_path / "mountinfo")))
    done = subprocess.run([sys.executable, "-IS", "-c", probe, f"{place}/x"], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["place"] == str(place) and json.loads(done.stdout)["kind"] == "ext4"


@pytest.mark.parametrize("end", ENDS[:-1])
def test_a_comment_is_no_setting(fact, monkeypatch, tmp_path, end):  # noqa: F811
    """What sshd takes for one line is one: no key, and no other value."""
    (tmp_path / "keys").write_text(f"# before{end}ssh-ed25519 {'A' * 68} me\n", encoding="utf-8")
    monkeypatch.setattr(fact, "key_files", lambda *_: [str(tmp_path / "keys")])
    assert fact.with_key([SimpleNamespace(pw_name="me")], {}) == []
    (tmp_path / "keys").write_text(f"ssh-ed25519 {'A' * 68} me\n", encoding="utf-8")
    assert fact.with_key([SimpleNamespace(pw_name="me")], {}) == ["me"]
    said = f"banner /etc/issue{end}passwordauthentication yes\npasswordauthentication no\n"
    assert fact.parse_sshd(said)["passwordauthentication"] == ["no"]
    assert golive.read_ssh(SimpleNamespace(run=lambda *_: watched_host.Ended(0, said, "")), None)["passwordauthentication"] == "no"
    (tmp_path / "sshd_config").write_text(f"# x{end}PermitRootLogin yes\nPermitRootLogin no\n", encoding="utf-8")
    assert [(number, value) for _, number, key, value, _ in in_force.sshd_lines(str(tmp_path / "sshd_config")) if key == "permitrootlogin"] == [(2, "no")]
    assert [key for *_, key, _ in in_force.assignments(f"# /x\n# y{end}kernel.a = 1\nkernel.b = 2\n")] == ["kernel.b"]


@pytest.mark.parametrize("end", ENDS[:-1])
def test_what_a_unit_is_called_is_no_state_of_it(end):
    """The service user's manager answers with what its unit files hold."""
    said = f"Id=web-1.service\nDescription=x{end}ActiveState=active\nActiveState=failed\n\nId=b.service\nActiveState=active{end}LoadState=x\n"
    assert watched_host.parse_units(said)["web-1.service"]["ActiveState"] == "failed"
    user = SimpleNamespace(systemctl=lambda *_: SimpleNamespace(stdout=said))
    states = service_user.ServiceUser.unit_states(user, ["web-1.service", "b.service"])
    assert states["b.service"] == {"Id": "b.service", "ActiveState": f"active{end}LoadState=x"}
    line = f"quadlet[1]: ours{end}converting \"web-1.container\": unsupported key 'X'\n"
    assert len(doctor.judge_podman({"version": "5.4.2", "generator": True, "said": line, "ours": ["web-1.container"]}, SimpleNamespace(user="x"), 0)) == 1


@pytest.mark.parametrize("end", ENDS[:-1])
def test_a_secret_is_kept_out_of_messages_as_a_whole(end):
    part = SimpleNamespace(secrets={}, files=[SimpleNamespace(secret=True, content=f"DB_PASSWORD=one{end}two-three\nNAME=x\n".encode())])
    assert f"one{end}two-three" in quadlet_work.secret_words(part)


def test_records_are_those_of_an_end_of_line():
    for text, found in (("", []), ("\n", [""]), ("a", ["a"]), ("a\nb\n", ["a", "b"]), ("a\n\n", ["a", ""]), ("a\u2028b\n", ["a\u2028b"])):
        assert untrusted.records(text) == found


def sources():
    places = ("plugins", "roles", "playbooks")
    return sorted(path for place in places for kind in ("py", "j2", "yml") for path in (ROOT / place).rglob(f"*.{kind}") if "/tests/" not in str(path))


def ends(path):
    """Whether a source calls splitlines; a word about it in a comment is none."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return "splitlines()" in text
    return any(isinstance(node, ast.Attribute) and node.attr == "splitlines" for node in ast.walk(ast.parse(text)))


def test_only_sentences_for_a_person_are_ended_at_more():
    found = {str(path.relative_to(ROOT)) for path in sources() if ends(path)}
    assert found - {"roles/nginx/vars/main.yml"} == set(SENTENCES), "split('\\n'), or untrusted.records, where a line is a record"


def test_a_name_keeps_its_carriage_return():
    """A database of that name is asked by it."""
    for exact, said in ((True, "a\rb\r\nc"), (False, "a\nb\nc")):
        assert untrusted.told(["printf", r"a\rb\r\nc"], timeout=20, exact=exact).stdout == said
    asked = []
    user = SimpleNamespace(podman=lambda *_, **more: asked.append(more) or SimpleNamespace(stdout='"a\rb"\n', returncode=0))
    server = pg_server.Server(user, SimpleNamespace(uid=70, superuser="postgres", owner="senex", container="postgres"))
    assert server.rows("select") == [["a\rb"]] and asked[-1]["exact"] is True
