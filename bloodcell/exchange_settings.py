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
    send_cron: str = Field(
        "* * * * *", description="Cron expression of the Dag send_results, in UTC; empty: it is started only by hand."
    )
