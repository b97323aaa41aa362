"""The quoting filters, read back by readers written after the formats' own rules."""

import pathlib
import random
import re
import sys
from urllib.parse import unquote, urlsplit

import pytest
from ansible.errors import AnsibleFilterError

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "plugins" / "filter"))
import quoting

HOSTILE = "$ \" ' # % \\ = { } space ; & $$ ${HOME} %h {{ x }} `id` äöß€𝄞 \t <>|*?!~^@:/,."


def hostile_values(count=300):
    picker = random.Random(7)
    alphabet = "$\"'#%\\={} ;&aZ09äß€𝄞\t/@:"
    return [HOSTILE] + ["".join(picker.choices(alphabet, k=picker.randint(0, 64))) for _ in range(count)]


def read_env(text):
    return dict(line.split("=", 1) for line in text.split("\n") if line)


def read_postgresql(word):
    body = re.fullmatch(r"'((?:[^'\\]|''|\\\\)*)'", word)[1]
    return re.sub(r"''|\\\\", lambda m: m[0][0], body)


def read_systemd(word, expands):
    body = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', word)[1]
    text = re.sub(r"\\(x..|.)", lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else m[1], body)
    assert not re.search(r"(?<!%)(%%)*%(?!%)", text), "a specifier is left"
    text = text.replace("%%", "%")
    return text.replace("$$", "$") if expands else text


def test_env_file_carries_every_character():
    values = {f"V{i}": value for i, value in enumerate(hostile_values())}
    assert read_env(quoting.env_file(values)) == values


def test_env_file_spells_types():
    text = quoting.env_file({"DEBUG": False, "ON": True, "HOSTS": ["a", "b", 3], "NONE": None, "PORT": 5432})
    assert text == "DEBUG=False\nON=True\nHOSTS=a,b,3\nNONE=\nPORT=5432\n"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"KEY": "a\nb"}, "KEY: .*newline"),
        ({"KEY": ["a", "b\n"]}, "KEY: .*newline"),
        ({"KEY": "a\0"}, "KEY: .*NUL"),
        ({"KEY": "a\r"}, "KEY: .*carriage return"),
        ({"KEY": {"a": 1}}, "KEY: .*dictionary"),
        ({"KEY": "x" * 65536}, "KEY: .*65535"),
        ({"A B": "x"}, "A B: not a name"),
        ({"#A": "x"}, "#A: not a name"),
        ({"1A": "x"}, "1A: not a name"),
        (["A=1"], "dictionary"),
    ],
)
def test_env_file_refuses_what_it_cannot_carry(variables, says):
    with pytest.raises(AnsibleFilterError, match=says):
        quoting.env_file(variables)


def test_a_refusal_does_not_show_the_value():
    with pytest.raises(AnsibleFilterError) as refusal:
        quoting.env_file({"SECRET": "geheim\nwort"})
    assert "geheim" not in str(refusal.value)


@pytest.mark.parametrize("expands", [True, False])
def test_systemd_escape_reads_back(expands):
    for value in [*hostile_values(), "a\nb", "\x07\x7f"]:
        word = quoting.systemd_escape(value, expands=expands)
        assert "\n" not in word
        assert read_systemd(word, expands) == value


def test_systemd_escape_doubles_dollars_only_where_they_expand():
    assert quoting.systemd_escape("A=$x 5%") == '"A=$$x 5%%"'
    assert quoting.systemd_escape("A=$x 5%", expands=False) == '"A=$x 5%%"'


def test_pg_conf_quote_reads_back():
    for value in hostile_values():
        assert read_postgresql(quoting.pg_conf_quote(value)) == value
    assert quoting.pg_conf_quote("it's") == "'it''s'"
    assert quoting.pg_conf_quote(True) == "'on'"
    with pytest.raises(AnsibleFilterError, match="newline"):
        quoting.pg_conf_quote("a\nb")


def test_quote_url_leaves_the_url_whole():
    for value in hostile_values():
        url = urlsplit(f"redis://:{quoting.quote_url(value)}@redis:6379/2")
        assert unquote(url.password or "") == value
        assert (url.hostname, url.port, url.path) == ("redis", 6379, "/2")
