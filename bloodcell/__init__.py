"""bloodcell: a night's blood cell images become differentials in Postgres.

Data moves one way. A room takes the records of the rooms before it, returns its own, and never imports a later one:

    inbox         drops and label files, listed and settled
    ingest        a drop's files become slides, cells and stored images; every file is accounted for
    classify      cells become calls by the champion and its challengers
    differential  a slide's calls become counts and percentages, with exact intervals and flags
    quality       what holds the results of a night: control slides and moving figures
    results       a count becomes a version of the slide's result, which a person signs
    report        a slide becomes a page, and a night becomes a summary
    labels        pathologists' labels of cells: imported, checked, contested or confirmed
    exchange      signed results leave for other systems, and what these answer is kept
    retraining    labels become candidates, which are validated, approved and promoted
    monitoring    compares the champion with new labels, and its nights with its validation images
    removal       erases all that is known of a patient or a slide, and removes what is old
    verification  compares every stored object with its digest, and heals what is damaged
    withdrawal    a slide that was delivered under a wrong barcode is withdrawn or renamed
    review        the review desk, where people look at results, correct and sign them

These rooms build on:

    cells         the vocabulary: cell classes, analyser codes, calls, intervals
    storage       Postgres and the content-addressed store
    registry      bundles of models, the champion and its challengers, promotion
    appearance    how images look, compared with those that a model knows
    inference     the one loop that runs models on images
    training      labelled images become a bundle
    evaluation    how well a bundle performs on labelled images
    site          models are fitted to a laboratory's own images
    presentation  numbers, tables, progress bars and pages: each format is defined once
    drawing       drawn cells, for demonstrations and tests

Users start bloodcell through `service` (up, watch, doctor), `demo` and `cli`. Every room uses `settings`, `errors` and
`resources`.

The public API is what `__all__` names here and in each room; `import bloodcell` imports none of it before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.classify import classify_shard, plan_shards
    from bloodcell.errors import BloodcellError
    from bloodcell.evaluation import evaluate_bundles
    from bloodcell.exchange import send_results
    from bloodcell.ingest import ingest_night
    from bloodcell.labels import export_labels, import_inbox, import_labels
    from bloodcell.monitoring import check_champion
    from bloodcell.registry import open_bundle
    from bloodcell.report import night_summary, write_report
    from bloodcell.results import read_result, sign_result, write_due_results
    from bloodcell.settings import Settings
    from bloodcell.storage import Store, open_database
    from bloodcell.training import train
    from bloodcell.verification import verify_store
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "BloodcellError": "bloodcell.errors",
            "Settings": "bloodcell.settings",
            "Store": "bloodcell.storage",
            "check_champion": "bloodcell.monitoring",
            "classify_shard": "bloodcell.classify",
            "evaluate_bundles": "bloodcell.evaluation",
            "send_results": "bloodcell.exchange",
            "export_labels": "bloodcell.labels",
            "import_inbox": "bloodcell.labels",
            "import_labels": "bloodcell.labels",
            "ingest_night": "bloodcell.ingest",
            "night_summary": "bloodcell.report",
            "open_bundle": "bloodcell.registry",
            "open_database": "bloodcell.storage",
            "plan_shards": "bloodcell.classify",
            "train": "bloodcell.training",
            "verify_store": "bloodcell.verification",
            "read_result": "bloodcell.results",
            "sign_result": "bloodcell.results",
            "write_due_results": "bloodcell.results",
            "write_report": "bloodcell.report",
        },
    )

__all__ = [
    "BloodcellError",
    "Settings",
    "Store",
    "check_champion",
    "classify_shard",
    "evaluate_bundles",
    "export_labels",
    "import_inbox",
    "import_labels",
    "ingest_night",
    "night_summary",
    "open_bundle",
    "open_database",
    "plan_shards",
    "read_result",
    "send_results",
    "sign_result",
    "train",
    "verify_store",
    "write_due_results",
    "write_report",
]
