"""Functions of PostgreSQL that are known to answer otherwise each time, or to do more than answer."""

from __future__ import annotations

from sona.tuner.statements.tokens import words

_NAMES = words(
    "clock_timestamp currval dblink gen_random_bytes gen_random_uuid gen_salt lastval nextval notify "
    "query_to_xml query_to_xml_and_xmlschema query_to_xmlschema cursor_to_xml database_to_xml schema_to_xml "
    "table_to_xml random random_normal set_config setseed setval timeofday ts_stat txid_current "
    "txid_current_if_assigned uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuidv4 uuidv7 "
    "pg_cancel_backend pg_create_logical_replication_slot pg_create_physical_replication_slot "
    "pg_create_restore_point pg_current_xact_id pg_current_xact_id_if_assigned pg_drop_replication_slot "
    "pg_export_snapshot pg_log_backend_memory_contexts pg_notify pg_promote pg_reload_conf pg_rotate_logfile "
    "pg_switch_wal pg_terminate_backend pg_wal_replay_pause pg_wal_replay_resume"
)
_STARTS = (
    "dblink_", "lo_", "lowrite", "loread", "pg_advisory_", "pg_backup_", "pg_import_", "pg_logical_", "pg_ls_",
    "pg_prewarm", "pg_read_", "pg_replication_", "pg_sleep", "pg_stat_", "pg_try_advisory_", "hypopg",
)  # fmt: skip


def is_volatile(function: str) -> bool:
    """Return whether a function that PostgreSQL or one of its own modules brings is volatile; a schema is ignored.

    A function of somebody else is not known here: the catalogue of the server says what it is.

    >>> is_volatile("pg_catalog.random"), is_volatile("now")
    (True, False)
    """
    name = function.rpartition(".")[2]
    return name in _NAMES or name.startswith(_STARTS)
