"""The settings of the exchange with other systems, a group of `bloodcell.settings`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from bloodcell.setting_types import OptionalPath


class ExchangeSettings(BaseModel):
    """Where results leave to, and when."""

    exchange_file: OptionalPath = Field(
        None,
        description="TOML file with the systems that results are sent to (bloodcell exchange example); "
        "default: nothing leaves.",
    )
    identity_keys_dir: OptionalPath = Field(
        None,
        description="Folder with the keys of what orders say of patients; default: <data_dir>/identity-keys. It is in "
        "no backup.",
    )
    keep_identities_days: int = Field(
        14, ge=1, le=366, description="Days for which what an order says of its patient is kept, encrypted."
    )
    send_cron: str = Field(
        "* * * * *", description="Cron expression of the Dag send_results, in UTC; empty: it is started only by hand."
    )
