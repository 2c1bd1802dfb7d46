"""Whether a worse model can pass the gates, whether a good one does, and how often the nightly check is wrong.

    python -m benchmarks.acceptance.evidence [--runs 200] [--results FILE]

Simulated hold-outs of patients (`simulated_holdouts`) are compared and judged by the product's own functions, with the
gates' default settings: how many of the runs pass, for candidates that are equal, 1 point worse, or that fail in one of
three ways which used to pass. Then labels are chosen in three ways, to see what a candidate that is 2 points worse
looks like. Then the nightly check judges champions as good as its threshold asks, for patients who differ.

To see what a release before 0.3 did, run this file in a checkout of it: both are understood. Takes two minutes.
Ends with status 1 if a target of issue 20 is missed. Writes EVIDENCE.md beside this file.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.acceptance.simulated_holdouts import CELLS_PER_PATIENT, SCENARIOS, Simulated, simulate
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation import compare
from bloodcell.monitoring import label_agreement
from bloodcell.presentation.numbers import counted
from bloodcell.retraining.gates import judge_gates
from bloodcell.settings import Settings

PATIENTS: Final = (5, 10, 25, 50, 100)
RESULTS: Final = Path(__file__).with_name("EVIDENCE.md")
_SETTINGS: Final = Settings()


def main() -> None:
    """Simulates, prints, writes and judges."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    passing = gates_table(chosen.runs)
    parts = [
        "# What may judge a model",
        "Written by `python -m benchmarks.acceptance.evidence`: simulations, judged by the product's own functions.",
        _gates_text(passing, chosen.runs),
        _selection_text(chosen.runs),
        _check_text(chosen.runs),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    chosen.results.write_text(text)
    missed = missed_targets(passing)
    for each in missed:
        print(f"MISSED: {each}", file=sys.stderr)
    sys.exit(1 if missed else 0)


def gates_table(n_runs: int) -> dict[tuple[str, int], float]:
    """Returns (scenario, patients) -> share of the runs in which every gate passes."""
    return {
        (scenario, n_patients): float(
            np.mean([_passes(simulate(scenario, n_patients, 1_000 * n_patients + run)) for run in range(n_runs)])
        )
        for scenario in SCENARIOS
        for n_patients in PATIENTS
    }


def missed_targets(passing: dict[tuple[str, int], float]) -> list[str]:
    """Returns the targets of issue 20 that are missed."""
    missed = [
        f"1 point worse passes {passing['1 point worse', n]:.1%} with {n} patients, at most 3 % wanted"
        for n in PATIENTS
        if passing["1 point worse", n] > 0.03
    ]
    missed += [
        f"{scenario} passes {passing[scenario, 50]:.1%} with 50 patients, at most 5 % wanted"
        for scenario in SCENARIOS[2:]
        if passing[scenario, 50] > 0.05
    ]
    if passing["equal", 50] < 0.8:
        missed.append(f"an equal candidate passes {passing['equal', 50]:.1%} with 50 patients, at least 80 % wanted")
    return missed


def _passes(simulated: Simulated) -> bool:
    comparison = compare(simulated.holdout, [simulated.candidate, simulated.champion])
    return all(gate.passed for gate in judge_gates(comparison, _SETTINGS))


def _gates_text(passing: dict[tuple[str, int], float], n_runs: int) -> str:
    rows = [
        f"| {scenario} | {' | '.join(f'{100 * passing[scenario, n]:.1f}' for n in PATIENTS)} |"
        for scenario in SCENARIOS
    ]
    return "\n".join(
        [
            "## Gates",
            "",
            f"Share of {n_runs} runs in which a candidate passes every gate, in percent, by the number of hold-out "
            f"patients, with {CELLS_PER_PATIENT} cells and two cells out of scope each. Patients differ in their mix.",
            "",
            f"| candidate | {' | '.join(map(str, PATIENTS))} |",
            f"| --- |{' ---: |' * len(PATIENTS)}",
            *rows,
        ]
    )


def _selection_text(n_runs: int) -> str:
    """Returns what a candidate that is 2 points worse looks like on cells chosen in three ways."""
    measured: dict[str, list[float]] = {}
    for run in range(n_runs):
        simulated = simulate("2 points worse", 100, run)
        champion, candidate = simulated.champion, simulated.candidate
        chance = np.random.default_rng(run).random(len(champion.unclassified)) < 0.05
        tops = [each.probabilities.argmax(axis=1) for each in (champion, candidate)]
        chosen = {
            "every cell": np.ones_like(chance),
            "5 % by chance": chance,
            "review queue (unclassified)": champion.unclassified,
            "the models disagree": tops[0] != tops[1],
            "a person corrected the champion": tops[0] != simulated.holdout.truth,
        }
        for name, kept in chosen.items():
            measured.setdefault(name, []).append(_difference(simulated, kept))
    rows = [f"| {name} | {100 * np.mean(found):+.1f} |" for name, found in measured.items()]
    return "\n".join(
        [
            "## Choice of cells",
            "",
            f"A candidate that is 2 points worse, on 100 patients, mean of {n_runs} runs: what each choice of labelled "
            "cells makes of it, in points of accuracy. Only cells drawn by chance judge models.",
            "",
            "| cells | candidate minus champion |",
            "| --- | ---: |",
            *rows,
        ]
    )


def _difference(simulated: Simulated, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    tops = [each.probabilities.argmax(axis=1) for each in (simulated.candidate, simulated.champion)]
    right = [top[kept] == simulated.holdout.truth[kept] for top in tops]
    return float(right[0].mean() - right[1].mean())


def _check_text(n_runs: int) -> str:
    """Returns how often the nightly check raises an alarm about agreement, and about a class that is always wrong."""
    spreads, sizes = (0.0, 0.05, 0.1, 0.2), ((10, 20), (50, 20), (200, 1))
    sampled = [f"{n} patients, {counted(each, 'cell')} each" for n, each in sizes]
    rows = []
    for spread in spreads:
        shares = [
            np.mean([_alarms(_labelled(0.9, n, each, spread, 7_000 + run)) for run in range(5 * n_runs)])
            for n, each in sizes
        ]
        rows.append(f"| {spread:.2f} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")
    wrong_ig = np.mean([_alarms(_with_wrong_ig(run)) for run in range(n_runs)])
    return "\n".join(
        [
            "## Nightly check",
            "",
            f"False alarms in percent of {5 * n_runs:,} checks of a champion that agrees with 90 % of the labels, the "
            "threshold: 2.5 % are allowed. Patients differ with the correlation on the left.",
            "",
            f"| correlation | {' | '.join(sampled)} |",
            f"| --- |{' ---: |' * len(sizes)}",
            *rows,
            "",
            "A champion that is right about none of 60 immature granulocytes among 1,000 cells of 50 patients, and "
            f"about 97 % of all others: an alarm in {100 * wrong_ig:.0f} % of {n_runs} checks.",
        ]
    )


@dataclasses.dataclass(frozen=True)
class _Cell:
    cell_class: str
    called: str
    patient: str


def _labelled(agreement: float, n_patients: int, n_each: int, correlation: float, seed: int) -> list[_Cell]:
    random = np.random.default_rng(seed)
    if correlation:
        strength = (1 - correlation) / correlation
        own = random.beta(agreement * strength, (1 - agreement) * strength, n_patients)
    else:
        own = np.full(n_patients, agreement)
    return [
        _Cell("neutrophil", "neutrophil" if random.random() < own[patient] else "ig", f"P{patient}")
        for patient in range(n_patients)
        for _ in range(n_each)
    ]


def _with_wrong_ig(seed: int) -> list[_Cell]:
    random = np.random.default_rng(seed)
    others = [name for name in CELL_CLASSES if name != "ig"]
    cells = [_Cell("ig", "neutrophil", f"P{n % 50}") for n in range(60)]
    for n in range(940):
        name = others[n % len(others)]
        called = name if random.random() < 0.97 else others[(n + 1) % len(others)]
        cells.append(_Cell(name, called, f"P{n % 50}"))
    return cells


def _alarms(cells: list[_Cell]) -> bool:
    """Returns whether the check raises an alarm: about all cells, and if there are several classes, about any."""
    release: Any = label_agreement
    if hasattr(release, "Compared"):
        each = tuple(release.ComparedCell(c.cell_class, c.called, c.patient, is_new=True) for c in cells)
        checks = release.agreement_checks(release.Compared(len(cells), 0, each), _SETTINGS)
    else:  # before 0.3
        counts = Counter((c.cell_class, c.called) for c in cells)
        tallies = [release.Tally(said, called, False, False, n) for (said, called), n in counts.items()]
        checks = release.agreement_checks(tallies, _SETTINGS)
    of_all = len({cell.cell_class for cell in cells}) > 1
    return any(not check.passed for check in checks if of_all or (check.kind, check.cell_class) == ("agreement", None))


if __name__ == "__main__":
    main()
