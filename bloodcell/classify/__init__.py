"""Cells become calls: one pass over the images of a shard, whatever the number of models.

planning -> reading -> (bloodcell.inference.merged) -> writing        classifying drives them
"""

from bloodcell.classify.classifying import ClassifySummary, classify_shard
from bloodcell.classify.planning import Shard, plan_shards

__all__ = ["ClassifySummary", "Shard", "classify_shard", "plan_shards"]
