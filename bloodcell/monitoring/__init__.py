"""Each night the champion is looked at: does it agree with people, and are its nights still what it was trained for?"""

from __future__ import annotations

from bloodcell.monitoring.alarm import Alarm, post_alarm, reason_of
from bloodcell.monitoring.check_records import ChampionCheck, Check
from bloodcell.monitoring.checking import check_champion

__all__ = ["Alarm", "ChampionCheck", "Check", "check_champion", "post_alarm", "reason_of"]
