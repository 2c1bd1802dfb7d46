"""bloodcell: a night's blood cell images become differentials in Postgres.

The map of the flow; each room is a stage, takes the record of the stage before it, and never imports a later one:

    ingest        a drop's files become slides, cells and stored images; every file is accounted for
    classify      cells become calls by the champion and its challengers, in one pass (models: what calls them)
    differential  a slide's calls add up, with exact limits and flags
    report        a slide as a page, a night as a summary
    labels        what people say of cells: imported, checked, contested or confirmed
    retraining    labels become candidates, which are judged, approved and promoted
    monitoring    the champion against new labels, and drift from what it was trained on

Beside the flow:

    models        networks, training, bundles, the registry of champions and challengers
    evaluation    what a bundle is worth on labelled images
    drawing       drawn cells, for demonstrations and tests
    database      Postgres: tables, migrations, connections, runs (store.py: the bytes)
    operations    up, watch, doctor, demo: the system as a whole
    cli           the command line

`decoding`, `calls`, `groups`, `variants`, `limits`, `settings` and `errors` are shared by all of them.
"""
