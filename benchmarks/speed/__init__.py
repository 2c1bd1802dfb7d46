"""What `make bench` measures: ratios of two ways, measured alternately in one run so that the machine's speed cancels.

    line          a line of the table: what is measured against what, its target, the raw figures
    place         the embedded Postgres, fresh databases, separate processes
    material      cells (real ones if ../shared has them), nights, bundles
    starting      how long `bloodcell --help` takes, and the import of a Dag file
    ingesting     a night -> rows, against reading, hashing and verifying alone
    classifying   stored files -> rows, against the bare forward pass and against the plain way
    shipped       the shipped models: loading, and the forward pass against keras.applications
    growing       memory and time per cell from 1,000 to 20,000 cells
    writing       COPY of calls, against INSERT
    labelling     a label file -> labels, against INSERT; memory by rows
    sending       signed results over MLLP, against a loop that sends prepared messages
    exporting     a million cells to Parquet, against pandas
    training      epochs from cached features, against arrays in memory

The full run writes RESULTS.md; `python -m benchmarks.speed --quick` only shows that everything runs. Three benchmarks
run on their own and write their own tables: `million` (a night of a million cells), `many` (ten million calls), `gpu`.

- Every side starts on a fresh database. What both sides wait for only once (loading a model, tracing it) is left out.
- Bundles have the default recipes' sizes and layers, but random base weights, and are trained for one epoch. Their
  calls do not matter here, and cost the same. The bundles are kept in the user's cache folder.
- Keras would by default compile with XLA, which is slower on a CPU; the bare pass and the plain way do without it.
"""
