"""On a host of their own."""

import pytest
from own_host import stack_on

PORT = 9000
# A server that speaks S3, in memory: a reboot empties it. The bucket outlives the stack that is lost beside it
STORAGE = f"""
set -e
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends python3-moto python3-flask-cors >/dev/null 2>&1 ||
  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends python3-moto python3-flask-cors >/dev/null)
mkdir -p /root/s3 && cd /root/s3
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=storage -addext subjectAltName=IP:ADDRESS \
  -keyout key.pem -out cert.pem 2>/dev/null
cat >bucket <<'END'
until curl -sS --fail --cacert /root/s3/cert.pem --aws-sigv4 aws:amz:us-east-1:s3 --user t:t https://ADDRESS:{PORT}/backups -X PUT -o /dev/null
do sleep 0.5; done
END
# Told to check signatures, it would take the query as it was decoded, and restic's prefixes hold slashes
cat >server.py <<'END'
from urllib.parse import parse_qsl, quote, urlencode
from moto.iam.access_control import IAMRequestBase
from moto.server import main
plain = IAMRequestBase._create_aws_request
def encoded(self):
    path, mark, query = self._path.partition("?")
    self._path = path + mark + urlencode(sorted(parse_qsl(query, keep_blank_values=True)), quote_via=quote, safe="")
    return plain(self)
IAMRequestBase._create_aws_request = encoded
main()
END
# A storage elsewhere is there already when a host boots
cat >/etc/systemd/system/lab-s3.service <<'END'
[Unit]
Before=systemd-user-sessions.service
[Service]
ExecStart=/usr/bin/python3 /root/s3/server.py -H 0.0.0.0 -p {PORT} -c /root/s3/cert.pem -k /root/s3/key.pem
ExecStartPost=/bin/sh /root/s3/bucket
[Install]
WantedBy=multi-user.target
END
ufw allow {PORT}/tcp >/dev/null
systemctl enable -q --now lab-s3.service
cat cert.pem
"""


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    yield from stack_on("recovery")


@pytest.fixture(scope="session")
def storage(stack):
    """Inputs that send backups to the bucket; the host does so."""
    inputs = {
        "backup_offsite_repository": f"s3:https://{stack.address}:{PORT}/backups/senex",
        "backup_offsite_access_key": "lab-access-key",
        "backup_offsite_secret_key": "lab-secret-key",
        "backup_offsite_ca_certificate": stack.sh(STORAGE.replace("ADDRESS", stack.address), timeout=300),
        "backup_offsite_wal_interval": 30,
    }
    stack.play(tags="backup", variables=inputs).expect()
    return inputs
