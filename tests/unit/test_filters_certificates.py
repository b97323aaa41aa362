"""A certificate is good when names, authority and time left are as wanted."""

import datetime
import time

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.certificates import certificate_good
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
    assert certificate_good(fact(**changes), PATH, sans, PEM) is good


def test_none_is_there():
    assert not certificate_good({}, PATH, ["db.example.com"], PEM)


def test_days_to_go():
    assert not certificate_good(fact(), PATH, ["db.example.com", "10.0.0.5"], PEM, renew_days=40)


def test_no_authority():
    with pytest.raises(AnsibleFilterError, match="senex_ca_certificate"):
        certificate_good(fact(), PATH, ["db.example.com", "10.0.0.5"], "nonsense")
