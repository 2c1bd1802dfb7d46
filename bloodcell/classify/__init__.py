"""Cells become calls: each image is read once, however many models call it.

shards                the remaining work, in shards of whole slides
uncalled_cells        the cells of a shard that models have not called yet
shard_classification  runs the models over a shard's cells
sentinels             stored cells that a worker calls again, to see that it computes what was computed before
slide_look            a slide's images are compared with those that its models know
call_rows             calls as rows of the database
"""

from bloodcell.classify.shard_classification import ClassifySummary, classify_shard
from bloodcell.classify.shards import Shard, plan_shards

__all__ = ["ClassifySummary", "Shard", "classify_shard", "plan_shards"]
