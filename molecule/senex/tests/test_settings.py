"""The instance that every scenario gets is a real systemd machine."""


def test_systemd_is_the_init(host):
    assert host.process.get(pid=1).comm == "systemd"


def test_the_registry_answers_and_is_trusted(host):
    answer = host.run("curl -sS -o /dev/null -w '%{http_code}' https://registry.senex.test:5000/v2/")
    assert answer.stdout == "401", answer.stderr
