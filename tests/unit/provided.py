"""Certificates as somebody would provide them."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def pair(directory, name, days=30):
    """A certificate for a name, signed by itself, and its key, in files of a new directory: inputs of nginx_tls_mode provided."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(end - datetime.timedelta(days=90)).not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    directory.mkdir()
    (directory / "crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (directory / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    crt = str(directory / "crt")
    return {"nginx_tls_mode": "provided", "nginx_tls_certificate": crt, "nginx_tls_private_key": str(directory / "key"), "nginx_tls_ca_certificate": crt}
