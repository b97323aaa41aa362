"""Parsers of the fact script that the common role puts on a host."""

import ast
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest
import rendered

ROLE = pathlib.Path(__file__).parents[2] / "roles/common"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The one file that the role makes of the script and of the engine's module."""
    path = tmp_path_factory.mktemp("facts") / "senex_fact.py"
    path.write_text(rendered.value("common", "__common_fact_script"))
    return path


@pytest.fixture(scope="module")
def fact(script):
    specification = importlib.util.spec_from_file_location("senex_fact", script)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_version_is_the_one_the_role_asks_for(fact):
    assert int(rendered.value("common", "__common_facts_version")) == fact.VERSION


def test_every_module_is_in_it_once_and_whole(script):
    text, host = script.read_text(), ROLE.parents[1] / "plugins/module_utils/host"
    assert text.startswith("#!/usr/bin/python3 -IS\n") and text.endswith("    main()\n")
    assert not re.search(r"(?m)^(import|from) \.?(untrusted|child|words|senex_fact_parsing)\b", text)
    sources = [*ROLE.glob("files/senex_fact*.py"), *(host / f"{name}.py" for name in ("untrusted", "child", "words"))]
    names = [ast.unparse(node) for path in sources for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert sorted(map(ast.unparse, found)) == sorted(names) and len(sources) == 5
    assert len({node.name for node in found}) == len(found), "a name of the one hides a name of the other"


def test_prints_json_on_any_system(script):
    """Whatever is missing here, it says so with empty values."""
    answer = json.loads(subprocess.run([sys.executable, "-IS", script], check=True, capture_output=True, text=True).stdout)
    names = "certificates linger packages podman_version ssh swap_mb timezone ufw user_manager users"
    assert set(names.split()) <= set(answer)
    assert answer["users"]["root"]["uid"] == 0


CAME_IN = """
import os, subprocess, sys
script = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
os.seteuid(65534)  # as a module acts as the service user
print(script.communicate("go")[0])
"""
ASKED = "import sys; sys.stdin.read(); import importlib.machinery as m; print(m.SourceFileLoader('fact', sys.argv[1]).load_module().ssh_connection()['user'])"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_who_came_in_is_the_real_user(script, tmp_path):
    """The script's parent may be the module senex.trader.facts itself, which is the service user at times."""
    copy = tmp_path / "senex_fact.py"
    copy.write_text(script.read_text())
    environment = {"PATH": "/usr/bin:/bin", "SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}
    done = subprocess.run([sys.executable, "-c", CAME_IN, ASKED, str(copy)], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "root", done.stderr


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("podman version 4.9.3", "4.9.3"),
        ("nginx version: nginx/1.26.3", "1.26.3"),
        ("OpenSSL 3.5.1 1 Jul 2025", "3.5.1"),
        ("", None),
        ("not found", None),
    ],
)
def test_version(fact, text, version):
    assert fact.parse_version(text) == version


@pytest.mark.parametrize(
    ("release", "debian", "name", "version"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\nID=debian\n', "13.1\n", "Debian", "13.1"),
        ('NAME="Debian GNU/Linux"\nID=debian\n', "trixie/sid\n", "Debian", ""),
        ('NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n', "trixie/sid\n", "Ubuntu", "24.04"),
        ('NAME="Fedora Linux"\nVERSION_ID=43\nID=fedora\n', "", "Fedora Linux", "43"),
        ("", "", "", ""),
    ],
)
def test_system(fact, release, debian, name, version):
    found = fact.parse_system(release, debian)
    assert (found["distribution"], found["distribution_version"]) == (name, version)


def test_resolvers(fact):
    stub, upstream = "# x\nnameserver 127.0.0.53\noptions edns0\n", "nameserver 169.254.169.254\nnameserver 2001:db8::1\nsearch x\n"
    assert fact.parse_resolvers([stub, upstream]) == fact.parse_resolvers([upstream, ""]) == ["169.254.169.254", "2001:db8::1"]
    assert fact.parse_resolvers([stub, ""]) == fact.parse_resolvers(["", ""]) == []


def test_installed_packages(fact):
    status = (
        "Package: ufw\nStatus: install ok installed\nVersion: 1\n\n"
        "Package: gone\nStatus: deinstall ok config-files\n\n"
        "Package: half\nStatus: install ok half-configured\n\n"
        "Package: libx\nStatus: hold ok installed\n"
    )
    assert fact.parse_installed(status) == ["libx", "ufw"]


COMMENT = b"senex.trader".hex()


def test_ufw_rules(fact):
    four = (
        "*filter\n### RULES ###\n\n"
        f"### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment={COMMENT}\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n"
        f"### tuple ### allow udp 8000:8010 0.0.0.0/0 any 10.0.0.0/8 in comment={COMMENT}\n"
        "### tuple ### limit tcp 2222 0.0.0.0/0 any 0.0.0.0/0 in\n"
        "### tuple ### allow_log tcp 25 0.0.0.0/0 any 0.0.0.0/0 in\n"
    )
    six = f"### tuple ### allow tcp 22 ::/0 any ::/0 in comment={COMMENT}\n"
    rules, own, narrow = fact.parse_ufw_rules(four, six)
    assert narrow == []
    assert rules == ["allow tcp 22 any", "allow tcp 25 any", "allow udp 8000:8010 10.0.0.0/8", "limit tcp 2222 any"]
    assert own == ["allow tcp 22 any", "allow udp 8000:8010 10.0.0.0/8"]


@pytest.mark.parametrize(
    "line",
    [
        "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 out",  # goes out
        "### tuple ### allow tcp 22 10.0.0.5 any 0.0.0.0/0 in",  # to one address of the host
        "### tuple ### allow tcp 22 0.0.0.0/0 5000 0.0.0.0/0 in",  # from one port
        "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in_wg0",  # by one interface
        "### tuple ### allow tcp",
        "-A ufw-user-input -p tcp --dport 22 -j ACCEPT",
    ],
)
def test_ufw_lines_that_let_in_less_than_they_seem(fact, line):
    assert fact.parse_ufw_rules(line)[:2] == ([], [])


@pytest.mark.parametrize(
    ("line", "narrow"),
    [
        ("allow any 22 0.0.0.0/0 any 192.0.2.0/24 in", ["any 22"]),
        ("allow tcp 22 0.0.0.0/0 any 192.0.2.0/24 OpenSSH - in", ["tcp 22"]),  # by the name of an application
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 OpenSSH - in", []),
        ("limit tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 in_wg0", ["tcp 80,443"]),
        (f"allow tcp 22 0.0.0.0/0 any 192.0.2.7 in comment={COMMENT}", []),  # the collection's own
        ("deny tcp 22 0.0.0.0/0 any 192.0.2.7 in", []),
        ("allow any any 0.0.0.0/0 any 192.0.2.7 in", []),  # no word about a port
    ],
)
def test_what_somebody_lets_in_for_some_alone(fact, line, narrow):
    assert fact.parse_ufw_rules(f"### tuple ### {line}")[2] == narrow


def test_sshd(fact):
    options = fact.parse_sshd("port 22\nport 2222\npasswordauthentication no\nauthorizedkeysfile .ssh/a .ssh/b\n")
    assert options["port"] == ["22", "2222"]
    assert options["passwordauthentication"] == ["no"]


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000 me@here"


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        (".ssh/authorized_keys", KEY, True),
        (".ssh/authorized_keys", f'from="10.0.0.1" {KEY}', True),
        (".ssh/authorized_keys", "ecdsa-sha2-nistp256 " + "A" * 60, True),
        (".ssh/authorized_keys", f"# {KEY}", False),
        (".ssh/authorized_keys", "", False),
        ("elsewhere", KEY, False),
    ],
)
def test_key_that_lets_the_operator_in(fact, tmp_path, file, text, found):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / file).write_text(text + "\n")
    account = types.SimpleNamespace(pw_name="ops", pw_dir=str(tmp_path))
    assert fact.with_key([account], {"authorizedkeysfile": [".ssh/authorized_keys"]}) == (["ops"] if found else [])


def test_keys_that_another_program_knows(fact, tmp_path):
    account = types.SimpleNamespace(pw_name="ops", pw_dir=str(tmp_path))
    assert fact.with_key([account], {"authorizedkeyscommand": ["/usr/bin/keys"]}) == ["ops"]
    assert fact.with_key([account], {"trustedusercakeys": ["/etc/ssh/ca.pub"]}) == ["ops"]
    assert not fact.with_key([account], {"authorizedkeyscommand": ["none"], "trustedusercakeys": ["none"]})


def test_subids(fact):
    ranges = fact.parse_subids("senex:200000:65536\nother:100000:65536\nbroken\nx:a:b\n")
    assert ranges == {"senex": [[200000, 265535]], "other": [[100000, 165535]]}


def test_swaps(fact):
    header = "Filename\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    assert fact.parse_swaps(header) == 0
    assert fact.parse_swaps("") == 0
    assert fact.parse_swaps(header + "/swapfile file 2097148 0 -2\n/dev/sda2 partition 1048576 0 -3\n") == 3071


CERTIFICATE = """notAfter=Jan  5 09:34:43 2031 GMT
sha256 Fingerprint=AA:BB:01
X509v3 Subject Alternative Name:
    DNS:trader.senex.test, DNS:*.senex.test, IP Address:10.0.0.1
X509v3 Subject Key Identifier:
    01:02:AB
X509v3 Authority Key Identifier:
    03:04:CD
"""


def test_certificate(fact):
    assert fact.parse_certificate(CERTIFICATE) == {
        "not_after": 1925372083,
        "sans": ["trader.senex.test", "*.senex.test", "10.0.0.1"],
        "fingerprint": "aabb01",
        "key_id": "01:02:ab",
        "issuer_key_id": "03:04:cd",
    }


def test_unreadable_certificate(fact):
    assert fact.parse_certificate("Could not find certificate from /x.crt\n") is None


def test_unit_states(fact):
    text = "Id=network-online.target\nActiveState=active\n\nActiveState=inactive\nId=user@987.service\n"
    assert fact.parse_states(text) == {"network-online.target": "active", "user@987.service": "inactive"}


def test_names_that_are_no_text_are_left_out(fact, tmp_path):
    """Whoever owns a home gives any: Ansible takes no answer that has one in it, so each run would end before it began."""
    text = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", os.devnull, "-subj", "/CN=x"], check=True, capture_output=True, text=True
    ).stdout
    for name in (b"good", b"b\xffd", b"for\nged", b"c\x1b[2J"):
        place = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(place)
        os.makedirs(os.fsencode(tmp_path) + b"/config/" + name + b"/tls")
        pathlib.Path(os.fsdecode(place + b"/PG_VERSION")).write_text("15\n")
        pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/config/" + name + b"/tls/x.crt")).write_text(text)
    below = fact.of_homes([str(tmp_path)])
    assert fact.postgresql_majors(below) == {f"{tmp_path}/good": "15"}
    assert list(fact.certificates(fact.certificates_of_homes(below))) == [f"{tmp_path}/config/good/tls/x.crt"]


def ufw_line(action, port, source):
    return f"### tuple ### {action} tcp {port} 0.0.0.0/0 any {source} in comment=73656e65782e747261646572\n"


def test_a_block_behind_what_lets_in_is_late(fact):
    """ufw takes the first that fits; addresses of both kinds are in lists of their own."""
    allow, first, late = ufw_line("allow", 80, "0.0.0.0/0"), ufw_line("deny", 80, "203.0.113.7"), ufw_line("reject", 80, "203.0.113.8")
    everybody = ufw_line("deny", 9000, "0.0.0.0/0")
    assert fact.parse_ufw_late(first + allow + late + everybody, first) == ["reject tcp 80 203.0.113.8"]
    assert fact.parse_ufw_late(first + late, allow) == []
