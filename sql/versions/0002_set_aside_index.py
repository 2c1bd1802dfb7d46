"""An index on the files set aside: every search for due nights looks for them, among millions of other files."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("CREATE INDEX drop_file_set_aside ON bloodcell.drop_file (night) WHERE outcome = 'quarantined'")


def downgrade() -> None:
    op.execute("DROP INDEX bloodcell.drop_file_set_aside")
