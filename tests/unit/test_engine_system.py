"""Files that root owns: checked before any unit hears of them, back when something refuses."""

import os
import stat
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import system_transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import ApplyError, SystemComponent, SystemTransaction
from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest, WantedFile

OWN = (os.geteuid(), os.getegid())


class System:
    """Commands that are recorded, and refused where a test says so."""

    def __init__(self):
        self.log, self.refuse, self.inactive, self.condition = [], (), (), "ConditionResult=yes\nConditionTimestampMonotonic=5\n"

    def __call__(self, argv):
        line = " ".join(argv)
        if "show" in argv:
            state = "inactive" if argv[-1] in self.inactive else "active"
            return subprocess.CompletedProcess(argv, 0, f"ActiveState={state}\nUnitFileState=enabled\n{self.condition}", "")
        if "journalctl" not in line:
            self.log.append(line)
        bad = any(word in line for word in self.refuse)
        return subprocess.CompletedProcess(argv, int(bad), "", "line 3: no" if bad else "")


@pytest.fixture
def system(monkeypatch, tmp_path):
    fake = System()
    monkeypatch.setattr(system_transaction, "command", fake)
    monkeypatch.setattr(system_transaction, "ASIDE", str(tmp_path / "state" / "aside"))
    monkeypatch.setattr(system_transaction, "UNIT_PATHS", (str(tmp_path / "etc" / "units"),))
    monkeypatch.setattr(system_transaction, "Manifest", lambda component: Manifest(component, str(tmp_path / "state")))
    return fake


@pytest.fixture
def component(tmp_path):
    def make(**contents):
        files = [WantedFile(str(tmp_path / "etc" / name), text.encode(), 0o644, *OWN, notify=["web"]) for name, text in contents.items()]
        return SystemComponent(
            "nginx", files, checks=[["nginx", "-t"]], handlers={"web": {"unit": "nginx.service", "action": "reload"}}, units=["nginx.service"]
        )

    return make


def run(component, present=True, check=False):
    return SystemTransaction(component, present).run(check)


def content(tmp_path):
    return {path.name: path.read_text() for path in (tmp_path / "etc").rglob("*") if path.is_file()}


def test_check_then_reload_then_start(system, component, tmp_path):
    system.inactive = ("nginx.service",)
    assert run(component(site="a"))["changed"] and content(tmp_path) == {"site": "a"}
    assert system.log == ["nginx -t", "systemctl try-reload-or-restart nginx.service", "systemctl enable --now nginx.service"]
    system.log.clear()
    system.inactive = ()
    assert run(component(site="a")) == {"changed": False, "plan": [], "diff": []} and system.log == []


@pytest.mark.parametrize(("moment", "starts"), [("0", 1), ("5", 0)])
def test_a_unit_whose_condition_says_no_is_left_and_one_that_was_never_started_is_not(system, component, moment, starts):
    """systemd says no of both. A package that was installed without a start leaves its unit enabled."""
    system.inactive, system.condition = ("nginx.service",), f"ConditionResult=no\nConditionTimestampMonotonic={moment}\n"
    run(component(site="a"))
    assert system.log.count("systemctl enable --now nginx.service") == starts


def test_check_mode_touches_nothing(system, component, tmp_path):
    told = run(component(site="a"), check=True)
    assert told["plan"] == [f"install {tmp_path}/etc/site", "reload nginx.service"] and not (tmp_path / "etc").exists() and system.log == []


def test_what_a_checker_refuses_is_never_heard_of(system, component, tmp_path):
    run(component(site="a"))
    before = Manifest("nginx", str(tmp_path / "state"))
    system.log.clear()
    system.refuse = ("nginx -t",)
    with pytest.raises(ApplyError, match="'nginx -t' refused the new files: line 3: no\nThe files from before are back"):
        run(component(site="b", other="c"))
    assert content(tmp_path) == {"site": "a"} and vars(Manifest("nginx", str(tmp_path / "state"))) == vars(before)
    assert system.log[0] == "nginx -t"


def test_a_first_run_that_is_refused_leaves_nothing(system, component, tmp_path):
    system.refuse = ("nginx -t",)
    with pytest.raises(ApplyError):
        run(component(site="b"))
    assert content(tmp_path) == {} and not Manifest("nginx", str(tmp_path / "state")).found and len(system.log) == 1


def test_a_unit_that_refuses_hears_again_of_the_old_files(system, component, tmp_path):
    run(component(site="a"))
    system.log.clear()
    system.refuse = ("try-reload",)
    with pytest.raises(ApplyError, match="failed: line 3: no"):
        run(component(site="b"))
    assert content(tmp_path) == {"site": "a"} and system.log == ["nginx -t"] + ["systemctl try-reload-or-restart nginx.service"] * 2


def test_a_disk_that_is_full_changes_nothing(system, component, tmp_path, monkeypatch):
    run(component(site="a"))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(Manifest, "save", lambda self: None)
        with pytest.raises(ApplyError, match="No space left"):
            run(component(site="b"))
    assert content(tmp_path) == {"site": "a"}


def test_a_run_killed_before_the_reload_is_finished(system, component, tmp_path, monkeypatch):
    run(component(site="a"))

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SystemTransaction, "_reload_systemd", killed)
        with pytest.raises(Killed):
            run(component(site="b"))
    system.log.clear()
    assert "finish what" in run(component(site="b"))["plan"][0]
    assert system.log == ["systemctl daemon-reload", "nginx -t", "systemctl try-reload-or-restart nginx.service"]
    assert not run(component(site="b"))["changed"]


def test_a_unit_file_makes_systemd_read_again(system, component):
    run(component(**{"units/x.service": "[Service]\n"}))
    assert system.log[0] == "systemctl daemon-reload"


def test_what_was_there_before_is_kept_once(system, component, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "site").write_text("of the package")
    run(component(site="a"))
    run(component(site="b"))
    assert open(f"{system_transaction.ASIDE}{tmp_path}/etc/site").read() == "of the package"  # noqa: SIM115


def test_what_is_to_go_is_put_aside_before_the_checks_and_back_when_they_refuse(system, component, tmp_path, monkeypatch):
    foreign = tmp_path / "etc" / "foreign"
    foreign.parent.mkdir()
    foreign.write_text("theirs")
    wanted = component(site="a")
    wanted.absent = [str(foreign)]
    system.refuse = ("nginx -t",)
    with pytest.raises(ApplyError):
        run(wanted)
    assert content(tmp_path) == {"foreign": "theirs"}
    seen = []
    system.refuse = ()
    wanted.checks = [["look"]]
    monkeypatch.setattr(system_transaction, "command", lambda argv: (seen.append(foreign.exists()) if argv == ["look"] else None) or system(argv))
    run(wanted)
    assert seen == [False] and content(tmp_path) == {"site": "a"}
    assert open(f"{system_transaction.ASIDE}{foreign}").read() == "theirs"  # noqa: SIM115


def test_absent_removes_what_is_ours_and_tells_the_unit(system, component, tmp_path):
    run(component(site="a", other="b"))
    run(component(site="a"))
    assert content(tmp_path) == {"site": "a"}
    (tmp_path / "etc" / "foreign").write_text("x")
    assert run(SystemComponent("nginx"), present=False)["changed"] and content(tmp_path) == {"foreign": "x"}
    assert not run(SystemComponent("nginx"), present=False)["changed"]


def test_an_owner_that_does_not_exist_is_named():
    with pytest.raises(LookupError, match="nobody-of-this-name"):
        system_transaction.ids("nobody-of-this-name", "root")


def test_a_directory_gets_its_mode_and_a_users_link_is_not_followed(tmp_path):
    item = {"path": str(tmp_path / "d" / "e"), "mode": "0750", "owner": str(OWN[0]), "group": str(OWN[1])}
    system_transaction.make_directory(item)
    assert stat.S_IMODE(os.stat(item["path"]).st_mode) == 0o750
    system_transaction.make_directory({**item, "mode": "0700"})
    assert stat.S_IMODE(os.stat(item["path"]).st_mode) == 0o700
    (tmp_path / "real").mkdir(mode=0o755)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    if OWN[0] == 0:
        os.lchown(link, 65534, 65534)
        with pytest.raises(OSError, match="link"):
            system_transaction.make_directory({**item, "path": str(link), "mode": "0700"})
        assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o755
    assert not fileset.missing_directory(str(link))


# A block in a file that is somebody else's
AT = r"^\*filter$.*?(?=^COMMIT$)"
FOREIGN = "*nat\nCOMMIT\n*filter\n# mine\n-A own\nCOMMIT\n"


def block_part(tmp_path, text, name="rules"):
    files = [WantedFile(str(tmp_path / "etc" / name), text.encode(), notify=["firewall"], block_at=AT)]
    return SystemComponent("nginx", files, handlers={"firewall": {"command": ["ufw", "reload"]}})


def foreign(tmp_path, text=FOREIGN, mode=0o640):
    path = tmp_path / "etc" / "rules"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_block_goes_into_a_foreign_file_and_out_of_it_again_without_a_trace(system, tmp_path):
    path = foreign(tmp_path)
    assert run(block_part(tmp_path, "-A ours\n"))["changed"] and system.log == ["ufw reload"]
    begin, end = fileset.BEGIN.decode(), fileset.END.decode()
    assert path.read_text() == FOREIGN.replace("own\nCOMMIT", f"own\n{begin}\n-A ours\n{end}\nCOMMIT")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not run(block_part(tmp_path, "-A ours\n"))["changed"] and system.log == ["ufw reload"]
    run(SystemComponent("nginx", handlers={"firewall": {"command": ["ufw", "reload"]}}), present=False)
    assert path.read_text() == FOREIGN and system.log == ["ufw reload"] * 2 and not Manifest("nginx", str(tmp_path / "state")).found


def test_what_others_write_around_a_block_stays_and_what_they_lose_comes_back(system, tmp_path):
    path = foreign(tmp_path)
    run(block_part(tmp_path, "-A ours\n"))
    path.write_text("# first\n" + path.read_text().replace("-A own\n", "-A own\n-A more\n"))
    assert not run(block_part(tmp_path, "-A ours\n"))["changed"], "nothing of ours is wrong"
    run(block_part(tmp_path, "-A others\n"))
    text = path.read_text()
    assert text.startswith("# first\n") and "-A more\n" in text and "-A ours" not in text and text.count("-A others") == 1
    for lost in (FOREIGN, text.replace(fileset.END.decode() + "\n", ""), text.replace("-A others\n", "")):
        system.log.clear()
        path.write_text(lost)
        assert run(block_part(tmp_path, "-A others\n"))["changed"] and system.log == ["ufw reload"]
        assert path.read_text().count(fileset.BEGIN.decode()) == path.read_text().count(fileset.END.decode()) == 1 and "-A own\n" in path.read_text()


def test_an_empty_block_is_none(system, tmp_path):
    path = foreign(tmp_path)
    run(block_part(tmp_path, "-A ours\n"))
    run(block_part(tmp_path, "\n"))
    assert path.read_text() == FOREIGN and system.log == ["ufw reload"] * 2
    run(SystemComponent("nginx"))
    assert path.read_text() == FOREIGN, "nor does a part without it take the file away"


def test_a_block_that_is_refused_leaves_the_file_as_it_was(system, tmp_path):
    path = foreign(tmp_path)
    system.refuse = ("ufw",)
    with pytest.raises(ApplyError):
        run(block_part(tmp_path, "-A ours\n"))
    assert path.read_text() == FOREIGN


def test_where_the_file_is_not_there_is_no_block_and_where_it_has_no_place_a_sentence(system, tmp_path):
    run(block_part(tmp_path, "-A ours\n"))
    assert not (tmp_path / "etc").exists()
    foreign(tmp_path, "nothing\n")
    with pytest.raises(OSError, match="no place for what this collection adds"):
        run(block_part(tmp_path, "-A ours\n"))
