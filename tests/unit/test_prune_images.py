"""Which images the prune timer leaves."""

import importlib.util
import pathlib
import sys

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import owned

SCRIPT = pathlib.Path(__file__).parents[2] / "roles/podman/files/prune_images.py"


@pytest.fixture(scope="module")
def prune():
    sys.modules.setdefault("owned", owned)  # the role installs it where the program looks
    specification = importlib.util.spec_from_file_location("prune_images", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def image(number, *names):
    return {"Id": f"id{number}", "Names": list(names), "RepoDigests": [], "Created": number}


def gone(found):
    return [image["Id"] for image in found]


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("registry.senex.test:5000/team/app:1", "registry.senex.test:5000/team/app"),
        ("registry.senex.test:5000/team/app", "registry.senex.test:5000/team/app"),
        ("registry.senex.test:5000/team/app@sha256:0123", "registry.senex.test:5000/team/app"),
        ("localhost/app:1", "localhost/app"),
    ],
)
def test_repository(prune, reference, repository):
    assert prune.repository(reference) == repository


RELEASES = [image(number, f"r/app:{number}") for number in (1, 2, 3, 4)]


def test_newest_of_a_repository_stay(prune):
    assert gone(prune.expendable(RELEASES, set(), set(), 3)) == ["id1"]


def test_repositories_count_apart(prune):
    assert gone(prune.expendable([*RELEASES, image(0, "r/postgres:15")], set(), set(), 3)) == ["id1"]


def test_an_old_one_in_use_stays(prune):
    assert gone(prune.expendable(RELEASES, {"id1"}, set(), 1)) == ["id2", "id3"]


def test_an_old_one_that_a_unit_names_stays(prune):
    assert gone(prune.expendable(RELEASES, set(), {"r/app:2"}, 1)) == ["id1", "id3"]


def test_by_digest(prune):
    pinned = {**image(1), "RepoDigests": ["r/app@sha256:01"]}
    assert gone(prune.expendable([pinned, *RELEASES[1:]], set(), {"r/app@sha256:01"}, 1)) == ["id2", "id3"]


def test_a_listing_with_a_row_for_each_tag(prune):
    twice = image(4, "r/app:4", "r/app:stable")
    assert gone(prune.expendable([*RELEASES[:3], twice, twice], set(), set(), 2)) == ["id1", "id2"]


def test_without_a_name_and_without_use(prune):
    assert gone(prune.expendable([image(9)], set(), set(), 3)) == ["id9"]


def test_images_that_units_name(prune, tmp_path):
    (tmp_path / "web.container").write_text("[Container]\nImage=r/app:2\n")
    (tmp_path / "app.image").write_text("[Image]\nImage = r/other:1\nImage=r/app:3\n")
    assert {"r/app:2", "r/app:3"} <= prune.named_by_units(str(tmp_path))


@pytest.mark.parametrize(
    ("reference", "name"),
    [("registry.senex.test:5000/team/app:1.2", "1.2"), ("registry.senex.test:5000/team/app", ""), ("r/app@sha256:0123456789abcdef", "0123456789ab")],
)
def test_release(prune, reference, name):
    assert prune.release(reference) == name


def test_static_files_go_with_the_last_image_of_their_release(prune):
    pinned = {**image(9), "RepoDigests": ["r/app@sha256:0123456789abcdef"]}
    directories = [f"/h/data/static/{name}" for name in ("1", "2", "3", "0123456789ab", "ffff56789abc")]
    left = prune.left_behind(directories, [*RELEASES[2:], pinned], {"/h/data/static/1"})
    assert left == ["/h/data/static/2", "/h/data/static/ffff56789abc"]


def test_directories_that_units_mount(prune, tmp_path):
    (tmp_path / "web-1.container").write_text("[Container]\nVolume=/h/data/static/2:/app/staticfiles:ro\nVolume = /h/data/media/:/app/media\n")
    assert prune.mounted_by_units(str(tmp_path)) == {"/h/data/static/2", "/h/data/media"}


def test_room_is_set_aside_and_given_away(prune, tmp_path, monkeypatch):
    """What podman writes while it forgets an image has to fit on a disk that is full."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / prune.BALLAST_FILE
    place.parent.mkdir(parents=True)
    prune.create_ballast()
    assert place.stat().st_blocks * 512 >= prune.ROOM_BYTES
    prune.release_ballast()
    prune.release_ballast()
    assert not place.exists()


def test_a_disk_without_room_is_left_as_it_is(prune, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.chdir(tmp_path)
    (tmp_path / prune.BALLAST_FILE).parent.mkdir(parents=True)
    monkeypatch.setattr(prune.os, "posix_fallocate", full)
    prune.create_ballast()
    assert not (tmp_path / prune.BALLAST_FILE).exists()


@pytest.mark.parametrize("marked", [True, False])
def test_static_files_of_a_release_go_where_the_role_has_marked_their_place(prune, tmp_path, monkeypatch, marked):
    """And never what a unit mounts, nor the place itself."""
    (tmp_path / ".config/containers/systemd").mkdir(parents=True)
    (tmp_path / ".config/containers/systemd/web-1.container").write_text(f"[Container]\nVolume={tmp_path}/data/static/2:/app/staticfiles:ro\n")
    for name in ("1", "2"):
        (tmp_path / "data/static" / name / "css").mkdir(parents=True)
    if marked:
        owned.mark(str(tmp_path / "data/static"), name=owned.CHILDREN)
    real = prune.subprocess.run
    monkeypatch.chdir(tmp_path)  # it goes to the home, and the test back
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(prune, "podman", lambda *_: "[]")
    monkeypatch.setattr(prune.subprocess, "run", lambda words, **more: real(words[2:], **more))
    monkeypatch.setattr(prune.os, "posix_fallocate", lambda *_: None)
    (tmp_path / prune.BALLAST_FILE).parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(sys, "argv", ["prune", "--keep", "1"])
    assert prune.main() == 0
    assert sorted(path.name for path in (tmp_path / "data/static").iterdir() if path.is_dir()) == (["2"] if marked else ["1", "2"])


def test_the_role_marks_it():
    text = (SCRIPT.parents[2] / "django/vars/main.yml").read_text(encoding="utf-8")
    assert f"dest: data/static/{owned.CHILDREN}" in text


@pytest.mark.parametrize("keep", ["0", "-1", "two"])
def test_a_number_that_keeps_nothing_is_refused(prune, monkeypatch, capsys, keep):
    """It was taken for 1."""
    monkeypatch.setattr(prune, "podman", lambda *_: pytest.fail("nothing may be looked at"))
    monkeypatch.setattr(sys, "argv", ["senex-prune-images", f"--keep={keep}"])
    with pytest.raises(SystemExit) as ended:
        prune.main()
    assert ended.value.code == 2 and f"{keep} is no number of images that can be kept; write 1 or more" in capsys.readouterr().err
