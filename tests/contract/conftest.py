"""Asserts of the contract suites explain themselves as those of any test do."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.archive_contract", "tests.contract.bus_contract", "tests.contract.index_contract"
)
