"""Sites of others on a host: found by name, refused, and put aside where that was asked for."""

import hashlib
import shutil

import pytest
from ansible_collections.senex.trader.plugins.module_utils.nginx import nginx_sites
from nginx_door import evaluated

MAIN = """user www-data;
include {root}/modules-enabled/*.conf;
events {{ worker_connections 768; }}
http {{
    types_hash_max_size 2048; # server {{ listen 1; }}
    upstream app {{ server 127.0.0.1:9000; server 127.0.0.1:9001; }}
    log_format x '$remote_addr "{{$status}}" server';
    include {root}/conf.d/*.conf;
    include sites-enabled/*;
}}
"""
DEFAULT = "server {\n listen 80 default_server;\n listen [::]:80 default_server;\n server_name _;\n root /var/www/html;\n}\n"


@pytest.fixture
def host(tmp_path):
    """A host with Debian's nginx, as the package leaves it."""
    root = tmp_path / "nginx"
    for name in ("conf.d", "sites-available", "sites-enabled", "modules-enabled"):
        (root / name).mkdir(parents=True)
    files = {root / "nginx.conf": MAIN.format(root=root), root / "sites-available/default": DEFAULT}
    for path, text in files.items():
        path.write_text(text)
    (root / "sites-enabled/default").symlink_to(root / "sites-available/default")
    (root / "modules-enabled/50-mod-http-image-filter.conf").write_text("load_module modules/ngx_http_image_filter_module.so;\n")
    lines = [f" {path} {hashlib.md5(text.encode()).hexdigest()}" for path, text in files.items()]
    (tmp_path / "status").write_text("Package: nginx-common\nStatus: install ok installed\nConffiles:\n" + "\n".join(lines) + "\nDescription: x\n")
    return root


def look(root):
    return nginx_sites.look(str(root / "nginx.conf"), str(root.parent / "status"))


def found(root):
    return {site["path"].removeprefix(f"{root}/"): site["names"] for site in look(root)["sites"]}


def test_a_new_package_is_nobodys_site(host):
    assert look(host) == {"ours": False, "sites": []}


def test_a_host_without_nginx(tmp_path):
    assert nginx_sites.look(str(tmp_path / "none.conf")) == {"ours": False, "sites": []}


def test_sites_are_found_where_people_put_them(host):
    (host / "sites-available/shop").write_text(
        "# shop\nserver { listen 80; server_name shop.example www.shop.example; location / { return 200 'a; server { b'; } }\nserver { listen 8080; }\n"
    )
    (host / "sites-enabled/shop").symlink_to(host / "sites-available/shop")
    (host / "sites-available/off").write_text("server { listen 80; server_name off.example; }")
    (host / "conf.d/blog.conf").write_text('server {\n  listen 443 ssl;\n  server_name "blog.example";\n}\n')
    (host / "conf.d/limits.conf").write_text("client_max_body_size 20m;\n")
    assert found(host) == {"sites-enabled/shop": ["shop.example www.shop.example", "port 8080"], "conf.d/blog.conf": ["blog.example"]}


def test_files_of_the_package_that_were_changed_are_somebodys(host):
    (host / "sites-available/default").write_text(DEFAULT.replace("_;", "intranet.example;"))
    assert found(host) == {"sites-enabled/default": ["intranet.example"]}
    (host / "nginx.conf").write_text(MAIN.format(root=host) + "stream { server { listen 5432; proxy_pass db:5432; } }\n")
    assert found(host)["nginx.conf"] == ["port 5432"]
    (host / "nginx.conf").write_text(MAIN.format(root=host).replace("768", "10000"))
    assert found(host)["nginx.conf"] == ["settings of its own"]


def test_a_site_with_a_mistake_is_a_site(host):
    (host / "sites-enabled/broken").write_text("server { listen 80; server_name broken.example; nonsense on;\n")
    assert found(host) == {"sites-enabled/broken": ["broken.example"]}


def test_ours_is_ours(host):
    (host / "sites-enabled/shop").write_text("server { server_name shop.example; }")
    (host / "nginx.conf").write_text(f"# {nginx_sites.OURS}.\n" + MAIN.format(root=host))
    assert look(host) == {"ours": True, "sites": []}


def test_they_are_refused_by_name(host):
    (host / "sites-enabled/shop").write_text("server { server_name shop.example; }")
    shutil.copy(host / "sites-enabled/shop", host / "conf.d/mail.conf")
    others = look(host)
    problems = evaluated("__nginx_foreign_problems", __nginx_others=others)
    assert len(problems) == 2 and all("nginx_take_over: true" in problem and "shop.example" in problem for problem in problems)
    assert str(host / "sites-enabled/shop") in "".join(problems)
    for text in (True, "yes", "true"):
        assert evaluated("__nginx_foreign_problems", __nginx_others=others, nginx_take_over=text) == []
    assert evaluated("__nginx_foreign_problems", __nginx_others=others, nginx_take_over="no") == problems
    assert evaluated("__nginx_foreign_problems", __nginx_others={"skipped": True}) == []


def test_all_but_the_main_file_are_put_aside(host):
    """The main file is kept by dpkg-divert, and copied aside by the engine before it writes ours."""
    others = {"ours": False, "sites": [{"path": "/etc/nginx/nginx.conf", "names": []}, {"path": "/etc/nginx/conf.d/a.conf", "names": ["a"]}]}
    assert evaluated("__nginx_aside", __nginx_others=others, nginx_take_over=True) == ["/etc/nginx/conf.d/a.conf"]
    assert evaluated("__nginx_aside", __nginx_others=others) == evaluated("__nginx_aside", __nginx_others={"skipped": True}, nginx_take_over=True) == []
