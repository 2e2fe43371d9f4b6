"""What a million tokens cost: one figure in the summary, the table, the chart and the advice; nothing of it where no price is known."""

import advise
import pytest
import records_factory as made
from report_data import group_of, quick_parts, tables_of
from speedgrid.report import page
from speedgrid.report.advice import Ask
from speedgrid.report.advised import Guide
from speedgrid.report.charts import money

PRICE = 3.6


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return made.write_group(tmp_path_factory.mktemp("money"))


@pytest.fixture(scope="module")
def priced(grid):
    return tables_of([cell | {"price_per_hour": PRICE} for cell in grid])


def test_a_million_tokens_cost_the_hours_that_they_take(grid, priced):
    for row in priced[0]:
        if row["rate"] is not None:
            # At 3.6 an hour a second costs a thousandth.
            assert row["price_per_million"] == pytest.approx(1e6 / row["rate"] / 1000)
        else:
            assert row["price_per_million"] is None
    assert {row["price_per_million"] for row in tables_of(grid)[0]} == {None}


@pytest.mark.parametrize("loss", [0.0, None])
def test_the_advice_has_the_figures_of_the_table(priced, loss):
    rows = [row for row in priced[0] if row["status"] == "ok"]
    guide = Guide(rows, price_per_hour=PRICE)
    ask = guide.priced(Ask("money", loss=loss))
    for row in rows:
        assert 1e6 * guide.amount(row["technique"], ask) == pytest.approx(row["price_per_million"])
    choice = guide.advise(ask).choice
    allowed = [row for row in rows if loss is None or guide.qualities[row["technique"]].is_safe]
    assert choice == min(allowed, key=lambda row: row["price_per_million"])["technique"]
    assert guide.figure(guide.amount(choice, ask), ask).endswith("per million tokens at 3.60 an hour")


def test_a_price_of_ones_own_is_taken_before_the_studys():
    assert Guide([], price_per_hour=PRICE).priced(Ask("money", price=1.0)).price == 1.0
    assert Guide([], price_per_hour=PRICE).priced(Ask("money")).price == PRICE
    assert Guide([]).priced(Ask("money")).price is None


def test_the_command_takes_the_price_of_the_study(priced):
    guide = Guide([row for row in priced[0] if row["rate"]], price_per_hour=PRICE)
    said = "\n".join(advise.as_text(("local", "generate", "stdlib-llama"), guide, Ask("money")))
    assert "per million tokens at 3.60 an hour" in said
    assert advise.as_json(("a", "b", "c"), guide, Ask("money"))["asked"]["price"] == PRICE


def test_the_chart_has_every_price_with_the_interval_of_the_speed(tmp_path, priced):
    group = group_of(tmp_path)
    rows = group.rows.assign(price_per_million=1e6 * PRICE / 3600 / group.rows.rate)
    table = next(iter(money.money(rows).to_dict(validate=True)["datasets"].values()))
    for row in table:
        if row["price_per_million"] is not None:
            assert row["low"] < row["price_per_million"] < row["high"]
            assert row["low"] / row["price_per_million"] == pytest.approx(row["rate"] / rows.set_index("label").rate_high[row["name"]])


def test_the_page_tells_money_where_there_is_a_price_and_nowhere_else(grid, priced):
    html = page.render(quick_parts(), made.study() | {"prices": {"local": PRICE}}, *priced)
    assert "Price of a million tokens" in html
    assert "The device at 3.60 an hour" in html
    free = page.render(quick_parts(), made.study(), *tables_of(grid))
    assert "Price of a million" not in free
