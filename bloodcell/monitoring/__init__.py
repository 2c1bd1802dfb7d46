"""The nightly check of the champion: its agreement with labels, and how its nights differ from its validation images.

champion_check    the check: everything below, and its rows written in one transaction
check_records     one figure of a check, and all figures of a check
label_agreement   the champion's calls against the labels entered since the last check
called_nights     what the champion called since the last check, added up by the database
drift_checks      the distances of these nights from the validation images, judged
drift             distances of class mix, confidence and novelty
resampling        the bootstrap that drift takes its intervals from
embedding_drift   distance of the embeddings
rerun             runs the champion over a sample of cells again, for their embeddings
alarm             a message to a webhook
"""

from __future__ import annotations

from bloodcell.monitoring.alarm import Alarm, post_alarm, reason_of
from bloodcell.monitoring.champion_check import check_champion, read_check
from bloodcell.monitoring.check_records import ChampionCheck, Check

__all__ = ["Alarm", "ChampionCheck", "Check", "check_champion", "post_alarm", "read_check", "reason_of"]
