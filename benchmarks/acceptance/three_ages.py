"""Slides of a newborn, a child and a patient of unknown age: which reference ranges are used, and what is said of them.

    python -m benchmarks.acceptance.three_ages WORK SHARED [--out THREE_AGES.md]

SHARED holds pbc/<class>/*.jpg. The three slides have the same mix of real images, 53 % lymphocytes among them, which is
normal at birth and high in adults. They differ only in the age that slide.json gives: age_months 0, age_years 5, and
nothing. The night is ingested, classified by the shipped models and shown through the command line, in 3 minutes on two
cores. Writes THREE_AGES.md beside this file, the slides' pages into WORK/reports, and ends with status 1 if a range, a
flag or a notice is not as expected.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.acceptance.honest_slides import CODES, Images
from bloodcell.cells.classes import CLASS_NAMES, LEUCOCYTE_CLASSES
from bloodcell.presentation.markdown import Markdown, code, markdown_table
from bloodcell.presentation.numbers import interval, number

OUT: Final = Path(__file__).with_name("THREE_AGES.md")
NIGHT: Final = "2026-11-22"
CELLS: Final = {"neutrophil": 68, "eosinophil": 11, "basophil": 2, "lymphocyte": 117, "monocyte": 22}
RECORDS: Final[dict[str, dict[str, int]]] = {"newborn": {"age_months": 0}, "child": {"age_years": 5}, "unknown": {}}
RANGES: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "newborn": {"neutrophil": (24, 58), "eosinophil": (0, 8), "basophil": (0, 2.5), "lymphocyte": (26, 56),
                "monocyte": (7, 13), "ig": (0, 0.3)},
    "child": {"neutrophil": (30, 77), "eosinophil": (0, 5.8), "basophil": (0, 1), "lymphocyte": (14, 50),
              "monocyte": (4, 9), "ig": (0, 0.3)},
    "unknown": {"neutrophil": (40, 75), "eosinophil": (0, 5.5), "basophil": (0, 1), "lymphocyte": (12, 44),
                "monocyte": (4, 9), "ig": (0, 0.9)},
}  # fmt: skip
"""Published ranges in percent: at birth, 2 to 10 years, adults.

Source: Davis's Lab & Diagnostic Tests (labdxtest.com), Complete Blood Count, WBC Count and Differential; immature
granulocytes: Roehrl et al., Arch Pathol Lab Med 135 (2011) 471-477.
"""
FLAGS: Final[dict[str, dict[str, str | None]]] = {
    "newborn": {"neutrophil": None, "lymphocyte": None},
    "child": {"neutrophil": None, "lymphocyte": "possibly_high"},
    "unknown": {"neutrophil": "low", "lymphocyte": "high"},
}
SAYS: Final = {
    "newborn": "Reference ranges for birth.",
    "child": "Reference ranges for 5 years.",
    "unknown": "The age is unknown: flags are by the ranges of adults.",
}
"""What the terminal says of the ranges; the last sentence is on the page and in the JSON, too."""


class Bloodcell:
    """The command line, with an installation of its own in a folder, and settings that differ from the defaults."""

    def __init__(self, work: Path, **settings: str) -> None:
        self._environment = os.environ | {
            "BLOODCELL_DATA_DIR": str(work / "data"),
            "BLOODCELL_DROPS_DIR": str(work / "drops"),
            "BLOODCELL_SETTLE_S": "0",
            "COLUMNS": "150",
            **settings,
        }

    def __call__(self, *arguments: str) -> str:
        """Returns what a command prints.

        Raises:
            RuntimeError: It fails.
        """
        command = [str(Path(sys.executable).with_name("bloodcell")), *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"bloodcell {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout


def put(folder: Path, cells: list[tuple[str, Path]], codes: Mapping[str, str], record: Mapping[str, object]) -> None:
    """Writes a slide as an analyser does.

    Args:
        folder: The slide's folder, named by its barcode.
        cells: Class and file of each cell.
        codes: Class -> the analyser's code.
        record: What slide.json says beside the barcode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place, (name, path) in enumerate(cells):
        (folder / f"{codes[name]}_{place:04}.jpg").write_bytes(path.read_bytes())
    (folder / "slide.json").write_text(json.dumps({"barcode": folder.name, **record}))


def words(page: Path) -> str:
    """Returns the text of an HTML page, with single blanks."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.read_text())).split())


def wrong(slide: str, shown: str, document: dict[str, Any], page: str) -> list[str]:
    """Returns what is not as expected of a slide."""
    problems = []
    for line in document["leucocytes"]:
        name, received = line["class"], line["reference_range"]
        if tuple(received) != RANGES[slide][name]:
            problems.append(f"{slide}: range of {name}: expected {RANGES[slide][name]}, received {received}")
        expected = FLAGS[slide].get(name, line["flag"])
        if line["flag"] != expected:
            problems.append(f"{slide}: flag of {name}: expected {expected}, received {line['flag']}")
        if line["reference_source"] not in page:
            problems.append(f"{slide}: the page does not name the source of the range of {name}")
    is_unknown = slide == "unknown"
    said = {
        "the terminal": SAYS[slide] in shown and (SAYS["unknown"] in shown) == is_unknown,
        "the JSON": (SAYS["unknown"] in document["notices"]) == is_unknown,
        "the page": (SAYS["unknown"] in page) == is_unknown and ("reference range of adults" in page) == is_unknown,
    }
    return [
        *problems,
        *(f"{slide}: {place} does not say which ranges" for place, is_right in said.items() if not is_right),
    ]


def row(document: dict[str, Any], name: str) -> list[str]:
    line = next(each for each in document["leucocytes"] if each["class"] == name)
    low, high = line["reference_range"]
    return [
        Markdown(f"{number(line['percentage'])} ({interval((line['lower_95'], line['upper_95']))})"),
        f"{low:g}–{high:g}",
        (line["flag"] or "").replace("_", " "),
    ]


def table(documents: Mapping[str, dict[str, Any]]) -> str:
    """Returns every line of the three slides with its range and its flag."""
    head = ["", *(part for slide in documents for part in (f"{slide}, %", "range", "flag"))]
    rows = [
        [CLASS_NAMES[name], *(part for document in documents.values() for part in row(document, name))]
        for name in LEUCOCYTE_CLASSES
    ]
    return markdown_table(head, rows, right=[1, 2, 4, 5, 7, 8])


def sources(document: Mapping[str, Any]) -> str:
    """Returns each source with the classes whose ranges are from it, as a list."""
    classes: dict[str, list[str]] = {}
    for line in document["leucocytes"]:
        classes.setdefault(line["reference_source"], []).append(line["class"])
    return "\n".join(f"- {', '.join(names)}: {source}" for source, names in classes.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    images, bloodcell = Images(given.shared / "pbc"), Bloodcell(given.work)
    night, reports = given.work / "drops" / NIGHT, given.work / "reports"
    for slide, record in RECORDS.items():
        put(night / slide, images.take(CELLS), CODES, record)
    reports.mkdir(exist_ok=True)
    bloodcell("db", "upgrade")
    bloodcell("ingest", str(night))
    bloodcell("classify", "--night", NIGHT)
    documents, problems, said = {}, [], []
    for slide in RECORDS:
        shown, page = bloodcell("result", slide), reports / f"{slide}.html"
        documents[slide] = json.loads(bloodcell("result", slide, "--json"))
        bloodcell("report", slide, "--html", str(page))
        print(shown)
        problems += wrong(slide, shown, documents[slide], words(page))
        said.append([slide, code(json.dumps(RECORDS[slide])), SAYS[slide], "; ".join(documents[slide]["notices"])])
    model = documents["newborn"]["model"]
    text = "\n\n".join(
        [
            "# Slides of a newborn, a child and a patient of unknown age",
            f"Written by `python -m benchmarks.acceptance.three_ages` on {datetime.now(UTC):%Y-%m-%d}, model "
            f"{model['variant']} `{model['model_id'][:12]}`, rules {documents['newborn']['rules']['version']}. The "
            "slides have the same mix of classes and differ only in the age that slide.json gives. In brackets the "
            "exact 95 % interval: a flag is sure where all of it is outside the range.",
            table(documents),
            f"Sources of the ranges, as the JSON names them for every slide and the pages below their tables:\n\n"
            f"{sources(documents['newborn'])}",
            markdown_table(["slide", "slide.json", "the terminal says", "notices on page, terminal and JSON"], said),
            "Everything is as expected: ranges, flags and notices."
            if not problems
            else "Not as expected: " + "; ".join(problems),
        ]
    )
    given.out.write_text(f"{text}\n")
    print(text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
