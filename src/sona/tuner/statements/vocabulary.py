"""The words of PostgreSQL that tell, without a parser, what stands beside them."""

from __future__ import annotations

import re

from sona.tuner.statements.tokens import words

RESERVED = words(
    "all and any array as asc between both by case cast collate cross cube current desc distinct else escape "
    "except exists extract fetch filter for from full group grouping having ilike in inner intersect into is "
    "join lateral leading left like limit natural not null nulls offset on only or order outer over partition "
    "range recursive returning right rollup row rows select sets similar some symmetric tablesample then to "
    "trailing union using values when where window with within"
)
NOT_OPERANDS = RESERVED - {"null", "current", "row"}
TYPES = words(
    "bit bool boolean box bpchar bytea char character cidr circle date datemultirange daterange decimal float "
    "float4 float8 halfvec inet int int2 int4 int8 integer interval json jsonb jsonpath line lseg ltree macaddr "
    "money name numeric numrange path pg_lsn point polygon precision real regclass smallint sparsevec text time "
    "timestamp timestamptz timetz tsquery tsrange tsvector tstzrange uuid varchar vector xml zone"
)
NEVER_BARE = (
    RESERVED
    | TYPES
    | words(
        "analyse analyze authorization binary check column collation constraint create current_catalog current_date "
        "current_role current_schema current_time current_timestamp current_user default deferrable delete do end "
        "false first foreign freeze grant initially insert localtime localtimestamp merge next operator placing "
        "primary references session_user set system_user table true unique update user variadic verbose"
    )
)
UNITS = words("year month day hour minute second to")
TYPE_TAILS = words("precision varying with without time zone") | UNITS
LIST_ENDS = words("limit offset fetch having window for union intersect except where select from rows")
PLAIN_NAME = re.compile(r'"[a-z_][a-z0-9_]*"')


NOT_CALLED = RESERVED - {
    "array",
    "any",
    "all",
    "some",
    "cast",
    "exists",
    "extract",
    "row",
    "grouping",
    "rollup",
    "cube",
}
