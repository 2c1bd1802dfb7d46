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
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, get_args

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from bloodcell.cells.classes import CLASS_NAMES, CODES_OUT_OF_SCOPE, CONTESTED, LEUCOCYTE_CLASSES, UNCLASSIFIED
from bloodcell.desk_settings import ROLES, LoginKind
from bloodcell.differential.laboratory_rules import Sex, age_text
from bloodcell.differential.reference_ranges import FLAG_NAMES, SURE_FLAGS
from bloodcell.results.judging import REVIEW_NAMES, WITHHELD_NAMES, flag_names
from bloodcell.results.result_display import line_name
from bloodcell.retraining.gates import GATE_TITLES
from bloodcell.review.look_back import ACTIONS
from bloodcell.review.pages import _STATES
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
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
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
    migration = (ROOT / "sql/versions/0012_review_desk.py").read_text()
    missing = migration.partition("FUNCTION bloodcell.missing_for_signature")[2].partition("END $$")[0]
    causes = versions.partition("SELECT CASE cause")[2].partition("ELSE cause END")[0]
    statuses = results.partition("CASE WHEN s.withdrawn_at IS NOT NULL")[2].partition("AS status")[0]
    outcomes = training.partition("COLUMN bloodcell.retraining.state IS")[2].partition(";")[0]
    named = [line_name(each) for each in (*CLASS_NAMES, *CODES_OUT_OF_SCOPE, CONTESTED)]
    flagged = [name for name in CLASS_NAMES if name != UNCLASSIFIED]
    return {
        "state of a result": set(re.findall(r"'(\w+)'", versions_of_states(migration))),
        "state of a slide": set(re.findall(r"(?:THEN|ELSE) '([^']+)'", statuses)),
        "filter of the worklist": {text for _, text in _STATES},
        "line": {*named, *(line_name(each) for each in LEUCOCYTE_CLASSES)},
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
        "state of a retraining": set(re.findall(r"[a-z]+(?=,| \(| or|\.')", outcomes)) - {"person", "gates"} | {"failed"},
        "refusal of the database": {f"{told}." for told in re.findall(r"RAISE EXCEPTION '([^'%]+)'", desk)},
        "page": set(re.findall(r'\("/[\w-]*", "([^"]+)"', (REVIEW / "navigation.py").read_text())),
        "with values": set(SHAPES),
    }
