"""The package's exceptions are one tree, in one module."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import cryptoflow
from cryptoflow import errors
from cryptoflow.errors import CryptoflowError

PACKAGE = Path(cryptoflow.__file__).parent
OURS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


def exceptions(path: Path) -> Iterator[str]:
    """The names of the classes in a module that look like exceptions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            if any(base.endswith(("Error", "Exception", "Interrupt")) for base in bases):
                yield node.name


@pytest.mark.parametrize("kind", OURS)
def test_every_exception_is_of_the_tree_and_says_when_it_is_raised(kind: type) -> None:
    assert issubclass(kind, CryptoflowError)
    assert kind.__module__ == errors.__name__
    assert kind.__doc__


def test_the_walk_finds_exceptions() -> None:
    assert set(exceptions(PACKAGE / "errors.py")) == {kind.__name__ for kind in OURS}


def test_no_other_module_has_a_public_exception() -> None:
    others = (path for path in PACKAGE.rglob("*.py") if path.name != "errors.py")
    public = [f"{path.name}: {name}" for path in others for name in exceptions(path) if not name.startswith("_")]
    assert public == []


def test_no_module_raises_a_bare_exception() -> None:
    raised = {
        f"{path.name}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and node.exc and ast.unparse(node.exc).startswith(("Exception", "RuntimeError"))
    }
    assert raised == set()


def test_one_can_catch_a_whole_branch() -> None:
    assert issubclass(errors.UnauthorizedError, errors.FeedError)
    assert issubclass(errors.KafkaUnreachableError, errors.KafkaError)
    assert issubclass(errors.CassandraLoginError, errors.CassandraError)
