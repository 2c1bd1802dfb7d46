"""Five slides of real images on which machine counts used to mislead, shown by terminal, summary, views and report.

    python -m benchmarks.acceptance.honest_slides WORK SHARED [--bloodcell PATH]

SHARED holds pbc/<class>/*.jpg. The night is ingested and classified by the shipped models through the command line
of PATH, by default this release's; that of a release before 0.3 shows what its users saw. Afterwards two late cells and
the labels of a person arrive. Writes everything to standard output, and the reports to WORK/reports.

    blurred   106 cells in usual shares and 70 that are out of focus
    coded     110 cells in usual shares, and 70 lymphocytes and monocytes that the analyser coded as blasts
    few       54 leucocytes, of which 18 are immature granulocytes, and 12 erythroblasts
    labelled  130 leucocytes, of which a person labels 71 as blasts
    late      120 cells in usual shares; two more arrive a night later
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from PIL import Image, ImageFilter

NIGHTS: Final = ("2026-11-20", "2026-11-21")
MIX: Final = {"neutrophil": 0.6, "lymphocyte": 0.28, "monocyte": 0.07, "eosinophil": 0.04, "basophil": 0.01}
CODES: Final = {
    "neutrophil": "SNE", "lymphocyte": "LY", "monocyte": "MO", "eosinophil": "EO", "basophil": "BA", "ig": "MY",
    "erythroblast": "ERB",
}  # fmt: skip
STATUS: Final = "SELECT barcode, status, n_cells, n_cells_reported, n_out_of_scope FROM slide_status ORDER BY 1"


class Images:
    """Real images, each used once."""

    def __init__(self, folder: Path) -> None:
        chance = random.Random(20)
        self._left: dict[str, Iterator[Path]] = {}
        for cell_class in CODES:
            paths = sorted((folder / cell_class).glob("*.jpg"))
            chance.shuffle(paths)
            self._left[cell_class] = iter(paths)

    def take(self, counts: Mapping[str, int]) -> list[tuple[str, Path]]:
        """Returns (class, file) of so many images of each class."""
        return [(name, next(self._left[name])) for name, n in counts.items() for _ in range(n)]


def usual_mix(n: int) -> dict[str, int]:
    counts = {name: round(share * n) for name, share in MIX.items()}
    counts["neutrophil"] += n - sum(counts.values())
    return counts


def lay_out(work: Path, images: Images) -> list[str]:
    """Writes the two nights; returns the file names of the cells that a person will label."""

    def put(
        night: str, slide: str, cells: list[tuple[str, Path]], code: str | None = None, blur_px: int = 0
    ) -> list[str]:
        folder = work / "drops" / night / slide
        folder.mkdir(parents=True, exist_ok=True)
        first = len(list(folder.glob("*.jpg")))
        names = []
        for number, (name, path) in enumerate(cells, first):
            body = path.read_bytes()
            if blur_px:
                with Image.open(path) as image:
                    blurred = io.BytesIO()
                    image.filter(ImageFilter.GaussianBlur(blur_px)).save(blurred, "JPEG", quality=95)
                body = blurred.getvalue()
            names.append(f"{code or CODES[name]}_{number:04}.jpg")
            (folder / names[-1]).write_bytes(body)
        return names

    first, second = NIGHTS
    put(first, "blurred", images.take(usual_mix(106)))
    put(first, "blurred", images.take(usual_mix(70)), blur_px=12)
    put(first, "coded", images.take(usual_mix(110)))
    put(first, "coded", images.take({"lymphocyte": 35, "monocyte": 35}), code="BL")
    put(first, "few", images.take({"neutrophil": 24, "lymphocyte": 12, "ig": 18, "erythroblast": 12}))
    put(first, "labelled", images.take(usual_mix(59)))
    labelled = put(first, "labelled", images.take({"lymphocyte": 41, "monocyte": 30}))
    put(first, "late", images.take(usual_mix(120)))
    put(second, "late", images.take({"eosinophil": 2}))
    return labelled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--bloodcell", type=Path, default=Path(sys.executable).with_name("bloodcell"))
    given = parser.parse_args()
    labelled = lay_out(given.work, Images(given.shared / "pbc"))
    environment = os.environ | {
        "BLOODCELL_DATA_DIR": str(given.work / "data"),
        "BLOODCELL_DROPS_DIR": str(given.work / "drops"),
        "BLOODCELL_SETTLE_S": "0",
        "COLUMNS": "150",
    }
    reports = given.work / "reports"
    reports.mkdir(exist_ok=True)

    def run(*arguments: str, show: bool = True) -> None:
        done = subprocess.run(
            [given.bloodcell, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if show or done.returncode not in (0, 3):
            print(
                f"$ bloodcell {' '.join(arguments)}\n{done.stdout}{done.stderr if done.returncode else ''}", flush=True
            )

    def summary(night: str) -> None:
        code = (
            "import sys; from datetime import date; from bloodcell.settings import Settings;"
            "from bloodcell.storage.database import open_database;"
            "from bloodcell.report.night_report import night_markdown, night_summary;"
            f"found = night_summary(open_database(Settings()), date.fromisoformat({night!r}));"
            "print(found.headline); print(night_markdown(found))"
        )
        python = given.bloodcell.with_name("python")
        # elsewhere, or the release of the current folder would be imported
        found = subprocess.run(
            [python, "-c", code], cwd=given.work, env=environment, capture_output=True, text=True, check=True
        )
        print(f"Summary of {night}\n{found.stdout}", flush=True)

    run("db", "upgrade", show=False)
    first, second = NIGHTS
    run("ingest", str(given.work / "drops" / first), show=False)
    run("classify", "--night", first, show=False)
    summary(first)
    for slide in ("blurred", "coded", "few", "labelled", "late"):
        run("differential", slide)
        run("report", slide, "--html", str(reports / f"{slide}.html"))
    run("db", "psql", "-c", STATUS)
    rows = "".join(f"labelled,{name},BL,anna,2026-11-21T09:00:00Z\n" for name in labelled)
    labels = given.work / "labels.csv"
    labels.write_text(f"slide,file,label,labelled_by,labelled_at\n{rows}")
    run("labels", "import", str(labels))
    run("ingest", str(given.work / "drops" / second), show=False)
    run("classify", "--night", second, show=False)
    for slide in ("labelled", "late"):
        run("differential", slide)
        run("result", slide)
    run("slides")
    run("db", "psql", "-c", STATUS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
