"""Presets of public datasets of clicks, whose files have no header line or other times than text."""

import gzip


def test_retailrocket_events_and_categories(preset):
    preset.write(
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
        "1433221999827,257597,addtocart,355908,\n1433222276276,257597,transaction,355908,4000\n",
    )
    preset.write(
        "item_properties_part1.csv",
        "timestamp,itemid,property,value\n1433041200000,355908,categoryid,1338\n1433041200000,355908,888,1116713 960601\n",
    )
    preset.refresh("retailrocket")
    assert preset.rows("clean.events", "event_at", "customer_id", "event_type", "product_id") == [
        ("2015-06-02 05:02:12", "257597", "view", "355908"), ("2015-06-02 05:13:19", "257597", "add_to_cart", "355908"),
        ("2015-06-02 05:17:56", "257597", "purchase", "355908"),
    ]  # fmt: skip
    assert preset.rows("clean.products", "product_id", "category") == [("355908", "1338")]


def test_yoochoose_clicks_and_buys_without_headers(preset):
    preset.write("yoochoose-clicks.dat", "11,2014-04-03T10:44:35.672Z,214821275,0\n11,2014-04-03T10:45:01.674Z,214821275,S\n")
    preset.write(
        "yoochoose-buys.dat", "11,2014-04-03T11:04:11.417Z,214821275,1046,2\n12,2014-04-04T08:00:00.000Z,214829878,0,0\n"
    )
    preset.refresh("yoochoose")
    assert preset.rows("clean.events", "event_at", "visitor_id", "event_type", "category") == [
        ("2014-04-03 10:44:35", "11", "view", None), ("2014-04-03 10:45:01", "11", "view", "S"),
        ("2014-04-03 11:04:11", "11", "purchase", None), ("2014-04-04 08:00:00", "12", "purchase", None),
    ]  # fmt: skip
    assert [rule for (rule,) in preset.rows("clean.orders_rejects", "rules")] == ["['bad_quantity']"]
    assert preset.nets() == {"11": 2092.0}


def test_taobao_user_behavior_without_a_header(preset):
    preset.write(
        "UserBehavior.csv", "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,fav,1511561733\n1,2576651,149192,buy,1511572885\n"
    )
    preset.refresh("taobao_userbehavior")
    assert preset.rows("clean.events", "event_at", "customer_id", "event_type", "category") == [
        ("2017-11-24 17:21:10", "1", "view", "2520377"), ("2017-11-24 22:15:33", "1", "other", "2520771"),
        ("2017-11-25 01:21:25", "1", "purchase", "149192"),
    ]  # fmt: skip


def test_uci_products_are_named_by_their_last_line_of_a_day_that_has_a_price(preset):
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    first = (
        "536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
        "536366,85123A,CREAM HANGING HEART,6,2010-12-01 09:26:00,2.55,17850.0,United Kingdom\n"
        "536367,85123A,damaged,-6,2010-12-01 10:26:00,0.0,,United Kingdom\n"
        "536368,71053,,6,2010-12-01 10:27:00,3.39,17850.0,United Kingdom\n"
    )
    second = (
        "536369,85123A,CREAM HANGING HEART,6,2010-12-02 08:26:00,2.55,17850.0,United Kingdom\n"
        "536370,71053,WHITE METAL LANTERN,6,2010-12-02 08:27:00,3.39,17850.0,United Kingdom\n"
    )
    for day, rows in (("2010-12-01", first), ("2010-12-02", second)):
        preset.write(f"{day}.csv.gz", gzip.compress((header + rows).encode()))
    preset.refresh("uci_online_retail")
    assert preset.rows("clean.products", "product_id", "day", "name") == [
        ("71053", "2010-12-02", "WHITE METAL LANTERN"), ("85123A", "2010-12-01", "CREAM HANGING HEART"),
    ]  # fmt: skip
    assert preset.nets("customer_id") == {"17850": 86.58}
