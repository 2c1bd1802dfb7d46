"""Every text of the review desk that a person reads, and the catalogues in step with them.

`python -m tests.review.desk_texts` writes bloodcell/review/texts/desk.pot, and takes what is new or gone over into the
catalogues beside it. New texts are empty there until somebody translates them.

Babel extracts the templates. Its extractor for JavaScript misses calls in a template literal within a template literal,
so scripts have one of their own here. Python modules name no function for texts: every sentence in the modules of the
review room is taken, and the names, states, reasons and flags come from the constants that the code itself uses.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, get_args

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from bloodcell.cells.classes import CLASS_NAMES, CODES_OUT_OF_SCOPE, CONTESTED, FINER_CODES, UNCLASSIFIED
from bloodcell.desk_settings import ROLES, LoginKind
from bloodcell.differential.laboratory_rules import Sex, age_text
from bloodcell.differential.reference_ranges import FLAG_NAMES, SURE_FLAGS
from bloodcell.results.judging import REVIEW_NAMES, WITHHELD_NAMES, flag_names
from bloodcell.retraining.gates import GATE_TITLES
from bloodcell.review.look_back import ACTIONS
from bloodcell.review.pages import _STATES
from bloodcell.review.services import label_name
from bloodcell.review.shaped_texts import SHAPES

ROOT: Final = Path(__file__).resolve().parents[2]
REVIEW: Final = ROOT / "bloodcell/review"
TEXTS: Final = REVIEW / "texts"
_HEADER: Final = """\
# Texts of bloodcell's review desk.
# Written by `python -m tests.review.desk_texts`; see docs/how-to/desk-languages.md.
#"""
_CALL: Final = re.compile(r"""(?<![\w.$])t\(\s*("(?:[^"\\]|\\.)*")""")
_SENTENCE: Final = re.compile(r"[A-Z][^\n]*\s[^\n]*\.")
_CHANGING: Final = re.compile(
    rb'^"(POT-Creation-Date|PO-Revision-Date|Generated-By|Report-Msgid-Bugs-To|Language-Team|Last-Translator|'
    rb"Plural-Forms): .*\n",
    re.MULTILINE,
)
_OF_OPERATORS: Final = ("ConfigurationError", "SettingError", "UsersFileError", "NameRefusedError", "AlreadyDoneError")
"""Errors that a person reads on a terminal."""
_TERMINAL_MODULES: Final = ("users_file.py", "local_users.py", "people.py", "desk_records.py", "serving.py")


def scripts(file: IO[bytes], keywords: object, comment_tags: object, options: object) -> Iterator[tuple[Any, ...]]:
    """Extracts the texts of a script, as Babel calls it: each is the literal argument of a call `t("...")`."""
    for call in _CALL.finditer(file.read().decode()):
        yield 1, "_", json.loads(call[1]), []


def sentences(source: str) -> list[str]:
    """Returns the sentences in a Python module that a person at the desk may read: strings that are no docstring."""
    skipped: set[int] = set()
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr | ast.JoinedStr | ast.keyword) or _is_for_operators(node):
            is_code = isinstance(node, ast.keyword) and node.arg not in ("description",)
            skipped |= set() if is_code else {id(each) for each in ast.walk(node)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "text":
            found += [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            found += [node.value] if _SENTENCE.fullmatch(node.value) else []
    return found


def _is_for_operators(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OF_OPERATORS


def data_texts() -> dict[str, set[str]]:
    """Returns the texts that come as data, by what they are."""
    versions = (ROOT / "sql/views/15_versions.sql").read_text()
    results = (ROOT / "sql/views/20_results.sql").read_text()
    training = (ROOT / "sql/views/50_training.sql").read_text()
    desk = (ROOT / "sql/views/75_review_desk.sql").read_text()
    migration = (ROOT / "sql/versions/0018_quality.py").read_text()
    states = (ROOT / "sql/versions/0010_results.py").read_text().partition("result_state CHECK")[2].partition("),")[0]
    missing = migration.partition("FUNCTION bloodcell.missing_for_signature")[2].partition("_QUEUE = ")[0]
    overrides = migration.partition("FUNCTION bloodcell.override_check_as")[2].partition("END $$")[0]
    causes = versions.partition("SELECT CASE cause")[2].partition("ELSE cause END")[0]
    statuses = results.partition("CASE WHEN s.withdrawn_at IS NOT NULL")[2].partition("AS status")[0]
    outcomes = training.partition("COLUMN bloodcell.retraining.state IS")[2].partition(";")[0]
    named = [label_name(each) for each in (*CLASS_NAMES, *CODES_OUT_OF_SCOPE, *FINER_CODES, CONTESTED)]
    flagged = [name for name in CLASS_NAMES if name != UNCLASSIFIED]
    return {
        "state of a result": set(re.findall(r"'(\w+)'", states)),
        "state of a slide": set(re.findall(r"(?:THEN|ELSE) '([^']+)'", statuses)),
        "filter of the worklist": {text for _, text in _STATES},
        "line": set(named),
        "reason": {*WITHHELD_NAMES.values(), *REVIEW_NAMES.values()},
        "flag": {*FLAG_NAMES.values(), *(flag_names({name: flag})[0] for name in flagged for flag in SURE_FLAGS)},
        "role": set(ROLES),
        "sex": set(get_args(Sex)),
        "age": {age_text(months) for months in (0, 1)},
        "log-in": {*get_args(LoginKind), "link"},
        "action": set(ACTIONS.values()),
        "what signing needs": {f"{told[0].upper()}{told[1:]}: {{n}}" for told in _second_columns(missing)},
        "why a version differs": set(re.findall(r"THEN '((?!1 cell)[^']+)'", causes)),
        "gate": set(GATE_TITLES.values()),
        "state of a retraining": set(re.findall(r"[a-z]+(?=,| \(| or|\.')", outcomes)) - {"person", "gates"}
        | {"failed"},
        "refusal of the database": {f"{told}." for told in re.findall(r"RAISE EXCEPTION '([^'%]+)'", desk + overrides)},
        "page": set(re.findall(r'\("/[\w-]*", "([^"]+)"', (REVIEW / "navigation.py").read_text())),
        "with values": set(SHAPES),
    }


def _second_columns(selects: str) -> list[str]:
    return re.findall(r"SELECT '\w+'(?: AS what)?, '([^']+)'", selects)


def extracted() -> dict[str, set[str]]:
    """Returns every English text -> where it is used: files below bloodcell/review, and kinds of data."""
    found: dict[str, set[str]] = {}
    own = f"{__name__ if __name__ != '__main__' else 'tests.review.desk_texts'}:scripts"
    methods = [("templates/**.j2", "jinja2"), ("static/vendor/**", "ignore"), ("static/**.js", own)]
    for name, _, text, _, _ in extract_from_dir(REVIEW, methods, strip_comment_tags=True):
        found.setdefault(str(text), set()).add(str(name))
    for path in sorted(REVIEW.glob("*.py")):
        if path.name not in (*_TERMINAL_MODULES, "shaped_texts.py"):
            for text in sentences(path.read_text()):
                found.setdefault(text, set()).add(path.name)
    for kind, texts in data_texts().items():
        for text in texts:
            found.setdefault(text, set()).add(kind)
    return found


def template() -> Catalog:
    """Returns the catalogue without translations, in the order of the texts."""
    made = Catalog(project="bloodcell", header_comment=_HEADER, fuzzy=False)
    for text, places in sorted(extracted().items()):
        made[text] = _plain(Message(text, auto_comments=[", ".join(sorted(places))]))
    return made


def _plain(message: Message) -> Message:
    message.flags.discard("python-format")  # "95 % interval" is none
    message.flags.discard("python-brace-format")
    return message


def read_catalogue(path: Path) -> Catalog:
    """Returns a catalogue as it is in its file."""
    with path.open("rb") as file:
        read = read_po(file, locale=path.stem, charset="utf-8", abort_invalid=True)
    for message in read:
        _plain(message)
    return read


def written(catalogue: Catalog, *headers: str) -> bytes:
    """Returns the file of a catalogue, without what changes without reason: line numbers and times.

    Args:
        catalogue: The texts.
        headers: Headers that Babel does not know, such as "X-Machine-Made: yes".
    """
    buffer = io.BytesIO()
    write_po(buffer, catalogue, width=110, no_location=True, include_previous=False, ignore_obsolete=True)
    last = b'"Content-Transfer-Encoding: 8bit\\n"\n'
    more = "".join(f'"{header}\\n"\n' for header in headers).encode()
    return _CHANGING.sub(b"", buffer.getvalue()).replace(last, last + more, 1)


def in_step(known: Catalog, pot: Catalog) -> Catalog:
    """Returns a catalogue with the texts of the template and, where there are any, its translations."""
    made = Catalog(locale=known.locale, project="bloodcell", header_comment=known.header_comment, fuzzy=False)
    for message in pot:
        if message.id:
            old = known.get(message.id)
            text = old.string if old else ""
            made[message.id] = _plain(Message(message.id, text, auto_comments=message.auto_comments))
    return made


def main() -> None:
    """Writes the template and brings the catalogues into step with it."""
    TEXTS.mkdir(exist_ok=True)
    pot = template()
    (TEXTS / "desk.pot").write_bytes(written(pot))
    for path in sorted(TEXTS.glob("*.po")):
        made = in_step(read_catalogue(path), pot)
        headers = re.findall(r'^"(X-Machine-Made: \w+)', path.read_text(), re.M)
        path.write_bytes(written(made, *headers))
        left = [message.id for message in made if message.id and not message.string]
        print(f"{path.name}: {len(made)} texts, {len(left)} to translate")


if __name__ == "__main__":
    main()
