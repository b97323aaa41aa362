"""A certificate is good when names, authority and time left are as wanted."""

import datetime
import pathlib
import time

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.certificates import authority_problems, certificate_good, chain_problem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rendered import ROLES, value

PATH = "/etc/senex-trader/tls/postgres.crt"


def authority():
    """(PEM, key identifier with colons) of a fresh authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1)).add_extension(identifier, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), identifier.digest.hex(":").upper()


PEM, KEY_ID = authority()


def fact(**changes):
    good = {"not_after": time.time() + 31 * 86400, "sans": ["10.0.0.5", "db.example.com"], "issuer_key_id": KEY_ID}
    return {PATH: {**good, **changes}}


@pytest.mark.parametrize(
    ("changes", "sans", "good"),
    [
        ({}, ["db.example.com", "10.0.0.5"], True),
        ({}, ["DNS:db.example.com", "IP:10.0.0.5"], True),
        ({}, ["db.example.com"], False),
        ({}, ["db.example.com", "10.0.0.5", "more.example.com"], False),
        ({"not_after": time.time() + 29 * 86400}, ["db.example.com", "10.0.0.5"], False),
        ({"issuer_key_id": "00:11"}, ["db.example.com", "10.0.0.5"], False),
        ({"issuer_key_id": None}, ["db.example.com", "10.0.0.5"], False),
    ],
)
def test_good(changes, sans, good):
    assert certificate_good(fact(**changes), PATH, sans, PEM, 30) is good


def test_none_is_there():
    assert not certificate_good({}, PATH, ["db.example.com"], PEM, 30)


def test_days_to_go():
    assert not certificate_good(fact(), PATH, ["db.example.com", "10.0.0.5"], PEM, renew_days=40)


def test_no_authority():
    with pytest.raises(AnsibleFilterError, match="senex_ca_certificate"):
        certificate_good(fact(), PATH, ["db.example.com", "10.0.0.5"], "nonsense", 30)


def signed(name, issuer=None, days=30):
    """(certificate, key), signed by such a pair or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer[0].subject if issuer else subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(60)).not_valid_after(now + datetime.timedelta(days))
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(*pairs):
    return "".join(certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate, _ in pairs)


ROOT, OTHER_ROOT = signed("root"), signed("other root")
UPPER = signed("upper", ROOT)
LOWER = signed("lower", UPPER)
# One key under two roots, as authorities do while a new root is not known everywhere
CROSS = (
    x509.CertificateBuilder(OTHER_ROOT[0].subject, UPPER[0].subject, UPPER[1].public_key(), 7)
    .not_valid_before(UPPER[0].not_valid_before_utc).not_valid_after(UPPER[0].not_valid_after_utc).sign(OTHER_ROOT[1], hashes.SHA256()), UPPER[1],
)  # fmt: skip
LEAF, OLD = signed("leaf", LOWER), signed("upper", ROOT, days=-1)
NAMESAKE = signed("lower", ROOT)  # of the same name, with another key


@pytest.mark.parametrize(
    ("served", "says"),
    [
        ((LEAF, LOWER, UPPER), ""),
        ((LEAF, UPPER, LOWER), ""),
        ((LEAF, LOWER, UPPER, ROOT), ""),
        ((LEAF, LOWER, CROSS, UPPER), ""),
        ((LEAF,), "the intermediate CN=lower is missing"),
        ((LEAF, LOWER), "the intermediate CN=upper is missing"),
        ((LEAF, UPPER), "the intermediate CN=lower is missing"),
        ((LEAF, NAMESAKE, UPPER), "the intermediate CN=lower is missing"),
        ((signed("leaf", OLD), OLD), "its intermediate CN=upper has expired"),
        ((LEAF, LOWER, CROSS), "the intermediate CN=other root is missing"),
        ((signed("alone"),), "ends at CN=alone, which is no authority of the system's"),
        ((), "holds no certificate that can be read"),
    ],
)
def test_a_chain_is_followed_to_a_root_of_the_system(monkeypatch, tmp_path, served, says):
    (tmp_path / "roots.pem").write_text("# root\n" + pem(ROOT, signed("another")))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    assert chain_problem(pem(*served)) == says
    assert chain_problem(pem(LEAF, LOWER, CROSS), pem(OTHER_ROOT)) == "", "or to the operator's"


def encrypted(key, passphrase):
    form = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, *form).decode()


def test_an_authority_that_cannot_sign():
    """It was found out when the host had been changed: the wrong passphrase, and parts of two vaults."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    bare = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    assert authority_problems(pem, encrypted(key, "geheim"), "geheim") == []
    for certificate, private, passphrase, says in (
        (pem, encrypted(key, "geheim"), "another", "the key does not open with the passphrase"),
        (pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "geheim", "the key does not open"),
        (pem, encrypted(other, "geheim"), "geheim", "senex_ca_private_key: is not the key of senex_ca_certificate"),
        (bare, encrypted(key, "geheim"), "geheim", "senex_ca_certificate: cannot be read as a certificate with a subject key identifier"),
        (pem.replace("M", "N"), encrypted(key, "geheim"), "geheim", "senex_ca_certificate: cannot be read"),
    ):
        (line,) = authority_problems(certificate, private, passphrase)
        assert says in line and "geheim" not in line


def test_it_is_asked_before_the_first_change():
    """By site.yml and by the preflight; what else begins with the look signs for nothing."""
    playbooks = pathlib.Path(__file__).parents[2] / "playbooks"
    (play,) = yaml.safe_load((playbooks / "validate.yml").read_text())
    (task,) = [task for task in play["tasks"] if task.get("ansible.builtin.import_tasks") == "tasks/check_site.yml"]
    assert task["when"] == "validate_components is not defined" and "include_tasks: check_site.yml" in (playbooks / "tasks/preflight_step.yml").read_text()
    assert "authority_problems" in yaml.safe_load((playbooks / "tasks/check_site.yml").read_text())[0]["vars"]["__check_problems"]


def test_the_margin_that_an_inventory_gives_is_the_one_that_every_role_asks_by():
    """Each looked by 30 days, whatever certificate_renew_days said."""
    assert value("senex", "__senex_certificate_renew_days | int") == 300 and value("senex", "__senex_certificate_renew_days", certificate_renew_days=90) == 90
    asked = [line for path in ROLES.rglob("*.yml") for line in path.read_text().split("certificate_good(")[1:]]
    assert len(asked) > 7 and all("renew_days | int)" in one[:200] for one in asked)
