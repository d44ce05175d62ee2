"""A database for the tests beside this file: one a module, emptied for each test, which is quicker than a new one."""

import psycopg
import pytest

_EMPTY = """
TRUNCATE users, news, inbox, parked, counters, conditions, processes, tenant, connections,
  user_data, songs, playlists, playlist_songs, plays, play_days, wishes, pushes, pushed, sessions, sweep,
  arrivals, feeds, heard, runs, exported, suspects, forgotten RESTART IDENTITY
"""


@pytest.fixture
def database_url(module_database_url: str) -> str:
    """An empty database."""
    with psycopg.connect(module_database_url) as connection:
        connection.execute(_EMPTY)
        connection.execute("ALTER SEQUENCE news_number RESTART")
    return module_database_url
