"""Runs the migrations in the connection, and the transaction, that `migrate` opened."""

from alembic import context

from service.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="records_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
