"""How Alembic runs here: on a connection handed in by worker.store.schema, each migration in its own transaction."""

from alembic import context

from worker.store.music import plays

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=plays.metadata,  # of all tables: music's module builds on the copy's
    transaction_per_migration=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
