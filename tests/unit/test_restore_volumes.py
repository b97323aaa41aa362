"""Volumes of the application, which are copied and restored with media."""

import shutil
from pathlib import Path

import pytest
from rendered import value
from test_backup_command import command, settings  # noqa: F401  (fixtures)
from test_restore_files import LATER, STAMP, STAYS, USED, Killed, below, place, tree  # noqa: F401  (a fixture)


def rsync(*words, keep=()):  # noqa: ARG001  (rsync's)
    """As far as it is asked here: what a copy takes, and what it leaves out."""
    if "--dry-run" in words:
        return "Total transferred file size: 1,024 bytes"
    leaves = [word.removeprefix("--exclude=/").rstrip("/") for word in words if word.startswith("--exclude=/")]
    source = Path(words[-2])
    ignore = lambda where, names: [name for name in names if Path(where) == source and any(Path(name).match(one) for one in leaves)]  # noqa: E731
    shutil.copytree(source, words[-1], dirs_exist_ok=True, symlinks=True, ignore=ignore)
    return ""


@pytest.fixture
def kept(place, monkeypatch):  # noqa: F811
    """The same with a volume, of which there is a copy of earlier contents; what is in use is another one by then."""
    monkeypatch.setattr(place.media, "rsync", rsync)
    place.settings.given["media"]["volumes"] = {"index": "data/volumes/index"}
    place.settings.given["retention"] = {"media": {"days": 30}}
    place.volume = Path(place.settings.home, "data/volumes/index")
    place.volume.mkdir(parents=True)
    (place.volume / "words").write_text("copied: words", encoding="utf-8")
    (place.directory / ".volumes").mkdir()
    (place.directory / ".volumes/upload").write_text("of a visitor", encoding="utf-8")
    shutil.rmtree(place.copy)
    place.copy = Path(place.media.make(place.settings)["path"])
    shutil.rmtree(place.directory / ".volumes")
    (place.volume / "words").write_text("in use: words", encoding="utf-8")
    (place.volume / "new").write_text("in use: new", encoding="utf-8")
    (place.directory / "one").write_text("in use: later", encoding="utf-8")
    place.wanted = {**place.wanted, "path": str(place.copy), "name": place.copy.name}
    return place


WORDS, NEW = {"words": "copied: words"}, {"words": "in use: words", "new": "in use: new"}


def test_a_copy_of_media_has_the_volumes_that_are_kept(kept):
    """Nothing that is uploaded can pass for a volume."""
    assert tree(kept.copy / "files") == {**USED, **below(".volumes/index", WORDS)}
    kept.media.verify(None, str(kept.copy))
    (kept.copy / "files/.volumes/index/words").write_text("other", encoding="utf-8")
    with pytest.raises(Exception, match="files/.volumes/index/words"):
        kept.media.verify(None, str(kept.copy))


def test_volumes_come_back_with_media_and_go_again(kept):
    kept.exchange.bring(kept.settings, kept.wanted)
    assert tree(kept.volume) == {**NEW, **below(f".restored-{STAMP}", WORDS)}
    kept.exchange.swap(kept.settings, kept.wanted)
    assert tree(kept.volume) == {**WORDS, **below(f".before-restore-{STAMP}", NEW)}
    assert {**USED, **STAYS}.items() <= tree(kept.directory).items() and not (kept.directory / ".volumes").exists()
    kept.exchange.swap(kept.settings, {"kind": "media", "stamp": LATER, "name": "x", "back": f"before-restore-{STAMP}"})
    assert tree(kept.volume) == {**NEW, **below(f".before-restore-{LATER}", WORDS)}
    assert tree(kept.directory)["one"] == "in use: later"


def test_a_copy_from_before_leaves_a_volume_as_it_is(kept):
    shutil.rmtree(kept.copy / "files/.volumes")
    kept.media.sums(str(kept.copy), None)
    kept.exchange.bring(kept.settings, kept.wanted)
    kept.exchange.swap(kept.settings, kept.wanted)
    assert tree(kept.volume) == NEW and tree(kept.directory)["one"] == USED["one"]
    kept.exchange.swap(kept.settings, {"kind": "media", "stamp": LATER, "name": "x", "back": f"before-restore-{STAMP}"})
    assert tree(kept.volume) == NEW and tree(kept.directory)["one"] == "in use: later"


def test_killed_between_two_directories_the_same_command_ends_it(kept, monkeypatch):
    kept.exchange.bring(kept.settings, kept.wanted)
    real = kept.exchange._swap

    def killed(wanted, directory):
        if "volumes" in directory:
            raise Killed
        real(wanted, directory)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(kept.exchange, "_swap", killed)
        kept.exchange.swap(kept.settings, kept.wanted)
    assert tree(kept.directory)["one"] == USED["one"] and tree(kept.volume) == {**NEW, **below(f".restored-{STAMP}", WORDS)}
    kept.exchange.swap(kept.settings, kept.wanted)
    assert tree(kept.volume) == {**WORDS, **below(f".before-restore-{STAMP}", NEW)}
    with pytest.raises(Exception, match="begin the restore again"):
        kept.exchange.swap(kept.settings, kept.wanted)


def test_nothing_changes_where_one_of_them_is_not_ready(kept):
    kept.exchange.bring(kept.settings, kept.wanted)
    shutil.rmtree(kept.volume / f".restored-{STAMP}")
    with pytest.raises(Exception, match="begin the restore again"):
        kept.exchange.swap(kept.settings, kept.wanted)
    assert tree(kept.directory)["one"] == "in use: later"


def test_a_volume_is_data_like_media(kept, tmp_path):
    assert str(kept.volume) in kept.settings.data
    with pytest.raises(Exception, match="has site.yml run"):
        shutil.rmtree(kept.volume)
        kept.media.make(kept.settings)


def test_the_role_names_the_volumes_that_are_kept():
    volumes = [{"name": "index", "mount": "/i", "backup": "yes"}, {"name": "cache", "mount": "/c"}]
    assert value("backup", "__backup_settings.media", senex_application_volumes=volumes) == {
        "directory": "data/media",
        "volumes": {"index": "data/volumes/index"},
    }
    assert value("backup", "__backup_settings.media", senex_application_volumes=volumes[1:]) == {"directory": "data/media"}
