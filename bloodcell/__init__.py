"""bloodcell: a night's blood cell images become differentials in Postgres.

The map of the flow. Each room is a stage: it takes the record of the stage before it and never imports a later one.

    ingest        a drop's files become slides, cells and stored images; every file is accounted for
    classify      cells become calls by the champion and its challengers, in one pass
    differential  a slide's calls add up, with exact intervals and flags
    report        a slide as a page, a night as a summary
    labels        what people say of cells: imported, checked, contested or confirmed
    retraining    labels become candidates, which are validated, approved and promoted
    monitoring    the champion against new labels, and its drift from the validation images

What the stages are made of:

    cells         cell classes, analyser codes, calls, intervals, metrics: the vocabulary
    storage       Postgres and the content-addressed store
    inbox         folders that other programs write into
    inference     images become the outputs of models: the one loop that every stage uses
    training      labelled images become a bundle
    registry      bundles, models, champion and challengers, promotion
    evaluation    how good a model's calls are on labelled images
    presentation  how figures, tables, progress and pages look

Around them:

    drawing       drawn cells, for demonstrations and tests
    service       up, watch, doctor, Airflow's home and API: the system as a whole
    demo          the guided tour
    cli           the command line

`settings`, `environment`, `errors` and `resources` are shared by all of them.
"""
