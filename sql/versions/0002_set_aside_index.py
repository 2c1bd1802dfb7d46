"""An index of the files set aside: each look for nights that are due asks for them, among millions that were not."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("CREATE INDEX drop_file_set_aside ON bloodcell.drop_file (night) WHERE outcome = 'quarantined'")


def downgrade() -> None:
    op.execute("DROP INDEX bloodcell.drop_file_set_aside")
