"""What other configuration overrides is seen, and where it comes from is told."""

import json
import os

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import in_force
from rendered import value
from test_input_checks import GIVEN

SSHD_T = "port 22\npasswordauthentication no\npermitrootlogin without-password\nmaxauthtries 4\nloglevel VERBOSE\n"
SSHD = {"PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password", "MaxAuthTries": "4", "LogLevel": "VERBOSE"}
JOURNALD = "# /etc/systemd/journald.conf\n[Journal]\n#Storage=auto\n\n# /etc/systemd/journald.conf.d/senex.conf\n# A comment\n[Journal]\nStorage=persistent\n"
LATER = "\n# /etc/systemd/journald.conf.d/zz-small.conf\n[Journal]\nStorage=volatile\n"
UFW = "Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), deny (routed)\n"
IGNORED = "These IP addresses/networks are ignored:\n|- 127.0.0.0/8\n`- ::1\n"
APT = (
    'APT "";\nAPT::Periodic "";\nAPT::Periodic::Unattended-Upgrade "1";\nUnattended-Upgrade::Origins-Pattern "";\n'
    'Unattended-Upgrade::Origins-Pattern:: "origin=Debian,codename=${distro_codename}-security,label=Debian-Security";\n'
)
ORIGINS = ["origin=Debian,codename=${distro_codename}-security,label=Debian-Security"]
TIMER = "Id=apt-daily-upgrade.timer\nActiveState={}\nUnitFileState={}\n"


def answering(**answers):
    """What whoever is asked says; with a tuple, its exit status too."""
    return lambda questions: {name: answer if isinstance(answer := answers.get(name.replace(" ", "_"), ""), tuple) else (0, answer) for name in questions}


def said(wanted, **answers):
    return [in_force.sentence(one) for one in in_force.look(wanted, asking=answering(**answers))]


@pytest.fixture(autouse=True)
def sshd_files(tmp_path, monkeypatch):
    """/etc/ssh of a host: sshd_config, and drop-ins by name."""
    monkeypatch.setattr(in_force, "SSHD", str(tmp_path / "sshd_config"))
    monkeypatch.setattr(in_force, "SSHD_OWN", str(tmp_path / "sshd_config.d/00-senex.conf"))
    monkeypatch.setattr(in_force, "UFW_SYSCTL", str(tmp_path / "ufw.conf"))
    monkeypatch.setattr(in_force.sshd_lines, "__defaults__", (str(tmp_path / "sshd_config"), False, 0))

    def write(main, **drop_ins):
        (tmp_path / "sshd_config").write_text(main)
        (tmp_path / "sshd_config.d").mkdir(exist_ok=True)
        for name, text in {"00-senex": "PasswordAuthentication no\n", **drop_ins}.items():
            (tmp_path / f"sshd_config.d/{name}.conf").write_text(text)

    write("Include sshd_config.d/*.conf\n")
    return write


def test_all_in_force():
    wanted = {"sshd": SSHD, "systemd": {"systemd/journald.conf": {"Storage": "persistent"}}, "ufw": {"status": "active", "incoming": "deny"},
              "fail2ban": {"maxretry": "5", "bantime": "1h", "ignoreip": ["127.0.0.1/8", "::1"]}, "units": ["apt-daily-upgrade.timer"],
              "apt": {"APT::Periodic::Unattended-Upgrade": "1", "APT::Periodic::Enable": "1", "Unattended-Upgrade::Origins-Pattern": ORIGINS,
                      "Unattended-Upgrade::Package-Blacklist": []}}  # fmt: skip
    answers = {"sshd": SSHD_T, "sshd_root": SSHD_T, "systemd/journald.conf": JOURNALD, "ufw": UFW, "fail2ban_maxretry": "5\n", "fail2ban_bantime": "3600\n",
               "fail2ban_ignoreip": IGNORED, "apt": APT, "units": TIMER.format("active", "enabled")}  # fmt: skip
    assert said(wanted, **answers) == []


def test_sshd_config_without_include(sshd_files):
    sshd_files("PermitRootLogin yes\n")
    (line,) = said({"sshd": SSHD}, sshd=SSHD_T.replace("authentication no", "authentication yes"), sshd_root=SSHD_T)
    assert line.startswith("sshd PasswordAuthentication is yes, not no; ") and "put the line `Include /etc/ssh/sshd_config.d/*.conf` before all others" in line


def test_sshd_reads_another_value_first(sshd_files, tmp_path):
    sshd_files("# first\nMaxAuthTries = 9\nInclude sshd_config.d/*.conf\n")
    (line,) = said({"sshd": SSHD}, sshd=SSHD_T.replace("tries 4", "tries 9"), sshd_root=SSHD_T)
    assert line == f"sshd MaxAuthTries is 9, not 4; {tmp_path}/sshd_config line 2 sets it, which sshd reads first"


def test_sshd_has_a_match_block_for_root(sshd_files, tmp_path):
    sshd_files("Include sshd_config.d/*.conf\nMatch User root\n  PasswordAuthentication yes\n")
    (line,) = said({"sshd": SSHD}, sshd=SSHD_T, sshd_root=SSHD_T.replace("authentication no", "authentication yes"))
    assert line == f"sshd PasswordAuthentication is yes for root, not no; {tmp_path}/sshd_config line 3 sets it in a Match block"


def test_sshd_that_nobody_has_called_yet_is_no_trouble():
    assert said({"sshd": SSHD}, sshd=(255, "Missing privilege separation directory: /run/sshd\n"), sshd_root=(255, "")) == []


def test_sshd_refuses_to_say_and_others_are_asked_all_the_same():
    assert said({"sshd": SSHD, "ufw": {"status": "active", "incoming": "deny"}}, sshd=(255, "x\nline 3: Bad configuration option: Foo\n"), ufw=UFW) == [
        "sshd cannot be asked: line 3: Bad configuration option: Foo"
    ]


@pytest.mark.parametrize(
    ("now", "cat", "sentence"),
    [
        ("4096\n", "# /etc/sysctl.d/99-senex.conf\n-net.core.somaxconn = 4096\n", None),
        ("128\n", "", f"sysctl net.core.somaxconn is 128, not 4096; {in_force.NOT_TAKEN}"),
        ("128\n", "# /etc/sysctl.d/99-z.conf\nnet/core/somaxconn=128\n", "sysctl net.core.somaxconn is 128, not 4096; /etc/sysctl.d/99-z.conf sets it"),
        (
            "4096\n",
            "# /etc/sysctl.d/99-senex.conf\n-net.core.somaxconn = 4096\n\n# /etc/sysctl.d/99-z.conf\n; c\nnet.core.somaxconn = 128\n",
            "sysctl net.core.somaxconn is 4096, and 128 after the next boot; /etc/sysctl.d/99-z.conf sets it",
        ),
    ],
)
def test_sysctl(tmp_path, now, cat, sentence):
    (tmp_path / "net/core").mkdir(parents=True)
    (tmp_path / "net/core/somaxconn").write_text(now)
    found = in_force.judge_sysctl({"net.core.somaxconn": 4096, "kernel.not_here": 1}, {"sysctl": (0, cat)}, str(tmp_path))
    assert [in_force.sentence(one) for one in found] == ([sentence] if sentence else [])


def test_sysctl_of_ufw_comes_last(tmp_path):
    (tmp_path / "net/ipv4").mkdir(parents=True)
    (tmp_path / "net/ipv4/tcp_syncookies").write_text("1\n")
    (tmp_path / "ufw.conf").write_text("#net/ipv4/tcp_syncookies=1\nnet/ipv4/tcp_syncookies=0\n")
    (one,) = in_force.judge_sysctl({"net.ipv4.tcp_syncookies": 1}, {"sysctl": (0, "")}, str(tmp_path))
    assert in_force.sentence(one) == f"sysctl net.ipv4.tcp_syncookies is 1, and 0 after the next boot; {tmp_path}/ufw.conf sets it"


@pytest.mark.parametrize(
    ("wanted", "answers", "sentence"),
    [
        (
            {"systemd": {"systemd/journald.conf": {"Storage": "persistent"}}},
            {"systemd/journald.conf": JOURNALD + LATER},
            "journald.conf Storage is volatile, not persistent; /etc/systemd/journald.conf.d/zz-small.conf sets it",
        ),
        ({"systemd": {"systemd/coredump.conf": {"Storage": "none"}}}, {}, "coredump.conf Storage is its default, not none"),
        ({"fail2ban": {"bantime": "10m"}}, {"fail2ban_bantime": "60\n"}, "fail2ban bantime is 60, not 10m"),
        ({"fail2ban": {"ignoreip": ["::1"]}}, {"fail2ban_ignoreip": "x:\n|- ::1\n`- 0.0.0.0/0\n"}, "fail2ban ignoreip has 0.0.0.0/0 too"),
        ({"fail2ban": {"maxretry": "5"}}, {"fail2ban_maxretry": (255, "Sorry but the jail 'sshd' does not exist\n")}, "the jail 'sshd' does not exist"),
        ({"ufw": {"status": "active", "incoming": "deny"}}, {"ufw": "Status: inactive\n"}, "ufw status is inactive, not active"),
        ({"ufw": {"status": "active", "incoming": "deny"}}, {"ufw": UFW.replace("deny (inc", "allow (inc")}, "ufw incoming is allow, not deny"),
        ({"apt": {"APT::Periodic::Unattended-Upgrade": "1"}}, {"apt": APT.replace('"1"', '"0"')}, "apt APT::Periodic::Unattended-Upgrade is 0, not 1"),
        ({"apt": {"APT::Periodic::Enable": "1"}}, {"apt": APT + 'APT::Periodic::Enable "0";\n'}, "apt APT::Periodic::Enable is 0, not 1"),
        ({"apt": {"Unattended-Upgrade::Origins-Pattern": ORIGINS}}, {"apt": ""}, "apt Unattended-Upgrade::Origins-Pattern lacks origin=Debian"),
        (
            {"apt": {"Unattended-Upgrade::Package-Blacklist": []}},
            {"apt": 'Unattended-Upgrade::Package-Blacklist:: ".*";\n'},
            "apt Unattended-Upgrade::Package-Blacklist has .* too",
        ),
        ({"units": ["apt-daily-upgrade.timer"]}, {"units": TIMER.format("inactive", "masked")}, "apt-daily-upgrade.timer is inactive and masked"),
    ],
)
def test_what_overrides(wanted, answers, sentence):
    (line,) = said(wanted, **answers)
    assert sentence in line


def test_more_origins_are_somebodys_decision():
    assert said({"apt": {"Unattended-Upgrade::Origins-Pattern": ORIGINS}}, apt=APT + 'Unattended-Upgrade::Origins-Pattern:: "origin=Docker";\n') == []


def test_a_quick_look_leaves_out_what_takes_long():
    asked = []
    wanted = {"fail2ban": {"maxretry": "5"}, "ufw": {"status": "active", "incoming": "deny"}, "units": ["a.timer"]}
    in_force.look(wanted, quick=True, asking=lambda questions: asked.extend(questions) or {name: (0, "") for name in questions})
    assert asked == ["units"]


def test_a_program_that_is_not_there_or_fails_is_said():
    found = in_force.ask({"none": ["/nonexistent/program"], "fails": ["sh", "-c", "echo no; exit 3"], "well": ["echo", "yes"]})
    assert found["none"][0] == 127 and found["fails"] == (3, "no\n") and found["well"] == (0, "yes\n")


def test_a_host_without_the_list_wants_nothing(tmp_path):
    assert in_force.look(in_force.read(str(tmp_path / "none"))) == []
    (tmp_path / "list").write_text(json.dumps({"units": []}))
    assert in_force.look(in_force.read(str(tmp_path / "list"))) == []


def test_the_kernels_settings_come_after_the_distributions_and_before_the_administrators():
    """systemd-sysctl and procps read by name, whatever the directory, and the last value holds."""
    names = ["50-default.conf", "60-ufw.conf", "99-cloudimg-ipv6.conf", "99-protect-links.conf", os.path.basename(in_force.SYSCTL_OWN), "99-sysctl.conf"]
    assert names == sorted(names)
    assert in_force.SYSCTL_OWN in [item["dest"] for item in value("common", "__common_files_always", **GIVEN)]


def test_null_leaves_a_kernel_setting_out():
    """Of the file and of what is verified, for both are made of one list."""
    changed = {"vm.swappiness": None, "net.ipv4.tcp_fin_timeout": 31}
    wanted = value("common", "__common_in_force", **GIVEN, common_sysctl_overrides=changed)["sysctl"]
    assert "vm.swappiness" not in wanted and wanted["net.ipv4.tcp_fin_timeout"] == 31 and wanted["vm.overcommit_memory"] == 1
