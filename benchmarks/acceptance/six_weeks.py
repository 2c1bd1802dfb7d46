"""Six weeks of labels and retraining on real images, each approved by a person: does the champion get better?

    python -m benchmarks.acceptance.six_weeks WORK [--shared ../shared] [--weeks 6] [--slides 40] [--cells 120]

Starts a separate installation under WORK, with a champion trained on 25 images per class. Each week a night goes
through `nightly_run`, its labels (2 % wrong, 1 % contested) are imported, `retrain` runs, and the pathologist answers
through Airflow's API. Prints the weeks as a table, then the accuracy of every champion on 800 images never used.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.acceptance import staged as lab
from bloodcell.evaluation.bundle_evaluation import evaluate_bundles
from bloodcell.presentation.numbers import percent, percent_with_interval
from bloodcell.registry.registered_models import open_registered
from bloodcell.storage.store import Store

WEEK = """
    SELECT t.state, t.state_reason, c.model_id, v.passed, e.accuracy, o.accuracy AS champion_accuracy, e.n_cells,
           d.n_training, d.n_validation, d.n_holdout, t.approval ->> 'by' AS answered_by,
           (SELECT count(*) FROM bloodcell.current_label) AS n_labelled,
           (SELECT count(*) FROM bloodcell.current_label WHERE state = 'contested') AS n_contested,
           (SELECT string_agg(g ->> 'gate', ', ') FROM jsonb_array_elements(v.gates) g
            WHERE NOT (g ->> 'passed')::boolean) AS failed_gates
    FROM bloodcell.training_run t JOIN bloodcell.candidate c USING (training_run_id)
    JOIN bloodcell.dataset d USING (dataset_digest)
    JOIN bloodcell.validation v ON v.training_run_id = t.training_run_id AND v.model_id = c.model_id
    JOIN bloodcell.evaluation e ON e.model_id = c.model_id AND e.dataset_digest = t.dataset_digest
    LEFT JOIN bloodcell.evaluation o ON o.model_id = t.champion_id AND o.dataset_digest = t.dataset_digest
    WHERE t.airflow_run = :run_id
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--weeks", type=int, default=6)
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--cells", type=int, default=120)
    parser.add_argument("--variants", nargs="+", default=["inception_v3_svm"])
    parser.add_argument("--port", type=int, default=8093)
    asked = parser.parse_args()
    staged = lab.stage(asked.work, asked.shared, asked.port)
    table = [
        "| week | cells labelled | contested | training / validation / hold-out images | champion | candidate | gates "
        "| answered by | state |",
        "| ---: | ---: | ---: | --- | ---: | ---: | --- | --- | --- |",
    ]
    with lab.system(staged) as api:
        champions = [("first", lab.first_champion(staged).model_id)]
        for week in range(1, asked.weeks + 1):
            began = time.monotonic()
            truth = lab.make_night(staged, week, asked.slides, asked.cells)
            night = lab.run_night(api, staged.night(week))
            labels = lab.label_night(staged, week, truth)
            run_id, state = lab.retrain(
                staged, api, approve=True, reason=f"week {week}: better on the hold-out", variants=asked.variants
            )
            found = lab.rows(staged, WEEK, run_id=run_id)
            for row in found:
                table.append(
                    f"| {week} | {row.n_labelled:,} | {row.n_contested} | {row.n_training:,} / {row.n_validation:,} / "
                    f"{row.n_holdout:,} | {percent(row.champion_accuracy)} | {percent(row.accuracy)} | "
                    f"{row.failed_gates or 'all passed'} | {row.answered_by or '-'} | {row.state} |"
                )
                print(table[-1], row.state_reason, flush=True)
                if row.state == "promoted":
                    champions.append((f"week {week}", row.model_id))
            print(
                f"week {week}: night {night.state}, {labels.n_new} labels, retraining {state.state}, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    print("\n".join(table))
    store = Store.of(staged.settings)
    bundles = [open_registered(store, model_id) for _, model_id in champions]
    evaluated = evaluate_bundles(staged.held_out, bundles, staged.settings)
    for name, model_id in champions:
        one = evaluated[model_id].evaluation
        print(
            f"champion of {name} {model_id[:12]}: {percent_with_interval(one.accuracy)} of {one.n_cells} "
            f"held-out images, macro F1 {one.macro_f1:.3f}, "
            f"called {percent(one.coverage.value)}, right among those {percent(one.covered_accuracy.value)}"
        )


if __name__ == "__main__":
    main()
