"""Cells become calls: one pass over the images of a shard, whatever the number of models.

shards                the cells that models have not called yet, in shards of whole slides
shard_classification  runs the models over a shard's cells
call_rows             calls as rows of the database
"""

from bloodcell.classify.shard_classification import ClassifySummary, classify_shard
from bloodcell.classify.shards import Shard, plan_shards

__all__ = ["ClassifySummary", "Shard", "classify_shard", "plan_shards"]
