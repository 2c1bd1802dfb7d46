"""What `make bench` measures: ratios of two ways taken alternately in one run, so that the machine falls out of them.

    line          what is measured against what, its target, the raw figures
    place         the embedded Postgres, fresh databases, processes apart
    material      cells (real ones where ../shared has them), nights, bundles
    classifying   stored files -> rows, against the bare forward pass and against the plain way
    ingesting     a night -> rows, against reading, hashing and verifying alone
    growing       memory and time per cell from 1,000 to 20,000 cells
    writing       COPY of calls, against INSERT
    labelling     a label file -> labels, against INSERT; memory by rows
    starting      how long `bloodcell --help` and a Dag file take to come up

The full run writes RESULTS.md; `python -m benchmarks.speed --quick` only shows that everything runs. Apart from it,
each by itself and with a table of its own: `million` (a night of a million cells), `many` (ten million calls), `gpu`.

- Every side starts on a fresh database; what both sides wait for once (loading a model, tracing it) is left out.
- Bundles have the default recipes' sizes and layers on random base weights, trained for one epoch: what a cell is
  called does not matter here, what calling it costs is the same. They are kept in the user's cache folder.
- Keras would compile with XLA by itself, which is slower on a CPU; the bare pass and the plain way do without.
"""
