"""`pitr discard`: what is kept until nobody needs it goes by name, and nothing else does."""

import pathlib
import subprocess

import pytest
from test_pitr_removal import canaries, conf  # noqa: F401  (the fixture)

from pitr import discard, removal  # isort: skip
from pitr.jobs import PitrError  # isort: skip

OF_RESTORE, OF_UPGRADE, LATE = "postgres.before-restore-20261129T120000Z", "postgres.15-20261129T120000Z", "postgres.new-20261129T120000Z"


@pytest.fixture
def kept(conf, monkeypatch):  # noqa: F811
    """A home with something of each kind, and a container that has the copy mounted where `busy` says so."""
    data = pathlib.Path(conf.home, "data")
    for name in (OF_RESTORE, OF_UPGRADE, LATE, "postgres.rows", "postgres.of-somebody"):
        (data / name / "base").mkdir(parents=True)
    removal.note(str(data / "postgres.rows"), {"proven": "now"})
    archive = pathlib.Path(conf.archive, "kept/15-20261129T120000Z/main")
    (archive / "base").mkdir(parents=True)
    busy = []

    def podman(*words, **_):
        said = "\n".join(name for name, _ in busy) if words[0] == "ps" else dict(busy)[words[-1]] + "\n"
        return subprocess.CompletedProcess(words, 0, said, "")

    monkeypatch.setattr(removal, "podman", podman)
    monkeypatch.setattr(discard, "run", removal.run)
    conf.__dict__["busy"] = busy  # frozen
    return conf


def test_each_kind_goes_alone(kept):
    data, archive = f"{kept.home}/data", f"{kept.archive}/kept/15-20261129T120000Z"
    wanted = [archive, *sorted(f"{data}/{name}" for name in (OF_RESTORE, OF_UPGRADE, LATE, "postgres.rows"))]
    assert discard.there(kept) == wanted
    for gone in wanted:
        discard.discard(kept, gone)
        assert not pathlib.Path(gone).exists()
    assert discard.there(kept) == [] and len(canaries(kept)) == 8
    assert pathlib.Path(data, "postgres.of-somebody").exists()


@pytest.mark.parametrize(
    "name", ["data/postgres", "data", "", "data/postgres.of-somebody", "data/postgres.", "data/redis", "backups/barman", "backups/barman/kept",
             "data/postgres.before-restore-TIME", f"data/{OF_RESTORE}/base", "data/postgres/../postgres"],
)  # fmt: skip
def test_nothing_else_goes(kept, name):
    before = sorted(pathlib.Path(kept.home).rglob("*"))
    with pytest.raises(PitrError, match="is nothing that is kept; there are: .*postgres.rows"):
        discard.discard(kept, f"{kept.home}/{name}")
    assert sorted(path for path in pathlib.Path(kept.home).rglob("*") if ".lock" not in path.name) == before


@pytest.mark.parametrize("typed", ["postgres.rows", f"./{OF_RESTORE}", "../made-elsewhere"])
def test_a_name_alone_lies_beside_the_data(kept, typed):
    """And what an earlier version let somebody make elsewhere goes by the mark of a restore."""
    elsewhere = pathlib.Path(kept.home, "made-elsewhere")
    elsewhere.mkdir()
    removal.note(str(elsewhere), {"proven": "now"})
    discard.discard(kept, typed)
    assert not pathlib.Path(kept.home, "data", typed).exists()


@pytest.mark.parametrize("mounted", ["", "/base"])
def test_what_a_container_works_on_stays(kept, mounted):
    directory = f"{kept.home}/data/postgres.rows"
    kept.busy.append(("rows", directory + mounted))
    with pytest.raises(PitrError, match=r"rows works on it; stop it first"):
        discard.discard(kept, directory)
    kept.busy[:] = [("postgres", f"{kept.home}/data/postgres")]
    discard.discard(kept, directory)


def test_what_a_unit_mounts_stays(kept):
    """Somebody let PostgreSQL work on what was kept, by hand."""
    units = pathlib.Path(kept.home, ".config/containers/systemd")
    units.mkdir(parents=True)
    (units / "postgres.container").write_text(f"[Container]\nVolume={kept.home}/data/{OF_UPGRADE}:/var/lib/postgresql/data\n")
    with pytest.raises(PitrError, match="it is not removed"):
        discard.discard(kept, f"{kept.home}/data/{OF_UPGRADE}")
    assert pathlib.Path(kept.home, "data", OF_UPGRADE, "base").is_dir() and not pathlib.Path(kept.home, "data", OF_UPGRADE, removal.MARK).exists()
