"""The texts of the desk: each is in every catalogue; a site's own adds or replaces texts, and breaks nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.presentation.templates import page_environment
from bloodcell.review.shaped_texts import PLACEHOLDER, SHAPES
from bloodcell.review.texts import Catalogue, chosen_language, read_catalogues
from tests.review.desk_texts import (
    _OF_OPERATORS,
    _TERMINAL_MODULES,
    REVIEW,
    TEXTS,
    data_texts,
    extracted,
    in_step,
    read_catalogue,
    sentences,
    template,
    written,
)

CATALOGUES = sorted(TEXTS.glob("*.po"))
HOSTILE = """<script>alert('1')</script></script>"'><img src=x onerror=alert(2)>{{ 7 * 7 }} & \\u003c"""


def write_catalogue(folder: Path, code: str, texts: dict[str, str], *headers: str) -> None:
    """Writes a site's catalogue."""
    lines = ['msgid ""', 'msgstr ""', '"Content-Type: text/plain; charset=utf-8\\n"']
    lines += [f'"{header}\\n"' for header in headers]
    for english, text in texts.items():
        quoted = [json.dumps(each, ensure_ascii=False) for each in (english, text)]
        lines += ["", f"msgid {quoted[0]}", f"msgstr {quoted[1]}"]
    (folder / f"{code}.po").write_text("\n".join([*lines, ""]), encoding="utf-8")


def test_spanish_and_german_come_with_bloodcell() -> None:
    assert [path.stem for path in CATALOGUES] == ["de", "es"]
    found = read_catalogues()
    assert {code: each.name for code, each in found.items()} == {"en": "English", "de": "Deutsch", "es": "Español"}
    assert [code for code, each in found.items() if each.is_machine_made] == ["de", "es"]


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_each_catalogue_has_every_text_and_no_other(path: Path) -> None:
    messages = [message for message in read_catalogue(path) if message.id]
    used = set(extracted())
    assert used - {message.id for message in messages} == set(), "run python -m tests.review.desk_texts, and translate"
    assert {message.id for message in messages} - used == set(), "run python -m tests.review.desk_texts"
    assert [message.id for message in messages if message.fuzzy] == []
    assert [message.id for message in messages if not str(message.string).strip()] == []


@pytest.mark.parametrize("path", [*CATALOGUES, TEXTS / "desk.pot"], ids=lambda path: path.stem)
def test_each_file_is_as_the_extraction_writes_it(path: Path) -> None:
    if path.suffix == ".pot":
        assert path.read_bytes() == written(template())
    else:
        assert path.read_bytes() == written(in_step(read_catalogue(path), template()), "X-Machine-Made: yes")


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_placeholders_codes_and_ends_are_those_of_the_english_text(path: Path) -> None:
    codes = {text.split()[0] for text in data_texts()["line"] if re.match("[A-Z]{2,} ", text)}
    for message in read_catalogue(path):
        if not message.id:
            continue
        english, text = str(message.id), str(message.string)
        assert sorted(PLACEHOLDER.findall(english)) == sorted(PLACEHOLDER.findall(text)), english
        assert english.endswith((".", ":")) == text.endswith((".", ":")), english
        assert english[:1].isspace() == text[:1].isspace(), english
        assert english.endswith(" ") == text.endswith(" "), english
        if english.split()[0] in codes and english in data_texts()["line"]:
            assert text.split()[0] == english.split()[0]
        for kept in re.findall(r"BLOODCELL_\w+|bloodcell \w+|`[^`]+`|slide\.json|Airflow", english):
            assert kept in text, english


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_names_that_stand_beside_each_other_differ(path: Path) -> None:
    catalogue = read_catalogues()[path.stem]
    for kind, texts in data_texts().items():
        translated = [catalogue.text(text) for text in texts]
        assert len(set(translated)) == len(translated), kind


def test_scripts_hand_only_literals_to_t() -> None:
    """The extraction finds literals; what the server sends has its texts elsewhere, and goes through `said`."""
    found = {
        (path.name, call)
        for path in REVIEW.glob("static/*.js")
        for call in re.findall(r"(?<![\w.$])t\((?!\s*\")([^,)]*)", path.read_text())
    }
    assert found == {
        ("signing.js", "state"),  # a state of a result
        ("signing.js", "text.replace(/: \\d+$/"),  # what signing needs
        ("texts.js", "text"),
        ("texts.js", "shape"),
        ("texts.js", "values.role"),
    }


def raised_texts() -> Iterator[tuple[str, str]]:
    """Yields module and shape of every text with values in it that the review room raises for a person at the desk."""
    for path in REVIEW.glob("*.py"):
        if path.name in (*_TERMINAL_MODULES, "texts.py"):
            continue
        tree = ast.parse(path.read_text())
        constants = {
            node.target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        }
        for node in ast.walk(tree):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Call) and (name.endswith("Error") or name in ("HTTPException", "_answer")):
                for text in node.args:
                    if isinstance(text, ast.JoinedStr) and name not in _OF_OPERATORS:
                        yield path.name, "".join(_part(part, constants) for part in text.values)


def _part(part: ast.expr, constants: dict[str, str]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return constants.get(part.value.id, "{}") if isinstance(part.value, ast.Name) else "{}"


def test_every_text_with_values_has_its_shape() -> None:
    shapes = {PLACEHOLDER.sub("{}", shape) for shape in SHAPES}
    raised = {(module, text.replace("({}: {})", "({})")) for module, text in raised_texts()}
    assert len(raised) > 20
    assert {(module, text) for module, text in raised if text not in shapes} == set()


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("first count", "erste Zählung"),
        (
            "12 cells more than in version 2; version 3 was signed by anna",
            "12 Zellen mehr als in Version 2; Version 3 wurde von anna signiert",
        ),
        ('rules "our {rules}" instead of "1.0"', "Regeln „our {rules}“ statt „1.0“"),
        ("4 years 3 months", "4 Jahre 3 Monate"),
        ("4 years", "4 Jahre"),
        ("11 months", "11 Monate"),
        ("This needs the role senior.", "Dazu ist die Rolle Leitung nötig."),
        (
            "reader is working on this slide. Take it over, or wait.",
            "reader arbeitet an diesem Ausstrich. Übernehmen Sie ihn oder warten Sie.",
        ),
        (
            "The directory ldap://x cannot be used (OSError: no). Try again later.",
            "Das Verzeichnis ldap://x ist nicht verwendbar (OSError: no). Versuchen Sie es später erneut.",
        ),
        ("something that nobody has translated; first count", "something that nobody has translated; erste Zählung"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_text_with_values_is_translated_by_its_shape(english: str, german: str) -> None:
    assert read_catalogues()["de"].text(english) == german
    assert read_catalogues()["en"].text(english) == english


def test_a_long_hostile_text_is_looked_at_quickly() -> None:
    started = time.perf_counter()
    german = read_catalogues()["de"]
    for text in ("model " * 2000, "{n} " * 2000, "version 1 was signed by " * 500, "; " * 5000):
        german.text(text)
    assert time.perf_counter() - started < 3


def test_sentences_of_modules_are_found() -> None:
    source = '''"""A module of the desk."""
GONE = "The cell is gone."
def f():
    """Does it."""
    raise SettingError("Set it right.")
    raise UnknownRecordError("There is "
        "none.")
    x = f"It has {n} parts."
    y = text("the laboratory")
    z = Field(description="A setting of it.")
'''
    assert sorted(sentences(source)) == ["The cell is gone.", "There is none.", "the laboratory"]


# a site's catalogues


def test_a_site_adds_a_language(tmp_path: Path) -> None:
    write_catalogue(tmp_path, "pl", {"Worklist": "Lista robocza", "Cells: {n}": "Komórki: {n}"})
    write_catalogue(tmp_path, "pt_BR", {"Worklist": "Lista de trabalho"}, "X-Machine-Made: yes")
    found = read_catalogues(tmp_path)
    assert list(found) == ["en", "de", "es", "pl", "pt_BR"]
    assert (found["pl"].name, found["pl"].tag, found["pl"].is_machine_made) == ("Polski", "pl", False)
    assert (found["pt_BR"].name, found["pt_BR"].tag) == ("Português (Brasil)", "pt-BR")
    assert found["pt_BR"].is_machine_made
    assert found["pl"].text("Worklist") == "Lista robocza"
    assert found["pl"].text("Sign") == "Sign", "a text that is missing is shown in English"


def test_a_site_replaces_one_text(tmp_path: Path) -> None:
    write_catalogue(tmp_path, "de", {"SMU smudge cell": "SMU Gumprecht-Scholle", "Sign": ""})
    write_catalogue(tmp_path, "en", {"Worklist": "Work list"})
    found = read_catalogues(tmp_path)
    assert found["de"].text("SMU smudge cell") == "SMU Gumprecht-Scholle"
    assert found["de"].text("Worklist") == "Arbeitsliste"
    assert found["de"].text("Sign") == "Signieren", "an empty translation replaces nothing"
    assert found["de"].is_machine_made, "the other texts are still a machine's"
    assert found["en"].text("Worklist") == "Work list"
    assert not found["en"].is_machine_made


def test_a_site_says_that_it_has_reviewed_a_translation(tmp_path: Path) -> None:
    write_catalogue(tmp_path, "de", {"Sign": "Freigeben"}, "X-Machine-Made: no")
    assert not read_catalogues(tmp_path)["de"].is_machine_made
    assert read_catalogues(tmp_path)["es"].is_machine_made


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("de.po", b'msgid "Sign"\nmsgstr "unfinished', "de.po"),
        ("de.po", b"not a catalogue at all", "de.po"),
        ("de.po", b'msgid "Sign"\nmsgstr "\xff\xfe"\n', "de.po"),
        ("klingon.po", b'msgid "Sign"\nmsgstr "Sign"\n', "klingon.po"),
        ("pl.po", b'msgid "Cells: {n}"\nmsgstr "Kom\xc3\xb3rki"\n', "names in braces"),
        ("pl.po", b'msgid "Sign"\nmsgstr "Sign {n}"\n', "names in braces"),
        ("pl.po", b"#" * 2_000_001, "2,000,000"),
    ],
)
def test_a_broken_catalogue_is_a_clear_error(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as told:
        read_catalogues(tmp_path)
    assert name in str(told.value)


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BLOODCELL_DESK_TEXTS_DIR"):
        read_catalogues(tmp_path / "none")


def test_a_hostile_translation_is_only_text(tmp_path: Path) -> None:
    texts = {text: HOSTILE for text in extracted() if not PLACEHOLDER.search(text)}
    write_catalogue(tmp_path, "de", texts)
    page = rendered("login.html.j2", read_catalogues(tmp_path)["de"])
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "49" not in re.findall(r"&lt;script&gt;.*?&amp;", page)[0]
    blocks = re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', page, re.DOTALL)
    assert [name for name, _ in blocks] == ["texts", "page"]
    assert json.loads(blocks[0][1])["Log in"] == HOSTILE
    attributes = re.findall(r'aria-label="([^"]*)"', page)
    assert all("<" not in each for each in attributes)


def rendered(name: str, catalogue: Catalogue) -> str:
    """Returns a page before the log-in."""
    frame = {
        "_": catalogue.text, "static": lambda file: f"/static/{file}", "language": catalogue.tag,
        "languages": [(catalogue.code, catalogue.tag, catalogue.name)], "is_machine_made": catalogue.is_machine_made,
        "person": SimpleNamespace(name="anna"), "csrf": "x", "texts": dict(catalogue.texts), "page": {},
        "navigation": [], "next": "/", "name": "", "problem": "The password is wrong.", "login": "local",
    }  # fmt: skip
    return page_environment(REVIEW / "templates").get_template(name).render(frame)


# which language


@pytest.mark.parametrize(
    ("accepted", "chosen", "language"),
    [
        ("", None, "en"),
        ("de", None, "de"),
        ("de-AT,en;q=0.5", None, "de"),
        ("DE-at", None, "de"),
        ("en;q=0.5, es;q=0.9", None, "es"),
        ("fr, de;q=0.3, *;q=0.1", None, "de"),
        ("de;q=0, es;q=0.1", None, "es"),
        ("en-GB, de", None, "en"),
        ("pt", None, "pt_BR"),
        ("pt-PT", None, "pt_BR"),
        ("pt-br;q=0.2, es;q=0.1", None, "pt_BR"),
        ("de", "es", "es"),
        ("de", "tlh", "de"),
        ("de", "../../etc/passwd", "de"),
        (";;;,,,q=,de;q=x,;q=1", None, "en"),
        ("x" * 100_000, None, "en"),
        (",".join(["xx"] * 100) + ",de", None, "en"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_one_that_the_browser_likes_best(
    accepted: str, chosen: str | None, language: str
) -> None:
    catalogues = {code: Catalogue(code, code, False, {}) for code in ("en", "de", "es", "pt_BR")}
    assert chosen_language(catalogues, chosen, accepted) == language


def test_reading_the_catalogues_costs_little() -> None:
    read_catalogues()
    started = time.process_time()
    read_catalogues()
    assert time.process_time() - started < 0.5


def test_the_command_line_starts_without_babel() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from bloodcell.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'babel']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
