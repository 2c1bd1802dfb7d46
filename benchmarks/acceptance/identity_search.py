"""What is left of who patients are: searched before and after the lifetime of the identities, in backups, too."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken

from benchmarks.acceptance.signed_laboratory import NOTHING_TO_DO, SignedLaboratory
from benchmarks.acceptance.traces import Search, Sought, search_database, search_files
from bloodcell.exchange.identities import IdentityKeys
from bloodcell.presentation.markdown import markdown_table
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import embedded_database
from tests.conftest import _administer
from tests.removal.test_backup import LINES, shell

_IDENTITIES: Final = "SELECT key_name, token FROM bloodcell_identity.patient_identity ORDER BY lab_order_id"
_CONTROL: Final = "a barcode"
_DAY_KEY: Final = "a key of identities"
_DIGEST_KEY: Final = "the key of digests"
_SEALED: Final = "an encrypted identity"
_EXPECTED: Final = {_CONTROL, _SEALED}
"""What may be found anywhere: a barcode, which shows that the search finds what is there; what nobody can decrypt."""


@dataclass
class Kept:
    """What was searched and found.

    Attributes:
        text: The tables, in Markdown.
        problems: What is not as it should be.
    """

    text: str = ""
    problems: list[str] = field(default_factory=list)


def keep_and_expire(
    laboratory: SignedLaboratory, work: Path, of_patients: Mapping[str, Iterable[str]], barcodes: Sequence[str]
) -> Kept:
    """Makes backups and searches everything, lets the identities expire, and does both again.

    Args:
        laboratory: The laboratory; nothing but its Postgres runs.
        work: Its folder, with what the receivers have in `receivers`.
        of_patients: Name of what identifies a patient -> how it may be written.
        barcodes: Of the patients' slides.
    """
    settings, kept = laboratory.settings, Kept()
    tokens = [bytes(row["token"]) for row in laboratory.rows(_IDENTITIES)]
    by_keys = {
        _DAY_KEY: [path.read_text() for path in settings.identity_keys.glob("????-??-??.key")],
        _DIGEST_KEY: [(settings.identity_keys / "pseudonyms.key").read_text()],
        _SEALED: [token.decode() for token in tokens],
        _CONTROL: barcodes,
    }
    sought = Sought({**of_patients, **by_keys})
    rows: list[list[str]] = []
    facts: dict[str, list[str]] = {}
    for when, n in (("before", "3"), ("after", "0")):
        if when == "after":
            _expire(laboratory, kept)
        folder = work / f"backup-{when}"
        n_identities, n_open = str(len(laboratory.rows(_IDENTITIES))), _decrypted(settings.data_dir, tokens)
        _expect(kept, f"identities, and of those before decrypted ({when})", (n, n), (n_identities, n_open))
        n_restored, n_orders = _back_up(laboratory, folder, when)
        _expect(kept, f"identities in the restored dump ({when})", 0, n_restored)
        n_by_backups = _decrypted(folder, tokens)
        _expect(kept, f"identities decrypted with what the backups have ({when})", "0", n_by_backups)
        for what, figure in (
            ("identities in the database", n_identities),
            ("former identities that a key in the data folder decrypts", n_open),
            ("former identities that a key in the backups decrypts", n_by_backups),
            ("orders in the restored dump", str(n_orders)),
            ("identities in the restored dump", str(n_restored)),
        ):
            facts.setdefault(what, [what]).append(figure)
        print(f"  backups were made and restored, {when} the expiry", flush=True)
        for search in _searches(laboratory, work, folder, sought):
            rows.append(_row(search, when, list(of_patients)))
            print(f"  {' | '.join(rows[-1])}", flush=True)
            kept.problems += _wrong(search, when, set(of_patients))
    found = {row[0] for row in rows if _CONTROL in row[5]}
    _expect(kept, "places where a barcode is found, as it has to be", True, len(found) > 3)
    head = ["searched", "lifetime", "tables or files", "MB", "of the patients", "of the rest"]
    kept.text = "\n\n".join([
        f"Sought: {', '.join(of_patients)}; and {_DAY_KEY}, {_DIGEST_KEY}, {_SEALED} and {_CONTROL}, which shows that "
        "the search finds what is there. Every table of every database is read, those of the catalogue included.",
        markdown_table(head, rows, right=[2, 3]),
        f"The lifetime is {settings.keep_identities_days} days; rows and keys were made older, then "
        "`bloodcell exchange send` ran. Encrypted identities may lie in files of Postgres until they are overwritten; "
        "the keys are gone.",
        markdown_table(["", "before", "after"], list(facts.values()), right=[1, 2]),
    ])  # fmt: skip
    return kept


def _expect(kept: Kept, what: str, expected: object, received: object) -> None:
    if expected != received:
        kept.problems.append(f"{what}: expected {expected}, received {received}")


def _decrypted(folder: Path, tokens: Sequence[bytes]) -> str:
    """Returns how many identities any key below a folder gives back, whatever it is called."""
    bodies = [path.read_bytes() for path in folder.rglob("*.key")]
    return str(sum(any(_opens(body, token) for body in bodies) for token in tokens))


def _opens(key: bytes, token: bytes) -> bool:
    try:
        return bool(Fernet(key).decrypt(token))
    except (ValueError, InvalidToken):  # a key of something else
        return False


def _expire(laboratory: SignedLaboratory, kept: Kept) -> None:
    """Makes the identities, with their keys, older than their lifetime, and runs what removes them."""
    settings = laboratory.settings
    days = settings.keep_identities_days + 2
    for path in settings.identity_keys.glob("????-??-??.key"):
        path.rename(path.with_name(f"{date.fromisoformat(path.stem) - timedelta(days=days)}.key"))
    laboratory.write(
        "UPDATE bloodcell_identity.patient_identity SET expires_at = expires_at - interval '1 day' * "
        f"{days}, key_name = (key_name::date - {days})::text"
    )
    opened = [IdentityKeys.of(settings).open(row["key_name"], bytes(row["token"])) is not None
              for row in laboratory.rows(_IDENTITIES)]  # fmt: skip
    _expect(kept, "identities that are older, and not removed yet, decrypted", [True] * 3, opened)
    laboratory.run("exchange", "send", status=(NOTHING_TO_DO,))
    left = sorted(path.name for path in settings.identity_keys.iterdir())
    _expect(kept, "keys that are left", ["pseudonyms.key"], left)
    print(f"  the identities have expired, {datetime.now(UTC):%H:%M:%S}", flush=True)


def _back_up(laboratory: SignedLaboratory, folder: Path, when: str) -> tuple[int, int]:
    """Makes both kinds of backup with the lines of docs/how-to/backup.md, and restores the dump.

    Returns:
        Identities and orders in the restored database.
    """
    settings, programs = laboratory.settings, laboratory.server.psql.parent
    variables = {name: value for name, value in settings.as_variables().items() if name != "BLOODCELL_STORE_URL"}
    folder.mkdir()
    laboratory.server.stop()
    _run(LINES[0] + LINES[1], folder / "data", programs, variables)
    laboratory.server = embedded_database(settings)
    _run(LINES[3], folder / "dump", programs, {**variables, "STORE": settings.store})
    dump = folder / "dump" / "bloodcell.dump"
    plain = [str(programs / "pg_restore"), "--file", str(folder / "dump" / "bloodcell.sql"), str(dump)]
    subprocess.run(plain, check=True)
    restored = f"restored_{when}"
    _administer(laboratory.server, f"CREATE DATABASE {restored}")
    url = {"BLOODCELL_DATABASE_URL": laboratory.server.url(restored), "STORE": str(folder / "restored_store")}
    _run(LINES[4], folder / "dump", programs, {**variables, **url})
    with connect(laboratory.server.url(restored)).connect() as connection:
        n_identities, n_orders = (
            connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0
            for table in ("bloodcell_identity.patient_identity", "bloodcell.lab_order")
        )
    return n_identities, n_orders


def _run(lines: str, backup: Path, programs: Path, variables: Mapping[str, str]) -> None:
    done = shell(lines, backup, programs, **variables)
    if done.returncode:
        raise RuntimeError(f"{lines}\n{done.stdout}{done.stderr}")


def _searches(laboratory: SignedLaboratory, work: Path, backup: Path, sought: Sought) -> Iterator[Search]:
    yield search_database(laboratory.server, "all databases", sought)
    data = laboratory.settings.data_dir
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        yield search_files(folder, f"data folder: {folder.name}", sought)
    yield search_files(data / "postgres", "of these, Postgres's log and configuration", sought, below=False)
    yield search_files(data, "data folder: other files", sought, below=False)
    yield search_files(work, "what the commands printed", sought, below=False)
    yield search_files(backup / "data", "copy of the data folder", sought)
    yield search_files(backup / "dump", "pg_dump, also as SQL, and the store", sought)
    yield search_files(work / "receivers", "what the receiver lis has", sought)


def _row(search: Search, when: str, identifying: Collection[str]) -> list[str]:
    found = [each for each in identifying if each in search.found]
    places = sorted({place for each in found for place in search.found[each]})
    others = [_where(what, search.found[what]) for what in sorted(search.found.keys() - set(identifying))]
    return [
        search.place,
        when,
        f"{search.n_parts:,}",
        f"{search.n_bytes / 1e6:,.1f}",
        _where(f"{len(found)} of {len(identifying)}", places) if found else "nothing",
        "; ".join(others) or "nothing",
    ]


def _where(what: str, places: Sequence[str]) -> str:
    return f"{what}: {places[0]}" + (f" and {len(places) - 1:,} more" if places[1:] else "")


def _wrong(search: Search, when: str, identifying: set[str]) -> list[str]:
    """Returns what was found where it must not be, or not found where it has to be."""
    allowed, needed = set(_EXPECTED), set[str]()
    if search.place == "what the receiver lis has":
        allowed |= identifying
        needed = identifying
    if search.place == "data folder: identity-keys":
        allowed |= {_DIGEST_KEY, _DAY_KEY} if when == "before" else {_DIGEST_KEY}
    if search.place == "pg_dump, also as SQL, and the store":
        allowed -= {_SEALED}
    found = set(search.found)
    return [
        *(
            f"{search.place} ({when}): {each} in {', '.join(search.found[each][:5])}"
            for each in sorted(found - allowed)
        ),
        *(f"{search.place} ({when}): {each} is not found" for each in sorted(needed - found)),
    ]
