"""Whether the store still holds what the database refers to, and how damaged objects are healed.

store_verification  every object is read and compared with its digest
expected_objects    what the database refers to: images, bundles, reports
good_copies         where a good copy may be: drops, other stores, shipped models
stale_parts         unfinished files of killed writers
verification_record the result of the last verification
"""

from __future__ import annotations

from bloodcell.verification.store_verification import Damage, StoreVerification, verify_store
from bloodcell.verification.verification_record import VerificationRecord, last_verification

__all__ = ["Damage", "StoreVerification", "VerificationRecord", "last_verification", "verify_store"]
