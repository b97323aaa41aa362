"""A tag that is to name another image of the host: its unit restarts with that, and the tag goes back with a unit that does not come up."""

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import payload
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError
from test_engine_transaction import Live, Machine, quiet_host  # noqa: F401  (the fixture is of every test here)

DATABASE = "registry/db:1"
FORWARD = {DATABASE: {"id": "id-newer", "previous": "id-db"}}


class Tagging(Machine):
    """The unit of the database comes up with any image but those that a test refuses."""

    def __init__(self, home):
        super().__init__(home)
        self.broken = set()

    def run(self, argv, check=True, stdin=None, extra=None, timeout=900, exact=False):
        if argv[1:2] == ["tag"]:
            self.images[argv[3]] = argv[2]
        if "restart" in argv and argv[-1] == "db.service" and self.images[DATABASE] in self.broken:
            self.log.append(f"restart {argv[-1]}")
            raise CommandError(argv, super().run(["x", "show"]))
        return super().run(argv, check, stdin, extra, timeout, exact)


@pytest.fixture
def live(tmp_path):
    (tmp_path / "home").mkdir()
    world = Live(tmp_path / "home", tmp_path / "state")
    world.host = Tagging(tmp_path / "home")
    world.host.states = {name: {"ActiveState": "inactive"} for name in ("db.service", "web.service")}
    world.run()
    world.host.states, world.wanted = {}, {}
    plain = world.component
    world.component = lambda: change(plain(), world.wanted)
    return world


def change(component, images):
    component.images = images
    return component


def test_the_unit_of_the_tag_restarts_and_no_other(live):
    live.wanted = FORWARD
    looked = live.run(check=True)
    assert live.host.images[DATABASE] == "id-db", "a look changes nothing"
    done = live.run()
    assert done["plan"] == looked["plan"] == ["let registry/db:1 name image id-newer", "restart db.service (what it reads has changed)"]
    assert live.host.log.index("tag id-newer registry/db:1") < live.host.log.index("restart db.service")
    live.wanted = {}
    assert live.run() == {"changed": False, "plan": [], "diff": []}, "the next run leaves it"


def test_an_image_that_does_not_come_up_gives_the_tag_back(live):
    live.wanted, live.host.broken = FORWARD, {"id-newer"}
    with pytest.raises(ApplyError, match=r"(?s)db\.service did not come up.*running again: db\.service"):
        live.run()
    assert live.host.images[DATABASE] == "id-db"
    back = [line for line in live.host.log if line.startswith(("tag", "restart"))]
    assert back == ["tag id-newer registry/db:1", "restart db.service", "tag id-db registry/db:1", "restart db.service"]
    live.wanted = {}
    assert not live.run()["changed"]


def test_a_tag_that_another_component_has_moved_goes_back_too(live):
    """Two units of one image: the second one's failure is the tag's."""
    live.wanted, live.host.broken = FORWARD, {"id-newer"}
    live.host.images[DATABASE] = "id-newer"
    with pytest.raises(ApplyError):
        live.run()
    assert live.host.images[DATABASE] == "id-db"


def test_a_tag_that_is_there_already_is_nothing_to_do(live):
    live.wanted = {DATABASE: {"id": "id-db", "previous": "id-db"}}
    assert not live.run()["changed"]


def test_what_was_handed_over_is_the_same_without_it(tmp_path):
    """Or the next run would go to the host for it."""
    data = {"component": "redis", "state": "present", "files": [], "secrets": [], "deploy_lock": {"id": "x"}}
    moved = {**data, "images": FORWARD}
    assert payload.digest(moved) == payload.digest(data)
    payload.save_applied(moved, str(tmp_path))
    (kept,) = payload.load_applied(str(tmp_path))
    assert "images" not in kept["data"] and payload.is_applied(data, str(tmp_path))
