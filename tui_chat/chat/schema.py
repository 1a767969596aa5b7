"""The tables of the database, as steps from one version to the next."""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE conversation (
            id      TEXT PRIMARY KEY,
            created TEXT NOT NULL,
            updated TEXT NOT NULL,
            tip_id  TEXT
        )
        """,
        """
        CREATE TABLE message (
            number          INTEGER PRIMARY KEY,
            id              TEXT NOT NULL UNIQUE,
            conversation_id TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            parent_id       TEXT REFERENCES message (id) ON DELETE CASCADE,
            role            TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
            text            TEXT NOT NULL,
            ids             BLOB,
            settings        TEXT NOT NULL,
            model           TEXT,
            created         TEXT NOT NULL,
            finished        INTEGER NOT NULL,
            finish_reason   TEXT
        )
        """,
        "CREATE INDEX message_conversation ON message (conversation_id, number)",
        "CREATE INDEX message_parent ON message (parent_id)",
        """
        CREATE TABLE trace (
            message  INTEGER NOT NULL REFERENCES message (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            data     BLOB NOT NULL,
            PRIMARY KEY (message, position)
        ) WITHOUT ROWID
        """,
        "CREATE VIRTUAL TABLE message_text USING fts5 (text, content = 'message', content_rowid = 'number')",
        """
        CREATE TRIGGER message_inserted AFTER INSERT ON message BEGIN
            INSERT INTO message_text (rowid, text) VALUES (new.number, new.text);
        END
        """,
        """
        CREATE TRIGGER message_deleted AFTER DELETE ON message BEGIN
            INSERT INTO message_text (message_text, rowid, text) VALUES ('delete', old.number, old.text);
        END
        """,
        """
        CREATE TRIGGER message_changed AFTER UPDATE OF text ON message BEGIN
            INSERT INTO message_text (message_text, rowid, text) VALUES ('delete', old.number, old.text);
            INSERT INTO message_text (rowid, text) VALUES (new.number, new.text);
        END
        """,
    ),
    ("ALTER TABLE message ADD COLUMN measured TEXT",),
    (
        "ALTER TABLE message ADD COLUMN prompt_ids BLOB",
        "ALTER TABLE message ADD COLUMN forked_from TEXT",
        "ALTER TABLE message ADD COLUMN n_kept INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message ADD COLUMN forced BLOB",
    ),
)
"""The statements that lead to version 1, to version 2, ...; the version is kept in `PRAGMA user_version`."""
