"""What the host's facts say of a certificate, beside what is wanted."""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import time
import warnings
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError


def _key_id(pem: str) -> str:
    """Subject key identifier of a certificate, as the facts write it: hexadecimal digits, small."""
    from cryptography import x509  # here, so that what needs no certificate needs no cryptography either

    try:
        found = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise AnsibleFilterError(f"senex_ca_certificate: cannot be read as a certificate with a subject key identifier: {error}") from error
    return found.value.digest.hex()


def certificate_good(certificates: Mapping[str, Mapping], path: str, sans: Sequence[str], authority: str, renew_days: float) -> bool:
    """Whether the certificate at `path` is for exactly these names, by this authority (PEM), and for `renew_days` more.

    `certificates` is the fact of that name of ansible_local.senex.
    """
    found = certificates.get(path)
    if not found:
        return False
    wanted = {name.removeprefix("DNS:").removeprefix("IP:") for name in sans}
    return (
        float(found.get("not_after") or 0) > time.time() + float(renew_days) * 86400
        and set(found.get("sans") or []) == wanted
        and str(found.get("issuer_key_id") or "-").replace(":", "").lower() == _key_id(authority)
    )


# Where systems keep their authorities in one file
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem")


def _system_roots() -> str:
    for path in (os.environ.get("SSL_CERT_FILE"), *BUNDLES, ssl.get_default_verify_paths().cafile):
        if path and os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as stream:
                return stream.read()
    return ""


def _certificates(text: str) -> list:
    from cryptography import x509

    found = []
    for piece in text.split("-----BEGIN CERTIFICATE-----")[1:]:
        # Among a system's many are some that this library does not read, or does not like
        with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"):
            found.append(x509.load_pem_x509_certificate(f"-----BEGIN CERTIFICATE-----{piece}".encode()))
    return found


def chain_problem(served: str, authority: str = "") -> str:
    """What keeps a client that has nothing but its roots from verifying this PEM (leaf first); nothing where it can.

    Roots are the system's and those of `authority` (PEM). Clients fetch no intermediate, so each has to be there.
    """
    from cryptography.exceptions import InvalidSignature

    chain, now = _certificates(served), datetime.datetime.now(datetime.UTC)
    roots = _certificates(authority) + _certificates(_system_roots())
    if not chain:
        return "holds no certificate that can be read"

    def expired(certificate) -> bool:
        end = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after.replace(tzinfo=datetime.UTC)
        return end < now

    def signed(certificate, issuer) -> bool:
        if certificate.issuer != issuer.subject:
            return False
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, TypeError, ValueError):
            return False
        return True

    def walk(certificate, left: list) -> str:
        if certificate in roots or any(signed(certificate, root) for root in roots if not expired(root)):
            return ""
        name = certificate.issuer.rfc4514_string()
        if certificate.issuer == certificate.subject:
            return f"ends at {name}, which is no authority of the system's"
        problems = []
        for issuer in (one for one in left if signed(certificate, one)):
            above = f"its intermediate {issuer.subject.rfc4514_string()} has expired" if expired(issuer) else walk(issuer, [x for x in left if x != issuer])
            if not above:
                return ""
            problems.append(above)
        return problems[0] if problems else f"the intermediate {name} is missing"

    return walk(chain[0], chain[1:])


def authority_problems(certificate: str, key: str, passphrase: str) -> list[str]:
    """What keeps an authority from signing: its certificate, its encrypted key and the passphrase belong together. No value is shown."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        _key_id(certificate)
    except AnsibleFilterError as error:
        return [str(error)]
    try:
        made = serialization.load_pem_private_key(str(key).encode(), str(passphrase).encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ["senex_ca_private_key, senex_ca_passphrase: the key does not open with the passphrase; take all of the authority from the same vault"]
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if x509.load_pem_x509_certificate(str(certificate).encode()).public_key().public_bytes(*form) != made.public_key().public_bytes(*form):
        return ["senex_ca_private_key: is not the key of senex_ca_certificate; take all of the authority from the same vault"]
    return []


class FilterModule:
    """Filters about certificates."""

    def filters(self) -> dict:
        """Names in templates."""
        return {"certificate_good": certificate_good, "chain_problem": chain_problem, "authority_problems": authority_problems}
