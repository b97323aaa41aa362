"""What an operator does with every application. A folder's file takes these tests in, and adds those of what is its own; they run in this order."""

from load import Load
from stack import wait

RATE = 20


def loaded(site):
    return Load(site.stack, rate=RATE, paths=site.paths)


def none_failed(load):
    assert load.requests > 5 * RATE, f"only {load.requests} requests were sent: nothing was proven"
    assert not load.failures, f"{len(load.failures)} of {load.requests} requests failed: {load.failures[:5]}"


def columns(site):
    return site.query(f"select column_name from information_schema.columns where table_name = '{site.table}' order by 1")


class Life:
    def test_it_is_served_and_all_is_well(self, site):
        found = site.json(site.version_path)
        assert found["version"] == "1", found
        found = site.stack.get(site.static_path)
        assert found[0] == 200, found
        site.status_is_well()

    def test_a_second_run_changes_nothing(self, site):
        changed = site.converged()
        assert changed == [], changed

    def test_a_value_of_the_environment(self, site):
        site.write("operator", {"greeting": "good morning"})
        with loaded(site) as load:
            site.converged()
        none_failed(load)
        assert site.json(site.version_path)["greeting"] == "good morning"

    def test_a_release_with_a_migration_and_the_way_back(self, site):
        with loaded(site) as load:
            site.play("playbooks/deploy.yml", django_image_tag=f"{site.name}-2").expect()
            assert site.json(site.version_path)["version"] == "2" and "label" in columns(site)
            site.play("playbooks/rollback.yml", release_undo_migrations=True).expect()
        none_failed(load)
        assert site.json(site.version_path)["version"] == "1" and "label" not in columns(site)

    def test_rows_come_back_from_a_dump(self, site):
        site.add("kept by the dump")
        site.stack.sh("senex backup dump")
        site.query(f"delete from {site.table}")
        site.play("playbooks/restore.yml", restore_dump="newest").expect()
        assert "kept by the dump" in site.listed()

    def test_the_databases_password_is_replaced(self, site):
        before = site.secret("database_password")
        with loaded(site) as load:
            site.play("playbooks/rotate.yml", secret="database_password").expect()
        none_failed(load)
        assert site.secret("database_password") != before
        site.add("after the rotation")
        wait(lambda: "after the rotation" in site.listed(), 60, "what was written with the new password")

    def test_at_the_end_all_is_as_the_inventory_says(self, site):
        changed = site.converged()
        assert changed == [], changed
        site.status_is_well()
