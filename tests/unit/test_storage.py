"""A home on which rootless Podman can keep no images is named before anything is changed."""

import json
import os
import subprocess
import sys

import pytest
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight
from ansible_collections.senex.trader.plugins.module_utils.host import storage

WELL = {"place": "/opt", "kind": "ext4", "d_type": True, "mount": "", "fuse": False}
EINVAL = "mount: /x/merged: wrong fs type, bad option, bad superblock on overlay, missing codepage or helper program, or other error."


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, ""),
        ({"kind": "nfs4", "unwritable": "Permission denied"}, "/opt is on nfs4, a network file system"),
        ({"kind": "cifs", "fuse": True}, "/opt is on cifs, a network file system"),
        ({"kind": "overlay", "mount": EINVAL}, "/opt is on overlay, on which the kernel lays no other overlay"),
        ({"kind": "overlay", "mount": EINVAL, "fuse": True}, ""),
        ({"kind": "xfs", "d_type": False}, "/opt is on xfs without d_type (xfs made with ftype=0)"),
        ({"kind": "zfs", "mount": EINVAL}, "/opt is on zfs, which rootless overlay does not take: mount: "),
        ({"kind": "ext4", "mount": "mount: /x/merged: permission denied."}, ""),  # AppArmor, which lets Podman alone
        ({"kind": "ext4", "unwritable": "Read-only file system"}, "where its owner cannot write: Read-only file system"),
    ],
)
def test_what_is_refused(said, sentence):
    found = storage.trouble({**WELL, **said})
    assert found.startswith(sentence) if sentence.startswith("/") else sentence in found
    assert bool(found) == bool(sentence)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('[storage]\ndriver = "overlay"\n# mount_program = "/usr/bin/fuse-overlayfs"\n', ""),
        ('[storage]\ndriver = "vfs"\n', "driver is vfs"),
        ('[storage.options.overlay]\nmount_program = "/usr/bin/fuse-overlayfs"\n', "mount_program is /usr/bin/fuse-overlayfs"),
        ('[storage]\nrootless_storage_path = "/mnt/$USER"\n', "rootless_storage_path is /mnt/$USER"),
    ],
)
def test_what_the_host_decided_is_not_tried(monkeypatch, tmp_path, text, word):
    assert storage.configured(text) == word
    (tmp_path / "storage.conf").write_text(text)
    monkeypatch.setattr(storage, "CONFIGURATION", str(tmp_path / "storage.conf"))
    monkeypatch.setattr(storage, "probe", lambda home: {**WELL, "kind": "nfs"})
    assert storage.finding("/opt/x")[0] == ("OK" if word else "FAIL")


def test_what_cannot_be_tried_is_no_refusal(monkeypatch):
    def fails(home):
        raise OSError("no such user")

    monkeypatch.setattr(storage, "probe", fails)
    assert storage.finding("/opt/x") == ("WARN", "could not be tried: no such user")


def test_the_nearest_directory_is_tried_and_left_as_it_was(tmp_path):
    said = storage.probe(str(tmp_path / "home/senex"))
    assert said["place"] == str(tmp_path) and said["d_type"] and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_home_that_is_there_is_tried_as_its_owner(tmp_path):
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(directory.stat().st_mode | 0o055)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    home.chmod(0o500)
    assert storage.owner(str(home)) == (65534, 65534)
    assert storage.probe(str(home))["unwritable"] == "Permission denied"  # root could


STACKED = """
mkdir "$1/l" "$1/u" "$1/w" "$1/m"
mount -t overlay overlay -o "lowerdir=$1/l,upperdir=$1/u,workdir=$1/w" "$1/m" && exec "$2" -IS -c "$3" "$1/m/home"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_an_overlay_takes_no_other(tmp_path):
    words = ["unshare", "--mount", "sh", "-c", STACKED, "sh", str(tmp_path), sys.executable, storage.PROBE]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no overlay can be mounted here: {done.stderr}")
    said = json.loads(done.stdout)
    assert said["kind"] == "overlay" and "no other overlay" in storage.trouble({**said, "fuse": False})


def test_the_screen_says_what_was_found(monkeypatch):
    monkeypatch.setattr(storage, "finding", lambda home: ("FAIL", "/opt is on nfs4"))
    (found,) = [one for one in preflight.ask({"storage": "/opt/x"}) if one["key"] == "storage"]
    assert found["level"] == "FAIL" and "senex_home on a local file system" in found["do"]
    assert [one for one in preflight.ask({}) if one["key"] == "storage"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose")
def test_below_a_directory_of_another_it_is_tried_as_that_one(tmp_path, monkeypatch):
    """A home that is root's, in which a user has something already: a link of that user's would lead root anywhere."""
    (tmp_path / "home/.local").mkdir(parents=True)
    os.chown(tmp_path / "home/.local", 65534, 65534)
    (tmp_path / "home/.local/share").symlink_to(tmp_path)
    tried = []
    said = json.dumps(WELL)
    monkeypatch.setattr(storage.untrusted, "told", lambda argv, **more: tried.append(more.get("user")) or subprocess.CompletedProcess(argv, 0, said, ""))
    storage.probe(str(tmp_path / "home"))
    assert tried == [65534]


def probed_by(monkeypatch, tmp_path, program):
    """What is found where the owner of the home has put a program of its own in the place of the probe."""
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(directory.stat().st_mode | 0o055)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    monkeypatch.setattr(storage, "PROBE", program)
    return storage.finding(str(home))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_the_probe_is_handed_no_terminal(monkeypatch, tmp_path):
    """Whoever owns the home may take it over while it runs: a session of root's has a terminal, where what is typed can be read, and answers forged."""
    program = "import json, os; print(json.dumps({'place': '/x', 'kind': 'own' if os.getsid(0) == os.getpid() else 'of root', 'd_type': True}))"
    assert probed_by(monkeypatch, tmp_path, program) == ("OK", "/x is on own, which takes rootless overlay")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize(
    "program",
    [
        "while True: print('x' * 65536)",
        "print('[' * 100_000)",
        "print('{}')",
        "print('[]')",
        "import json; print(json.dumps({'place': [1], 'kind': 'ext4'}))",
    ],
)
def test_what_the_owner_of_the_home_answers_ends_nothing(monkeypatch, tmp_path, program):
    level, says = probed_by(monkeypatch, tmp_path, program)
    assert level == "WARN" and says.startswith("could not be tried: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_the_words_of_the_owner_of_the_home_are_printable(monkeypatch, tmp_path):
    program = "import json; print(json.dumps({'place': '/x\\x1b[2J\\nFAIL', 'kind': 'nfs', 'unwritable': 5}))"
    level, says = probed_by(monkeypatch, tmp_path, program)
    assert level == "FAIL" and says.isprintable() and says.startswith("/x?[2J FAIL is on nfs")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose")
def test_a_home_that_answers_root_with_a_refusal_is_not_tried_as_root(tmp_path, monkeypatch):
    """As a file system of its owner's (FUSE) does that is mounted over it: gone a moment later, its links would lead root anywhere."""
    look = os.stat

    def refused(path, **how):
        if os.path.basename(path) == "home":
            raise PermissionError(13, "Permission denied")
        return look(path, **how)

    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 65534, 65534)
    monkeypatch.setattr(os, "stat", refused)
    monkeypatch.setattr(storage.untrusted, "told", lambda *_words, **_more: pytest.fail("tried as root"))
    level, says = storage.finding(str(tmp_path / "home"))
    assert level == "WARN" and "could not be tried" in says and "Permission denied" in says
