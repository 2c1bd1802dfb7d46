"""Texts with values in them that reach the desk already put together: from the database, and from errors.

The desk recognises such a text by its shape and translates the shape: the code that makes it need not know the
languages. `said` in static/texts.js does the same in the browser.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")

SHAPES: Final = (
    # why a version differs: sql/views/15_versions.sql
    "1 cell more than in version {version}",
    "{n} cells more than in version {version}",
    "cells that labels of people decide: {n} instead of {before}",
    "model {now} instead of {before}",
    'rules "{now}" instead of "{before}"',
    "version {version} was signed by {who}",
    # ages: bloodcell/differential/laboratory_rules.py
    "{years} years",
    "{months} months",
    "{years} years {months} months",
    # what is refused: bloodcell/review
    "{who} has labelled this cell meanwhile.",
    "{who} is working on this slide. Take it over, or wait.",
    "This needs the role {role}.",
    "The result differs much from {version}, which was signed meanwhile. Look again, then sign.",
    "The password has {n} characters and needs at least {least}. A few words that do not belong together are long "
    "enough and easy to remember.",
    "The password has {n} characters; at most {most} are allowed.",
    "{who} has no role at the desk: none of the person's groups is in BLOODCELL_DESK_GROUPS.",
    "The directory {url} did not start TLS.",
    "The directory {url} cannot be used ({why}). Try again later.",
    "The directory {url} does not accept log-ins now ({why}).",
    "The directory has {n} values of {attribute} for this person; expected one.",
    "The OpenID provider sent no ID token. Log in again.",
    "The OpenID provider sent no code. Log in again.",
    "The OpenID provider sent another person's claims. Log in again.",
    "The OpenID provider sent no name of the person (claim {claim}, BLOODCELL_DESK_OIDC_NAME_CLAIM).",
    "The OpenID provider refused the log-in ({why}). Log in again.",
    "The OpenID provider's answer to {url} is no JSON object.",
    "The OpenID provider answered {url} with status {status}.",
    "The OpenID provider {url} cannot be reached ({why}). Try again later.",
    "The OpenID provider {url} gave no key that can be used.",
    "The answer of the OpenID provider to {url} does not end.",
    "The answer belongs to another log-in. Log in again.",
    "The answer does not come from the OpenID provider of this desk. Log in again.",
    "The ID token of the OpenID provider names nobody. Log in again.",
    "The ID token of the OpenID provider is not valid ({why}). Log in again.",
    "The log-in took longer than ten minutes. Log in again.",
    "The log-in took longer than ten minutes, or began in another browser. Log in again.",
    "The name that the OpenID provider sent cannot be used. {why}",
    "{who} has no role at the desk: no group in the claim {claim} is in BLOODCELL_DESK_GROUPS.",
    "{why}. An administrator has to give this account another name.",
    "This has to be done first: {what}",
    "A period has at most {n} days.",
    "A request has at most {n} bytes.",
)
"""Texts with the names of their values in braces."""


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    # one with more words is tried before one that it contains
    by_words = sorted(SHAPES, key=lambda shape: -len(PLACEHOLDER.sub("", shape)))
    return tuple((shape, re.compile(PLACEHOLDER.sub(r"(?P<\1>.+?)", _escaped(shape)), re.DOTALL)) for shape in by_words)


def _escaped(shape: str) -> str:
    return re.sub(r"[.?*+()\[\]|^$\\]", r"\\\g<0>", shape)


def shaped(english: str, texts: Mapping[str, str]) -> str:
    """Returns a text in the language of `texts`, also if it has values in it; the text itself if it is not there.

    Args:
        english: The text, put together.
        texts: English text, with names in braces -> translation.
    """
    if exact := texts.get(english):
        return exact
    for shape, pattern in _patterns():
        if found := pattern.fullmatch(english):
            return _filled(texts.get(shape) or shape, found.groupdict(), texts)
    return english


def _filled(text: str, values: dict[str, str], texts: Mapping[str, str]) -> str:
    if "role" in values:  # a word like others
        values["role"] = texts.get(values["role"]) or values["role"]
    return PLACEHOLDER.sub(lambda name: values.get(name[1], name[0]), text)
