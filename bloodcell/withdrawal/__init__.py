"""A slide that was delivered under a wrong barcode is withdrawn or renamed, and every step stays on record.

slide_withdrawal  carries a request out, and says what the cells were used for until then
withdrawal_plan   finds the slides that a request is about, and refuses what would report a wrong result
"""

from __future__ import annotations

from bloodcell.withdrawal.slide_withdrawal import SlideChange, Withdrawal, plan_withdrawal, withdraw_slide
from bloodcell.withdrawal.withdrawal_plan import WithdrawalRequest

__all__ = ["SlideChange", "Withdrawal", "WithdrawalRequest", "plan_withdrawal", "withdraw_slide"]
