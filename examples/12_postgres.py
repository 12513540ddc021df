"""One line has an application's queries tuned: a query on the wrong plan gets faster, and none is ever wrong.

python examples/12_postgres.py
"""

import psycopg

from sona.config import TunerConfig
from sona.tuner import EmbeddedServer, attach

# Three columns that say the same: the planner multiplies their chances, expects one row, and loops over hundreds.
TABLE = """
CREATE TABLE visit AS SELECT i AS id, i % 200 AS city, i % 200 AS zip, i % 200 AS area, i % 997 AS person
    FROM generate_series(1, 30000) i;
ANALYZE visit
"""
HERE = "{0}.city = 3 AND {0}.zip = 3 AND {0}.area = 3"
MET = f"SELECT count(*) FROM visit a JOIN visit b USING (person) WHERE {HERE.format('a')} AND {HERE.format('b')}"
BUSIEST = "SELECT person, count(*) FROM visit GROUP BY person ORDER BY count(*) DESC, person LIMIT 3"


def main() -> None:
    with EmbeddedServer() as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        plain = [connection.execute(sql).fetchall() for sql in (MET, BUSIEST)]

        # The one line. Trying may cost 5 % of the time spent; short queries count too, as these are.
        tuner = attach(connection, config=TunerConfig(min_mean_s=0.001))

        same = 0
        for _ in range(20):
            same += [connection.execute(sql).fetchall() for sql in (MET, BUSIEST)] == plain
        print(f"{same} of 20 rounds gave the answers of the server's own choices")

        report = tuner.report()
        print(report.verdict)
        for pattern in report.patterns:
            print(f"{pattern.sql[:50]}...\n    {pattern.verdict}")


if __name__ == "__main__":
    main()
