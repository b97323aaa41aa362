"""Images of PostgreSQL and Redis: what an update would do, and that a tag goes with what runs."""

import contextlib
import json
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.filter import operations
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, server_images
from ansible_collections.senex.trader.plugins.module_utils.host.server_images import Server

REFERENCE = "registry/postgres:15"
NOW = 1_800_000_000
IMAGES = {
    "old": {"told": "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "system": "debian 12"},
    "new": {"told": "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", "system": "debian 12"},
    "rebuilt": {"told": "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u2)", "system": "debian 12"},
    "trixie": {"told": "postgres (PostgreSQL) 15.20", "system": "debian 13"},
    "major": {"told": "postgres (PostgreSQL) 17.12", "system": "debian 12"},
    "older": {"told": "postgres (PostgreSQL) 15.9", "system": "debian 12"},
    "mute": {"told": "sh: postgres: not found", "system": "debian 12"},
}


class Podman:
    """A service user with images, tags and a registry."""

    def __init__(self, runs="old", registry="old"):
        self.runs, self.registry = runs, registry
        self.tags = {REFERENCE: runs}
        self.sorted, self.seen, self.refused = "", [], ""

    def image_ids(self, names):
        return {name: self.tags[name] for name in names if name in self.tags}

    def cannot_pull(self, variable, reference, said):
        return f"{variable}: {reference}: {said}"

    def podman(self, *words, check=True, timeout=0):
        code, out = self.answer(words)
        return subprocess.CompletedProcess(words, code, out, self.refused)

    def answer(self, words):
        match words:
            case ["pull", *_, reference]:
                if self.refused:
                    return 125, ""
                self.tags[reference] = self.registry
            case ["tag", image, name]:
                self.tags[name] = image
            case ["untag", _, name]:
                del self.tags[name]
            case ["image", "inspect", _, _, image]:
                return 0, f"{image}\tsha256:{image}\t{NOW - 86400}\n"
            case ["run", *rest]:
                image = IMAGES[rest[rest.index("sh") + 1]]
                return 0, f"{image['told']}\nsystem {image['system']}\n"
            case ["ps", *_]:
                return 0, json.dumps([{"ImageID": self.runs}] if self.runs else [])
            case ["exec", _, "sorted"]:
                return 0, self.sorted
            case ["exec", *_]:
                self.seen.append(self.tags[REFERENCE])
                return 0, IMAGES[self.runs]["told"].removeprefix("postgres (PostgreSQL) ") + "\n"
        return 0, ""


@pytest.fixture(autouse=True)
def no_lock(monkeypatch):
    monkeypatch.setattr(fileset, "lock", contextlib.nullcontext)


def server(reference=REFERENCE):
    return Server("postgresql", "postgresql_image", reference, "postgres", ["postgres"], ["version"], ["sorted"])


@pytest.mark.parametrize(("registry", "way"), [
    ("old", "none"), ("new", "update"), ("rebuilt", "update"), ("trixie", "update"), ("major", "major"), ("older", "older"), ("mute", "unreadable"),
])  # fmt: skip
def test_what_the_registry_has_is_judged_by_the_version_of_its_server(registry, way):
    podman = Podman(registry=registry)
    found = server_images.plan(podman, server())
    assert found["way"] == way and found["running"]["version"] == "15.18"
    assert podman.tags[REFERENCE] == "old", "the tag stays with what runs"
    refused = server_images.refusal(found)
    assert bool(refused) is (way not in ("none", "update")) and ("upgrade_postgresql.yml" in refused) is (way == "major")
    assert ("-> " in server_images.lines(found, NOW)) is (way == "update")


def test_another_system_is_refused_where_text_is_sorted_by_its_rules():
    podman = Podman(registry="trixie")
    podman.sorted = "senex\nreports\n"
    found = server_images.plan(podman, server())
    assert found["way"] == "system" and "senex, reports" in found["why"] and "update_images_other_system=true" in server_images.refusal(found)
    assert server_images.plan(podman, server(), other_system=True)["way"] == "update"


def test_what_a_killed_run_has_moved_is_put_right():
    """Between the pull and the tag: the container tells which image is the one from before."""
    podman = Podman(registry="new")
    podman.tags[REFERENCE] = "new"
    assert server_images.plan(podman, server())["way"] == "update" and podman.tags[REFERENCE] == "old"


def test_a_registry_that_does_not_answer_changes_nothing():
    podman = Podman(registry="new")
    podman.refused = "connection refused"
    with pytest.raises(OSError, match="postgresql_image"):
        server_images.plan(podman, server())
    assert podman.tags == {REFERENCE: "old"}


def test_what_does_not_run_is_not_compared():
    podman = Podman()
    podman.runs = ""
    with pytest.raises(OSError, match="does not run"):
        server_images.plan(podman, server())


def test_a_digest_is_the_inventorys():
    reference = "registry/postgres@sha256:abc"
    podman = Podman(registry="new")
    podman.tags[reference] = "old"
    assert server_images.plan(podman, server(reference))["way"] == "pinned" and podman.tags[reference] == "old"


def updated():
    podman = Podman(registry="new")
    found = server_images.plan(podman, server())
    podman.runs = podman.tags[REFERENCE] = "new"
    server_images.keep(podman, server(), found["running"]["id"])
    return podman, found


def test_the_image_from_before_is_kept_for_the_way_back():
    podman, found = updated()
    assert server_images.verify(podman, server(), found["wanted"]) == []
    assert podman.tags == {REFERENCE: "new", server().kept: "old"}
    back = server_images.plan(podman, server(), back=True)
    assert back["way"] == "back" and back["images"] == {REFERENCE: {"id": "old", "previous": "new"}} and podman.tags[REFERENCE] == "new"
    server_images.keep(podman, server(), "")
    assert server_images.plan(podman, server(), back=True)["way"] == "none"


def test_what_runs_is_verified_by_image_and_version():
    podman, found = updated()
    podman.runs = "old"
    assert "and not image new" in server_images.verify(podman, server(), found["wanted"])[0]
    assert "is of version 15.20" in server_images.verify(updated()[0], server(), {**found["wanted"], "version": "15.21"})[0]
    podman.runs = ""
    assert server_images.verify(podman, server(), found["wanted"]) == ["postgres runs not, and not image new"]


INFO = {
    "7.0.15": "# Server\nredis_version:7.0.15\nredis_git_sha1:00000000\nos:Linux 6.1.0 x86_64\n",
    "8.1.1": "os:Linux 6.1.0 x86_64\nvalkey_version:8.1.1\n",
}


@pytest.mark.parametrize("version", INFO)
def test_redis_tells_its_version(version):
    podman = Podman()
    podman.answer = lambda words: (0, INFO[version])
    assert server_images.version_of(podman, server(), "redis") == version


@pytest.mark.parametrize("components", [["postgresql", "redis"], ["redis"], ["postgresql"]])
def test_one_server_after_the_other(components):
    groups = {"postgresql": ["data"], "redis": ["cache"], "web": ["one"], "nginx": ["one"]}
    way = operations.update_images_way(groups, components)
    assert [one["stage"] for one in way] == ["lock", "dump", *components] and set(way[0]["hosts"]) == {"data", "cache", "one"}
    told = {host: {"confirmed": ["lock"]} for host in ("data", "cache", "one")}
    saved = operations.operation_troubles(way, told, components[0], way[2]["hosts"][0])
    assert "dump: not confirmed" in saved[0], "nothing restarts before its data is saved"
