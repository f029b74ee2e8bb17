"""README and docs say what the code does: settings, tables, commands, names, links, errors, examples."""

import ast
import re
import runpy
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cryptoflow.cli import app
from cryptoflow.cli.options import MODELS
from cryptoflow.definitions import defs
from cryptoflow.settings import old_env, settings_of
from cryptoflow.tables.schema import TABLES, create_table

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "docker").glob("*.md")]
)

OTHER_VARIABLES = {
    "CRYPTOCOMPARE_API_KEY",
    "CRYPTOFLOW_HOME",
    "CRYPTOFLOW_UI_PORT",
    "DAGSTER_HOME",
    "JAVA_HOME",
    "SPARK_LOCAL_IP",
}
"""Those of the code that are no settings."""

HOW_TO = REPOSITORY / "docs" / "howto"

STORAGE = REPOSITORY / "docker" / "storage.yaml"
STORAGE_VARIABLES = set(re.findall(r"{env: (\w+)}", STORAGE.read_text()))
"""Those that Dagster itself reads, in the containers."""

SETTINGS_PAGE = runpy.run_path(str(REPOSITORY / "docs" / "make_configuration.py"))

# Dagster makes its own definitions with a parameter of its own that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of")

every_page = pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda path: path.name
)
"""Without the changelog, which also names what is no more."""

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@cache
def variables() -> set[str]:
    models = [*MODELS, *SETTINGS_PAGE["PAGE_OF_CANDLES"], *SETTINGS_PAGE["AUTOMATION"]]
    settings = [setting for model in models for setting in settings_of(model)]
    old_names = {old for _, info, _ in settings if (old := old_env(info))}
    return {env for _, _, env in settings} | old_names | OTHER_VARIABLES


@cache
def code_texts() -> tuple[str, ...]:
    """Every text in the package's code, each f-string's parts by themselves."""
    trees = (ast.parse(path.read_text()) for path in (REPOSITORY / "cryptoflow").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return tuple(node.value for node in nodes if isinstance(node.value, str))


def fences(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


def code(document: Path) -> list[str]:
    """Every line of a block of commands, and every inline piece of code."""
    text = re.sub(r"^```(?!bash).*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    blocks = [line for block in fences(document, "bash") for line in block.splitlines()]
    indented = re.findall(r"^    (.*)$", text, re.MULTILINE)
    prose = re.sub(r"^```.*?^```$|^    .*$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*blocks, *indented, *re.findall(r"`([^`\n]+)`", prose)]


def commands(document: Path, program: str) -> Iterator[list[str]]:
    """The arguments of each call of a program, behind variables and `docker compose ... exec SERVICE`."""
    before = r"^(?:\w+=\S+ |docker compose .* exec \w+ |\.venv/bin/)*"
    for line in code(document):
        if found := re.match(rf"{before}{program} (.*)$", line):
            yield shlex.split(found[1], comments=True)


def check_command(arguments: list[str]) -> None:
    """Fails where a command line names a command or an option that does not exist."""
    command: Any = typer.main.get_command(app)
    words = iter(arguments)
    for word in words:
        if word.startswith("--"):
            assert word in known_options(command), f"{command.name} has no {word}"
        elif hasattr(command, "commands"):
            assert word in command.commands, f"{command.name} has no command {word}"
            command = command.commands[word]


def known_options(command: Any) -> set[str]:
    """A command's options, both forms of switches."""
    found = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return found | {"--help"}


def all_options(command: Any) -> set[str]:
    """The options of a command and all below it."""
    below = (all_options(each) for each in getattr(command, "commands", {}).values())
    return known_options(command).union(*below)


def anchors(document: Path) -> set[str]:
    """The headings as links name them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_settings_is_up_to_date() -> None:
    page = SETTINGS_PAGE["PAGE"].read_text()
    assert page == SETTINGS_PAGE["page"](page), "run .venv/bin/python docs/make_configuration.py"


def test_the_page_of_settings_names_every_variable() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert [name for name in sorted(variables()) if not re.search(rf"\| `{name}` \||`{name}` counts", text)] == []


def test_the_architecture_shows_every_table_as_it_is_made() -> None:
    shown = fences(REPOSITORY / "docs" / "architecture.md", "sql")
    assert shown == [f"{create_table(table, 'cryptocompare', 0)};\n" for table in TABLES]


@every_document
def test_every_command_and_option_exists(document: Path) -> None:
    for arguments in commands(document, "cryptoflow"):
        check_command(arguments)


@pytest.mark.parametrize(
    "wrong", ["walk", "run --moode kafka", "services upp", "services up --fast", "candles --pairs BTC-USD"]
)
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    with pytest.raises(AssertionError, match="has no"):
        check_command(wrong.split())


@every_document
def test_every_option_by_itself_exists(document: Path) -> None:
    known = all_options(typer.main.get_command(app))
    alone = {line.split()[0] for line in code(document) if line.startswith("--")}
    assert alone - known == set()


@every_page
def test_every_variable_exists(document: Path) -> None:
    pattern = r"\b(?:CRYPTOFLOW|CRYPTOCOMPARE|KAFKA|CASSANDRA|SPARK|DAGSTER|JAVA)_[A-Z_]+\b"
    assert set(re.findall(pattern, document.read_text())) - variables() - STORAGE_VARIABLES == set()


@every_document
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert {arguments[0] for arguments in commands(document, "make")} <= targets


@every_document
def test_every_dagster_job_sensor_and_schedule_exists(document: Path) -> None:
    repository = defs.get_repository_def()
    everything: list[Any] = [*repository.get_all_jobs(), *repository.sensor_defs, *repository.schedule_defs]
    known = {each.name for each in everything}
    pattern = r"`((?:keep|timed|daily|clean)_\w+|\w+_mode)`|(?:sensor|schedule) start (\w+)|-j (\w+)"
    named = {name for found in re.findall(pattern, document.read_text()) for name in found if name}
    assert named <= known


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", document.read_text()):
        if target.startswith("https://"):
            continue
        found = (document.parent / target) if target else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def test_every_error_of_the_troubleshooting_is_one_that_the_code_can_say() -> None:
    page = (HOW_TO / "troubleshooting.md").read_text()
    sentences = re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)
    assert len(sentences) > 10
    for sentence in sentences:
        for part in filter(None, map(str.strip, sentence.split("…"))):
            assert any(part in text for text in code_texts()), f"no text of the code holds: {part}"


def test_the_example_of_a_pipelines_test_runs() -> None:
    [example] = fences(HOW_TO / "test-your-pipeline.md", "python")
    exec(compile(example, "test-your-pipeline.md", "exec"), {})


@every_document
def test_every_example_can_be_read(document: Path) -> None:
    for block in fences(document, "python"):
        ast.parse(textwrap.dedent(block))
    for block in fences(document, "yaml"):
        yaml.safe_load(block)


def test_the_newest_entry_of_the_changelog_is_of_this_version() -> None:
    version = re.search(r'^version = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    newest = re.search(r"^## \[(.*)\] - \d{4}-\d\d-\d\d$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version
    assert newest
    assert newest[1] == version[1]


def test_the_driver_of_the_database_fits_the_locked_dagster() -> None:
    ours, extra = (
        dict(re.findall(r"^([\w.-]+)==([\w.]+)", path.read_text(), re.MULTILINE))
        for path in (REPOSITORY / "requirements.lock", REPOSITORY / "docker" / "requirements-postgres.lock")
    )
    assert extra.keys() - ours.keys() == extra.keys() == {"dagster-postgres", "psycopg2-binary"}
    # Dagster numbers its libraries apart, with the same last part.
    assert extra["dagster-postgres"].split(".")[2] == ours["dagster"].split(".")[2]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["postgres"] == ["dagster-postgres>=0.29,<0.30"]
