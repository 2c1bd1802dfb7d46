"""Counts a slide's cells, by the labels of people and the calls of a model, with exact intervals and flags.

counting           turns counts of a slide's cells into a differential
differential_rows  counts the cells in Postgres and adds the rows
laboratory_rules   the laboratory's reference ranges and rules, from its file
loinc              the LOINC codes of a differential's lines, from the same file
reference_ranges   where a value lies relative to its range
"""

from bloodcell.differential.counting import Differential, count_differential
from bloodcell.differential.laboratory_rules import LaboratoryRules, read_rules

__all__ = ["Differential", "LaboratoryRules", "count_differential", "read_rules"]
