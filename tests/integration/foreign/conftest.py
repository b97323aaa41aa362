import pytest

pytest.register_assert_rewrite("life")

# What the other application does in `make test` already, of this one in `make faults`
LATER = ("test_a_value_of_the_environment", "test_rows_come_back_from_a_dump", "test_the_databases_password_is_replaced")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name == "test_board.py" and item.name in LATER:
            item.add_marker(pytest.mark.faults)
