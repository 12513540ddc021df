"""Laws of reading statements: what no formatting and no value changes, and what any text at all is read as."""

from hypothesis import given
from hypothesis import strategies as st

from sona.errors import PlanError
from sona.tuner.statements.normal import normal_form
from sona.tuner.statements.statement import StatementKind, StatementReader, read_statement
from sona.tuner.statements.tokens import TokenKind, tokens, words
from sona.tuner.statements.workload import read_workload

STATEMENTS = [
    "SELECT count ( * ) FROM v JOIN depends d ON d . dep_id = v . id WHERE v . name = {} AND d . kind IN ( {} , {} )",
    "WITH q AS ( SELECT e FROM t WHERE id = {} ) SELECT id , e <=> {} FROM t WHERE a = {} ORDER BY e <=> {} LIMIT {}",
    'SELECT a -> {} , "B" , sum ( c ) OVER ( PARTITION BY d ORDER BY f ) FROM s . t GROUP BY 1 , 2 HAVING g > {}',
    "SELECT CASE WHEN a BETWEEN {} AND {} THEN {} ELSE b END FROM t WHERE NOT c LIKE {} UNION ALL SELECT {} FROM u",
]
SPACES = st.sampled_from([" ", "\n", "\t ", " /* a 'comment */ ", " -- another; one\n", "\r\n", "/**/ "])
NUMBERS = st.one_of(st.integers(0, 10**12).map(str), st.floats(0, 1e9, allow_nan=False).map(repr))
STRINGS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
LITERALS = st.one_of(
    NUMBERS,
    NUMBERS.map(lambda number: f"-{number}"),
    STRINGS.map(lambda text: "'" + text.replace("'", "''") + "'"),
    STRINGS.map(lambda text: "'" + text.replace("'", "''") + "'::text"),
    STRINGS.filter(lambda text: "$" not in text).map(lambda text: f"$q${text}$q$"),
    st.sampled_from(["date '2020-01-01'", "CAST('1' AS numeric(10, 2))", "interval '1' day", "ARRAY[1, 2]::int[]"]),
)
PARAMETERS = st.sampled_from(["%s", "%b", "$1", "$22", "%(name)s", "%s::vector"])
VALUES = st.one_of(LITERALS, PARAMETERS)


@st.composite
def written_anew(draw, values=VALUES):
    """A statement, and the same one about other values in another hand."""
    statement = draw(st.sampled_from(STATEMENTS))
    words = statement.split(" ")
    plain = [word.format("1") if word == "{}" else word for word in words]
    other = []
    for word in words:
        if word == "{}":
            other.append(draw(values))
        elif word[0] == '"':
            other.append(word)
        else:
            other.append(draw(st.sampled_from([word, word.lower(), word.upper(), word.title()])))
        other.append(draw(SPACES))
    return " ".join(plain), "".join(other)


@given(written_anew())
def test_no_formatting_and_no_value_changes_a_fingerprint(pair):
    plain, other = map(read_statement, pair)
    assert plain.fingerprint == other.fingerprint
    assert plain.normalised == other.normalised
    assert (plain.tables, plain.functions, plain.refusal) == (other.tables, other.functions, other.refusal)
    assert plain.refusal is None


@given(written_anew(LITERALS))
def test_every_literal_is_kept_and_the_key_tells_them_apart(pair):
    plain, other = map(read_statement, pair)
    assert len(other.places) == len(plain.places)
    assert (plain.literal_key == other.literal_key) == (
        [[value.text for value in place] for place in plain.places]
        == [[value.text for value in place] for place in other.places]
    )


@given(st.lists(LITERALS, min_size=1, max_size=30), st.lists(PARAMETERS, max_size=5))
def test_the_length_of_a_list_changes_nothing(literals, parameters):
    short = read_statement("SELECT a FROM t WHERE b IN (1)")
    long = read_statement(f"SELECT a FROM t WHERE b IN ({', '.join(literals + parameters)})")
    assert long.fingerprint == short.fingerprint
    assert len(long.places[0]) >= len(literals)
    assert len(long.parameters) == len(parameters)


PIECES = st.lists(
    st.sampled_from(
        sorted(
            words(
                "SELECT FROM WHERE ( ) [ ] , . ; :: a b 1 -1 'x' $1 %s %(n)s AND IN ARRAY VALUES ORDER BY LIMIT <-> "
                "- + CAST AS int interval '1' day WITH DISTINCT ON GROUP OVER -- /* \" ' $$ E'' UNION JOIN true NULL"
            )
        )
    ),
    max_size=25,
).map(" ".join)


@given(st.one_of(PIECES, st.text(max_size=60), PIECES.map(lambda text: f"SELECT {text}")))
def test_any_text_is_a_statement_or_refused(text):
    statement = read_statement(text)
    assert statement.sql == text
    assert statement.kind is StatementKind.SELECT or statement.refusal is not None
    assert StatementReader().read(text) == statement


@given(st.one_of(PIECES, st.text(max_size=60)))
def test_a_normal_form_is_its_own_normal_form(text):
    given_tokens = tokens(text)
    if any(token.kind is TokenKind.JUNK for token in given_tokens):
        return
    normal = normal_form(given_tokens).text
    assert normal_form(tokens(normal)).text == normal


@given(st.one_of(PIECES, st.text(max_size=60)))
def test_tokens_lose_nothing_but_spaces_and_comments(text):
    found = tokens(text)
    assert all(text[token.start : token.end] == token.text for token in found)
    gaps = [
        text[a:b] for a, b in zip([0, *(t.end for t in found)], [*(t.start for t in found), len(text)], strict=True)
    ]
    assert all(not gap.strip(" \t\r\n\f\v") or "--" in gap or "/*" in gap for gap in gaps)


@given(st.lists(st.sampled_from(["SELECT ';'", "SELECT $$;$$ -- ;\n", "SELECT /* ; */ 1", 'SELECT ";"']), min_size=1))
def test_a_workload_has_as_many_queries_as_were_written(statements):
    queries = read_workload(";\n".join(statements))
    assert len(queries) == len(statements)
    assert len({query.name for query in queries}) == len(statements)


@given(st.text(max_size=60))
def test_any_text_is_a_workload_or_a_plan_error(text):
    try:
        queries = read_workload(text)
    except PlanError:
        return
    assert queries
    assert all(query.name and query.sql.strip() for query in queries)
