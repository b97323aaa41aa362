"""Files that change as one: what is compared, installed, put back and remembered."""

import json
import os
import stat

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Change, Manifest, WantedFile

ME = (os.geteuid(), os.getegid())


def wanted(path, content, mode=0o644, **more):
    return WantedFile(str(path), content, mode, *ME, **more)


def tree(directory):
    """Every file with content and mode, temporary ones included."""
    return {str(path.relative_to(directory)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in sorted(directory.rglob("*")) if path.is_file()}


def test_only_what_differs_is_a_change(tmp_path):
    (tmp_path / "same").write_bytes(b"1")
    (tmp_path / "same").chmod(0o644)
    (tmp_path / "other").write_bytes(b"1")
    (tmp_path / "other").chmod(0o644)
    (tmp_path / "mode").write_bytes(b"1")
    (tmp_path / "mode").chmod(0o600)
    names = ("same", "other", "mode", "new")
    files = [wanted(tmp_path / name, b"2" if name == "other" else b"1") for name in names]
    changes = fileset.compare(files, [str(tmp_path / "gone")])
    assert [os.path.basename(change.path) for change in changes] == ["other", "mode", "new"]


def test_install_and_put_back_are_inverse(tmp_path):
    (tmp_path / "kept").write_bytes(b"old \xff not text")
    (tmp_path / "kept").chmod(0o640)
    (tmp_path / "gone").write_bytes(b"was here")
    (tmp_path / "gone").chmod(0o600)
    before = tree(tmp_path)
    files = [wanted(tmp_path / "kept", b"new", 0o600), wanted(tmp_path / "deep" / "er" / "made", b"x\xfe", 0o755)]
    changes = fileset.compare(files, [str(tmp_path / "gone")])
    fileset.install(changes)
    assert tree(tmp_path) == {"deep/er/made": (b"x\xfe", 0o755), "kept": (b"new", 0o600)}
    assert fileset.compare(files, [str(tmp_path / "gone")]) == []
    fileset.put_back(changes)
    assert tree(tmp_path) == before


def test_nothing_changes_when_one_of_the_files_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o644)
    changes = fileset.compare([wanted(tmp_path / "a", b"new"), wanted(tmp_path / "b", b"new")], [])
    real = os.fsync
    written = []

    def full_at_the_second(descriptor):
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(OSError, match="No space"):
        fileset.install(changes)
    assert tree(tmp_path) == {"a": (b"old", 0o644)}


def test_put_back_writes_nothing_where_nothing_had_happened(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    changes = fileset.compare([wanted(tmp_path / "a", b"new"), wanted(tmp_path / "b", b"new")], [])
    monkeypatch.setattr(fileset, "stage", lambda *_: pytest.fail("wrote to a disk that may be full"))
    fileset.put_back(changes)
    assert tree(tmp_path)["a"][0] == b"old"


def test_what_a_killed_run_left_beside_a_file_is_replaced(tmp_path):
    left = tmp_path / ".senex-a.new"
    left.write_bytes(b"half of a secr")
    fileset.install(fileset.compare([wanted(tmp_path / "a", b"whole", 0o600)], []))
    assert tree(tmp_path) == {"a": (b"whole", 0o600)}


def test_a_link_planted_as_the_temporary_file_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / ".senex-a.new").symlink_to(target)
    fileset.install(fileset.compare([wanted(tmp_path / "a", b"x")], []))
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "file above"])
def test_what_is_no_file_gives_a_sentence_that_names_it(tmp_path, kind):
    path = tmp_path / "config" if kind != "file above" else tmp_path / "config" / "x"
    {"link": lambda: path.symlink_to("/etc/hostname"), "directory": path.mkdir, "fifo": lambda: os.mkfifo(path),
     "file above": lambda: path.parent.write_text("")}[kind]()  # fmt: skip
    with pytest.raises(OSError, match="config.*move (it|that) away"):
        fileset.compare([wanted(path, b"x")], [])


def test_the_content_of_a_secret_is_in_no_diff():
    shown = str(Change("/x", b"old-pw", b"new-pw", secret=True).diff()) + str(Change("/x", b"old-pw", None, secret=True).diff())
    assert "pw" not in shown and "not shown" in shown
    assert "new-pw" in str(Change("/x", b"old-pw", b"new-pw").diff())


def test_the_content_of_a_file_that_goes_is_in_no_diff(tmp_path):
    # What it was is not known any more: it may have been a secret
    (tmp_path / "env").write_text("hunter2hunter2")
    assert "hunter2" not in str([change.diff() for change in fileset.compare([], [str(tmp_path / "env")])])


def test_digest_keeps_its_parts_apart():
    assert len({fileset.digest("ab", "c"), fileset.digest("a", "bc"), fileset.digest("abc"), fileset.digest("abc", None), fileset.digest("abc", "")}) == 5


def test_a_directory_has_its_name_only_when_it_has_its_owner(tmp_path):
    seen = []

    def killed(temporary):
        seen.append(temporary)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fileset.make_directory(str(tmp_path / "data"), killed)
    assert fileset.missing_directory(str(tmp_path / "data"))
    fileset.make_directory(str(tmp_path / "data") + "/", lambda temporary: os.chmod(temporary, 0o700))
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_file_where_a_directory_should_be_is_named(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(OSError, match="data must be a directory"):
        fileset.missing_directory(str(tmp_path / "data"))


# The manifest
def test_a_manifest_comes_back_as_it_was_saved(tmp_path):
    manifest = Manifest("redis", str(tmp_path / "state"))
    assert not manifest.found
    manifest.files, manifest.secrets, manifest.units, manifest.started, manifest.unfinished = ["/a"], ["s"], ["u.service"], {"u.service": "1"}, True
    manifest.save()
    again = Manifest("redis", str(tmp_path / "state"))
    assert again.found and vars(again) == {**vars(manifest), "found": True}
    assert stat.S_IMODE(os.stat(manifest.path).st_mode) == 0o600
    manifest.unfinished = False
    manifest.save()
    assert not Manifest("redis", str(tmp_path / "state")).unfinished


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 1}', "null", "\x00\xff"])
def test_a_damaged_manifest_gives_a_sentence(tmp_path, content):
    (tmp_path / "redis.json").write_text(content)
    with pytest.raises(OSError, match=r"redis\.json is damaged.*remove it"):
        Manifest("redis", str(tmp_path))


def test_the_files_of_other_parts_are_known(tmp_path):
    for component, files in (("django", ["/env", "/web"]), ("celery", ["/env", "/worker"])):
        manifest = Manifest(component, str(tmp_path))
        manifest.files = files
        manifest.save()
    (tmp_path / "lock").write_text("")
    (tmp_path / "aside").mkdir()
    assert {path for other in Manifest("celery", str(tmp_path)).others() for path in other.files} == {"/env", "/web"}
    assert {path for other in Manifest("new", str(tmp_path)).others() for path in other.files} == {"/env", "/web", "/worker"}


def test_a_manifest_that_says_the_same_is_not_written_again(tmp_path):
    manifest = Manifest("a", str(tmp_path))
    manifest.save()
    before = os.stat(manifest.path).st_ino
    manifest.save()
    assert os.stat(manifest.path).st_ino == before
    assert json.loads((tmp_path / "a.json").read_text())["files"] == []


def test_two_transactions_take_turns(tmp_path):
    import fcntl

    with fileset.lock(str(tmp_path)), open(tmp_path / "lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(tmp_path / "lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_names_are_on_the_disk_when_files_were_swapped(tmp_path, monkeypatch):
    """What is remembered and what it speaks of may lie on two file systems, and a power cut comes between."""
    synced, real = [], os.fsync
    monkeypatch.setattr(fileset.os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")) or real(descriptor))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    owner = (0o600, os.geteuid(), os.getegid())
    (tmp_path / "b/old").write_text("x")
    fileset.swap([(str(tmp_path / "a/one"), b"1", owner), (str(tmp_path / "b/old"), None, owner), (str(tmp_path / "none/old"), None, owner)])
    assert {str(tmp_path / "a"), str(tmp_path / "b")} <= set(synced) and not (tmp_path / "b/old").exists()


def test_a_file_of_another_is_shown_as_text_and_not_at_any_length():
    """The service user writes what it likes into its own files, and a run with --diff shows what lies there."""
    shown = Change("/x", b"a\tb\n\x1b[2J\xc2\x9bOK\r\xe2\x80\xaez\n", b"new\n").diff()
    assert shown["before"] == "a\tb\n?[2J?OK??z\n" and shown["after"] == "new\n"
    long = Change("/x", b"x\n" * 4_000_000, b"new\n").diff()["before"]
    assert len(long) < 70_000 and long.endswith("(8000000 bytes in all, the others are not shown)\n")
