"""A shop in a database, made where it is needed: skewed, and with columns that say the same thing twice.

A planner takes columns for independent. Here a city says the region and the tariff, and a model says the maker, the
screen and the browser, as in data of real life; so a query that names several of them finds far more rows than the
planner expects, and a join that is meant for one row meets thousands.
"""

from __future__ import annotations

from collections.abc import Iterator

from sona.tuner.statements.workload import WorkloadQuery

_SHARE = "((hashint8extended({0}, {1}) & 1048575) / 1048576.0)::double precision"  # of a row, the same on every run

_CUSTOMERS, _PRODUCTS, _ORDERS, _ITEMS, _VISITS = 20_000, 2_500, 100_000, 150_000, 60_000


def _skewed(row: str, salt: int, most: int, power: int) -> str:
    # A whole number below `most`, the small ones more often.
    return f"floor({most} * power({_SHARE.format(row, salt)}, {power}))::integer"


def shop_sql() -> str:
    """Return what makes the shop: five tables with their keys and the indexes one would give them."""
    return f"""
CREATE TABLE customer AS
  SELECT i AS id, 'city ' || n AS city, 'region ' || n / 8 AS region, 'tariff ' || n / 4 AS tariff
  FROM (SELECT i, {_skewed("i", 1, 80, 3)} AS n FROM generate_series(1, {_CUSTOMERS}) AS i) AS drawn;
CREATE TABLE product AS
  SELECT i AS id, 'brand ' || n AS brand, 'kind ' || n / 5 AS kind, 1 + i % 97 AS price
  FROM (SELECT i, {_skewed("i", 2, 50, 2)} AS n FROM generate_series(1, {_PRODUCTS}) AS i) AS drawn;
CREATE TABLE orders AS
  SELECT i AS id, 1 + {_skewed("i", 3, _CUSTOMERS, 3)} AS customer_id,
    date '2024-01-01' + {_skewed("i", 4, 700, 1)} AS day, (ARRAY['done', 'sent', 'open'])[1 + i % 3] AS status
  FROM generate_series(1, {_ORDERS}) AS i;
CREATE TABLE item AS
  SELECT i AS id, 1 + {_skewed("i", 5, _ORDERS, 1)} AS order_id, 1 + {_skewed("i", 6, _PRODUCTS, 3)} AS product_id,
    1 + i % 5 AS quantity
  FROM generate_series(1, {_ITEMS}) AS i;
CREATE TABLE visit AS
  SELECT i AS id, 1 + {_skewed("i", 7, _CUSTOMERS, 2)} AS customer_id, 'model ' || n AS model,
    'maker ' || n / 2 AS maker, 'screen ' || n AS screen, 'browser ' || n / 3 AS browser
  FROM (SELECT i, {_skewed("i", 8, 24, 2)} AS n FROM generate_series(1, {_VISITS}) AS i) AS drawn;
ALTER TABLE customer ADD PRIMARY KEY (id);
ALTER TABLE product ADD PRIMARY KEY (id);
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE item ADD PRIMARY KEY (id);
ALTER TABLE visit ADD PRIMARY KEY (id);
CREATE INDEX ON customer (city);
CREATE INDEX ON product (brand);
CREATE INDEX ON orders (customer_id);
CREATE INDEX ON orders (day);
CREATE INDEX ON item (order_id);
CREATE INDEX ON item (product_id);
"""


def shop_queries() -> tuple[WorkloadQuery, ...]:
    """Return the questions that are asked of the shop again and again."""
    return tuple(_queries())


def _queries() -> Iterator[WorkloadQuery]:
    for model in range(8):
        yield WorkloadQuery(f"visits-{model}", _VISITS_SQL.format(_device(model)))
    for brand in (0, 2, 5, 11):
        yield WorkloadQuery(f"together-{brand}", _TOGETHER_SQL.format(_make(brand)))
    for brand in (0, 1, 4, 9):
        yield WorkloadQuery(f"status-{brand}", _STATUS_SQL.format(_make(brand)))
    for city in (0, 1, 5):
        yield WorkloadQuery(f"turnover-{city}", _TURNOVER_SQL.format(_place(city)))
    for city in (0, 2, 7):
        yield WorkloadQuery(f"best-{city}", _BEST_SQL.format(_place(city)))
    for city, brand in ((0, 0), (0, 6), (3, 1)):
        yield WorkloadQuery(f"bought-{city}-{brand}", _BOUGHT_SQL.format(_place(city), _make(brand)))
    for city in (0, 4, 30):
        yield WorkloadQuery(f"latest-{city}", _LATEST_SQL.format(_place(city)))


def _place(city: int) -> str:
    return f"c.city = 'city {city}' AND c.region = 'region {city // 8}' AND c.tariff = 'tariff {city // 4}'"


def _make(brand: int) -> str:
    return f"p.brand = 'brand {brand}' AND p.kind = 'kind {brand // 5}'"


def _device(model: int) -> str:
    same = f"v.maker = 'maker {model // 2}' AND v.screen = 'screen {model}' AND v.browser = 'browser {model // 3}'"
    return f"v.model = 'model {model}' AND {same}"


_VISITS_SQL = """\
SELECT o.status, count(*) FROM visit v JOIN orders o ON o.customer_id = v.customer_id
WHERE {0} AND o.day >= '2025-10-01' GROUP BY o.status"""
_TOGETHER_SQL = """\
SELECT b.product_id, count(*) FROM product p JOIN item a ON a.product_id = p.id
JOIN item b ON b.order_id = a.order_id AND b.product_id <> a.product_id
WHERE {0} GROUP BY b.product_id ORDER BY 2 DESC, 1 LIMIT 5"""
_STATUS_SQL = """\
SELECT o.status, count(*) FROM product p JOIN item i ON i.product_id = p.id JOIN orders o ON o.id = i.order_id
WHERE {0} GROUP BY o.status"""
_TURNOVER_SQL = """\
SELECT p.kind, sum(i.quantity * p.price) FROM item i JOIN product p ON p.id = i.product_id
JOIN orders o ON o.id = i.order_id JOIN customer c ON c.id = o.customer_id
WHERE {0} GROUP BY p.kind"""
_BEST_SQL = """\
SELECT c.id, count(*) FROM customer c JOIN orders o ON o.customer_id = c.id JOIN item i ON i.order_id = o.id
WHERE {0} AND o.day >= '2025-03-01' AND i.quantity >= 4 GROUP BY c.id ORDER BY 2 DESC, 1 LIMIT 10"""
_BOUGHT_SQL = """\
SELECT count(*), sum(i.quantity) FROM customer c JOIN orders o ON o.customer_id = c.id
JOIN item i ON i.order_id = o.id JOIN product p ON p.id = i.product_id
WHERE {0} AND {1}"""
_LATEST_SQL = """\
SELECT o.id, o.day FROM orders o JOIN customer c ON c.id = o.customer_id
WHERE {0} AND o.status = 'open' ORDER BY o.day DESC, o.id LIMIT 20"""
