import pytest

pytest.register_assert_rewrite("life")

# What the other application does in `make test` already, or the demo does in another folder, is in `make faults`
LATER = {
    "test_board.py": (
        "test_a_value_of_the_environment", "test_a_release_with_a_migration_and_the_way_back", "test_rows_come_back_from_a_dump",
        "test_the_databases_password_is_replaced", "test_at_the_end_all_is_as_the_inventory_says",
        "test_the_directory_and_its_process_are_there_after_all_that",
    ),
    "test_notes.py": ("test_a_value_of_the_environment", "test_rows_come_back_from_a_dump", "test_at_the_end_all_is_as_the_inventory_says"),
}  # fmt: skip


def pytest_collection_modifyitems(items):
    for item in items:
        if item.name in LATER.get(item.path.name, ()):
            item.add_marker(pytest.mark.faults)
