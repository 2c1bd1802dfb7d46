"""The generated reference pages are complete; `make docs` checks that they build and that their links work."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cli import app
from bloodcell.registry.shipped import MODEL_IDS
from bloodcell.settings import Settings
from docs.generator.api import api_pages, public_names
from docs.generator.commands import commands_page
from docs.generator.documents import DOCUMENTS, document_pages
from docs.generator.errors import errors_page
from docs.generator.markdown import prose, table
from docs.generator.queries import queries_page, read_query
from docs.generator.settings import settings_page

ROOT = Path(__file__).resolve().parents[1]
QUERIES = ROOT / "sql" / "queries"
COMMANDS: Any = typer.main.get_command(app)
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "docker/**/*.md", "sql/**/*.md", "bloodcell/shipped/*.md")
    for path in ROOT.glob(pattern)
)


def test_every_setting_is_on_the_page_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| `BLOODCELL_([A-Z_]+)`<br>.* \| (.*) \|$", settings_page().text, re.M))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    without = [name for name, meaning in rows.items() if not meaning.strip()]
    assert not without, "these settings have no description in bloodcell/settings.py"


def test_every_command_and_option_is_on_the_page() -> None:
    page = commands_page().text
    for name, command in COMMANDS.commands.items():
        assert f"\n### bloodcell {name}\n" in page
        for sub_name, sub_command in getattr(command, "commands", {"": command}).items():
            section = page.split(f" bloodcell {name} {sub_name}".rstrip() + "\n", 1)[1].split("\n###")[0]
            options = [option for parameter in sub_command.params for option in parameter.opts if option[0] == "-"]
            assert [option for option in options if f"`{option}`" not in section] == []


def test_every_query_is_on_the_page_with_its_notes() -> None:
    page = queries_page(QUERIES).text
    for path in QUERIES.glob("*.sql"):
        query = read_query(path)
        assert f"`sql/queries/{path.name}`" in page
        assert query.question.endswith("."), f"{path.name}: the first line has to be a sentence with a full stop"
        assert len(query.notes) >= 3, path.name
        assert query.sql.startswith(("\\if", "SELECT", "WITH")), path.name


def test_a_query_without_a_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "01_bare.sql").write_text("SELECT 1;\n")
    with pytest.raises(ValueError, match="01_bare"):
        read_query(tmp_path / "01_bare.sql")


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    import bloodcell.errors as errors

    page = errors_page().text
    drawn = set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
    assert drawn <= set(re.findall(r"^## (\w+)$", page, re.M))


def test_every_room_with_public_names_has_a_page() -> None:
    rooms = {path.parent.name for path in (ROOT / "bloodcell").glob("*/__init__.py") if public_names(path)}
    paths = {page.path for page in api_pages(ROOT / "bloodcell")}
    assert paths == {"reference/api/index.md", *(f"reference/api/{room}.md" for room in rooms)}


def test_documents_link_to_pages_of_the_site_and_name_other_files() -> None:
    pages = {page.path: page.text for page in document_pages(ROOT)}
    assert set(pages) == set(DOCUMENTS.values())
    targets = re.findall(r"\]\(([^)#:]+)", pages["deployment/server.md"])
    assert targets
    assert all((ROOT / "docs" / "deployment" / target).suffix == ".md" for target in targets)


def test_documents_link_to_files_that_exist() -> None:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for document in map(ROOT.joinpath, listed.split()):
        if document.is_relative_to(ROOT / "docs"):
            continue  # MkDocs checks these, which also link to generated pages
        for target in re.findall(r"\]\(([^()\s#:]+)(?:#[^()]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_on_a_page_exist_with_their_options(page: Path) -> None:
    called = r"^\s*(?:[A-Z_]+=\S+ |.*\bexec (?:-\S+ )*\S+ )?bloodcell (\S.*)"
    for line in re.findall(called, _code(page.read_text()), re.M):
        command: Any = COMMANDS
        words = re.split(r" #| \|", line)[0].split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not (hasattr(command, "commands") and words and words[0][0] != "-"), line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        if command.name != "psql":  # it has options of its own
            assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_queries_on_a_page_exist_and_take_what_is_set(page: Path) -> None:
    for name, arguments in re.findall(r"-f sql/queries/(\d\S+\.sql)([^`\n#]*)", page.read_text()):
        parameters = set(re.findall(r":\{\?(\w+)\}", (QUERIES / name).read_text()))
        assert set(re.findall(r"-v (\w+)=", arguments)) <= parameters, name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_on_a_page_exist(page: Path) -> None:
    compose = "".join(path.read_text() for path in (ROOT / "docker").glob("*.yaml"))
    known = (
        {name.upper() for name in Settings.model_fields}
        | set(re.findall(r"\$\{BLOODCELL_([A-Z_]+)", compose))
        | {"GPUS"}
    )
    named = set(re.findall(r"\bBLOODCELL_([A-Z_]*[A-Z])\b(?!_)", page.read_text()))
    assert named <= known


def _code(text: str) -> str:
    """Returns the code of a page, in blocks and between backticks, without notes that are indented like code."""
    text = re.sub(r"^(?:!!!|\?\?\?|- ).*\n(?:\n|    .*\n)+", "", text, flags=re.M)
    blocks = re.findall(r"^```\w*\n(.*?)^```|((?:^ {4}.*\n)+)", text, re.M | re.S)
    return "\n".join([*("".join(block) for block in blocks), *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)])


def test_the_model_card_names_the_shipped_models() -> None:
    card = (ROOT / "bloodcell" / "shipped" / "README.md").read_text()
    named = dict(re.findall(r"^\| `(\w+)` `([0-9a-f]{12})` \|", card, re.M))
    manifests = (ROOT / "bloodcell" / "shipped").glob("*/bundle.json")
    assert named == {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in manifests}


# Mitchell et al. 2019, Model Cards for Model Reporting, section 4; then what TRIPOD+AI and the FDA's guidance on
# predetermined change control plans ask for beyond it
CARD_HEADINGS = {
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
    "Ethical considerations", "Caveats and recommendations",
    "How people and models work together", "Each class, as it is called", "What a call means on a usual night",
    "Other laboratories", "Update plan", "Credits", "TRIPOD+AI",
}  # fmt: skip


def test_the_model_card_has_every_required_heading() -> None:
    card = (ROOT / "bloodcell" / "shipped" / "README.md").read_text()
    parts = dict(re.findall(r"^##+ (.+)\n((?:(?!##+ ).*\n)+)", card, re.M))
    assert set(parts) >= CARD_HEADINGS
    assert [name for name in CARD_HEADINGS if not parts[name].strip()] == []
    for part in ("description of modifications", "modification protocol", "impact assessment"):
        assert f"| {part} |" in parts["Update plan"]
    for line in ("CC BY 4.0", "Apache-2.0"):
        assert line in parts["Credits"]


def test_the_model_card_has_the_figures_of_every_class_and_model() -> None:
    card = (ROOT / "bloodcell" / "shipped" / "README.md").read_text()
    for variant, model_id in MODEL_IDS.items():
        table = card.split(f"**`{variant}`** `{model_id[:12]}`, ")[1].split("\n\n")[1]
        rows = {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in table.splitlines()[2:])}
        assert set(rows) == set(CELL_CLASSES)
        assert all(len(row) == 5 for row in rows.values())
    values = card.split("### What a call means on a usual night")[1].split("\n### ")[0]
    assert set(re.findall(r"^\| (\w+) \| [\d.]+ % \|", values, re.M)) == set(CELL_CLASSES) - {"platelet"}


def test_plain_text_does_not_become_markup() -> None:
    assert prose("a <b> [c] d_e * BLOODCELL_DATA_DIR") == r"a &lt;b> \[c\] d\_e \* `BLOODCELL_DATA_DIR`"
    assert prose("keep `a_b` and --json") == "keep `a_b` and `--json`"
    assert table(("a", "b"), [("x|y", "`x|y`")]) == "| a | b |\n| --- | --- |\n| x\\|y | `x|y` |"


def test_pictures_of_the_desk_are_those_that_the_script_takes_and_the_page_shows() -> None:
    from docs.generator.screenshots import FOLDER, MAX_BYTES, PICTURES

    page = (ROOT / "docs" / "review-desk.md").read_text()
    shown = re.findall(r"!\[([^\]]+)\]\(images/desk/([^)]+)\.png\)", page)
    assert {name for _, name in shown} == set(PICTURES)
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.png" for name in PICTURES}
    assert [path.name for path in FOLDER.iterdir() if path.stat().st_size > MAX_BYTES] == []
    script = (ROOT / "docs" / "generator" / "screenshots.py").read_text()
    assert set(re.findall(r'tour\.take\(page, "([^"]+)"', script)) == set(PICTURES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pictures_on_a_page_exist(page: Path) -> None:
    for target in re.findall(r"!\[[^\]]*\]\(([^)\s:]+)\)", page.read_text()):
        assert (page.parent / target).is_file(), target


def test_keys_of_the_desk_are_on_its_page() -> None:
    from bloodcell.review.slide_page import line_choices

    page = (ROOT / "docs" / "how-to" / "desk.md").read_text()
    letters = [line.key for line in line_choices() if line.key and line.key.isalpha()]
    assert all(f"`{letter}`" in page for letter in letters)
    help_text = (ROOT / "bloodcell" / "review" / "static" / "help.js").read_text()
    for key in ("n", "l", "s", "?"):
        assert re.search(rf'\["[^"]*{re.escape(key)}[^"]*", t\(', help_text)
        assert f"`{key}`" in page


def test_settings_of_the_desk_are_on_a_page() -> None:
    pages = "".join(
        (ROOT / "docs" / "how-to" / name).read_text() for name in ("desk.md", "desk-login.md", "desk-languages.md")
    )
    pages += (ROOT / "docs" / "how-to" / "reverse-proxy.md").read_text()
    named = {name.upper() for name in Settings.model_fields if name.startswith("desk_")}
    assert [name for name in sorted(named) if f"BLOODCELL_{name}" not in pages] == []
