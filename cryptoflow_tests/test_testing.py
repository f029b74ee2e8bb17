"""What users get for their own tests."""

import doctest

from cryptoflow import testing


def test_the_examples_run() -> None:
    result = doctest.testmod(testing)
    assert result.attempted > 5
    assert result.failed == 0


def test_the_public_names_are_these() -> None:
    assert sorted(testing.__all__) == ["Faults", "Sent", "Simulator", "SimulatorConfig", "Tally", "frames"]
