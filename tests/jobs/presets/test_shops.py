"""Presets of shops: orders as Shopify, WooCommerce and Olist export them, in all columns of their documentation."""

import csv
import io
import json

SHOPIFY = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,Currency,Subtotal,"
    "Shipping,Taxes,Total,Discount Code,Discount Amount,Shipping Method,Created at,Lineitem quantity,Lineitem name,"
    "Lineitem price,Lineitem compare at price,Lineitem sku,Lineitem requires shipping,Lineitem taxable,"
    "Lineitem fulfillment status,Billing Name,Billing Street,Billing Address1,Billing Address2,Billing Company,"
    "Billing City,Billing Zip,Billing Province,Billing Country,Billing Phone,Shipping Name,Shipping Street,"
    "Shipping Address1,Shipping Address2,Shipping Company,Shipping City,Shipping Zip,Shipping Province,"
    "Shipping Country,Shipping Phone,Notes,Note Attributes,Cancelled at,Payment Method,Payment Reference,"
    "Refunded Amount,Vendor,Outstanding Balance,Employee,Location,Device ID,Id,Tags,Risk Level,Source,"
    "Lineitem discount,Tax 1 Name,Tax 1 Value,Tax 2 Name,Tax 2 Value,Tax 3 Name,Tax 3 Value,Tax 4 Name,Tax 4 Value,"
    "Tax 5 Name,Tax 5 Value,Phone,Receipt Number,Duties,Billing Province Name,Shipping Province Name,Payment ID,"
    "Payment Terms Name,Next Payment Due At,Payment References"
)


def export(columns, rows):
    """Rows as CSV in all columns of an export."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def shopify(name, lines, subtotal, shipping="0.00", taxes="0.00", total=None, status="paid", discount="0.00", **more):
    """The rows of an order: what is about the order stands on the first of them alone."""
    rows = [
        {"Name": name, "Email": f"{name[1:]}@x.example", "Created at": "2025-03-02 21:30:00 -0500", "Vendor": "Acme",
         "Lineitem quantity": n, "Lineitem name": title, "Lineitem price": price, "Lineitem sku": sku,
         "Lineitem discount": "0.00"}
        for n, title, price, sku in lines
    ]  # fmt: skip
    rows[0] |= {
        "Financial Status": status, "Currency": "EUR", "Subtotal": subtotal, "Shipping": shipping, "Taxes": taxes,
        "Total": total or subtotal, "Discount Amount": discount, "Refunded Amount": "0.00", "Shipping Country": "NL",
        "Shipping Name": "Zoë Zed", "Phone": "+31 6 000", "Id": "1",
    } | more  # fmt: skip
    return rows


def test_shopify_orders_export(preset):
    rows = [
        *shopify("#20", [("3", "Bowl", "12.00", "BOWL"), ("1", "Engraving", "4.00", "")], "36.00", "5.00", "6.83", "41.00",
        discount="4.00"),
        *shopify("#21", [("1", "Rug", "80.00", "RUG")], "80.00", "8.00", "7.20", "95.20"),  # taxes on top
        *shopify("#22", [("1", "Rug", "80.00", "RUG")], "80.00", "0.00", discount="8.00"),  # a discount of the shipping alone
        *shopify("#23", [("2", "Cup", "9.00", "CUP")], "18.00", status="voided"),
        *shopify("#24", [("2", "Cup", "9.00", "CUP"), ("1", "Jug", "20.00", "JUG")], "38.00", status="partially_refunded",
                 **{"Refunded Amount": "20.00"}),
        *shopify("#25", [("1", "Jug", "20.00", "JUG")], "20.00", status="refunded", **{"Refunded Amount": "20.00"}),
    ]  # fmt: skip
    preset.write("orders_export_1.csv", export(SHOPIFY.split(","), rows))
    preset.refresh("shopify")
    lines = preset.rows("clean.orders", "order_id", "product_id", "ordered_at")
    assert ("#20", "BOWL", "2025-03-03 02:30:00") in lines, "UTC"
    assert ("#23", "['void']") in preset.rows("clean.orders_rejects", "order_id", "rules")
    stored = str(preset.rows("bronze.orders", "_extra", "customer_id", "email_key"))
    assert "Zed" not in stored
    assert "@" not in stored
    amounts = preset.rows(
        "bronze.orders", "order_id", "product_name", "order_discount", "order_shipping", "order_tax", "line_amount"
    )
    assert ("#20", "Engraving", "4.00", "5.00", None, None) in amounts, "what is about the order stands on each of its rows"
    assert ("#21", "Rug", "0.00", "8.00", "7.20", None) in amounts, "taxes on top of the prices"
    assert ("#22", "Rug", "0.00", "0.00", None, None) in amounts, "a discount of the shipping alone takes nothing off the goods"
    assert ("#24-refund", None, None, None, None, "20.00") in amounts
    assert preset.nets() == {"#20": 41.0, "#21": 95.2, "#22": 80.0, "#24": 18.0}


def woocommerce(number, status="completed", lines=(), shipping="0.00", tax="0.00", refunds=(), fees=(), customer=7):
    """An order as the REST API gives it, with all of its fields."""
    address = {
        "first_name": "Zoë", "last_name": "Zed", "company": "", "address_1": "1 Quay", "address_2": "", "city": "Gent",
        "state": "",
        "postcode": "9000", "country": "BE",
    }  # fmt: skip
    items = [
        {"id": 900 + n, "name": name, "product_id": 50 + n, "variation_id": 0, "quantity": quantity, "tax_class": "",
         "subtotal": subtotal, "subtotal_tax": "0.00", "total": total, "total_tax": "0.00", "taxes": [], "meta_data": [],
         "sku": sku, "price": 1}
        for n, (name, sku, quantity, subtotal, total) in enumerate(lines)
    ]  # fmt: skip
    return {
        "id": number, "parent_id": 0, "number": str(number), "order_key": "wc_order_x", "created_via": "checkout",
        "version": "9.0.0",
        "status": status, "currency": "EUR", "date_created": "2025-03-03T09:00:00", "date_created_gmt": "2025-03-03T08:00:00",
        "date_modified": "2025-03-05T09:00:00", "date_modified_gmt": "2025-03-05T08:00:00", "discount_total": "0.00",
        "discount_tax": "0.00", "shipping_total": shipping, "shipping_tax": "0.00", "cart_tax": "0.00", "total": "0.00",
        "total_tax": tax, "prices_include_tax": False, "customer_id": customer, "customer_ip_address": "10.0.0.1",
        "customer_user_agent": "Mozilla", "customer_note": "ring twice", "billing": {**address, "email": "zoe@x.example",
        "phone": "1"},
        "shipping": address, "payment_method": "bacs", "payment_method_title": "Bank", "transaction_id": "", "date_paid": None,
        "date_paid_gmt": None, "date_completed": None, "date_completed_gmt": None, "cart_hash": "", "meta_data": [],
        "line_items": items, "tax_lines": [], "shipping_lines": [],
        "fee_lines": [{"id": 70, "name": "Fee", "tax_class": "", "tax_status": "taxable", "total": total, "total_tax": "0.00",
                       "taxes": [], "meta_data": []} for total in fees],
        "coupon_lines": [], "refunds": [{"id": 80 + n, "reason": "", "total": total} for n, total in enumerate(refunds)],
    }  # fmt: skip


def test_woocommerce_orders_of_the_rest_api(preset):
    orders = [
        woocommerce(
            30, lines=[("Tea", "TEA", 2, "20.00", "18.00"), ("Pot", "", 1, "30.00", "30.00")], shipping="6.00", tax="10.80"
        ),
        woocommerce(31, lines=[("Tea", "TEA", 1, "10.00", "10.00")], refunds=["-4.00"], fees=["2.50"]),
        woocommerce(32, status="refunded", lines=[("Tea", "TEA", 1, "10.00", "10.00")], refunds=["-10.00"]),
        woocommerce(33, status="failed", lines=[("Tea", "TEA", 1, "10.00", "10.00")], customer=0),
    ]
    preset.write("orders-page-1.json", json.dumps(orders))
    preset.refresh("woocommerce")
    lines = preset.rows("bronze.orders", "order_id", "product_id", "ordered_at", "line_amount", "discount_amount", "kind")
    assert ("30", "51", "2025-03-03T08:00:00", "30.00", "0.0000", "sale") in lines
    assert ("31", None, "2025-03-03T08:00:00", "2.5000", None, "sale") in lines, "a fee"
    assert ("31-refund-80", None, "2025-03-05T08:00:00", "4.00", None, "return") in lines
    assert ("33", "TEA", "2025-03-03T08:00:00", "10.00", "0.0000", "void") in lines
    stored = str(preset.rows("bronze.orders", "_extra", "email_key"))
    assert "Zed" not in stored
    assert "zoe@" not in stored
    assert ("33", None) in preset.rows("bronze.orders", "order_id", "customer_id")
    assert preset.nets() == {"30": 64.8, "31": 8.5}


def test_olist_items_with_their_orders_and_customers(preset):
    preset.write(
        "olist_orders_dataset.csv",
        "order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at,order_delivered_carrier_date,"
        "order_delivered_customer_date,order_estimated_delivery_date\n"
        "q1,c1,delivered,2018-01-10 22:30:00,2018-01-11 01:00:00,,,2018-02-01 00:00:00\n"
        "q2,c2,canceled,2018-01-12 10:00:00,,,,2018-02-01 00:00:00\n"
        "q3,c3,shipped,2018-01-13 10:00:00,,,,2018-02-01 00:00:00\n",
    )
    preset.write(
        "olist_customers_dataset.csv",
        "customer_id,customer_unique_id,customer_zip_code_prefix,customer_city,customer_state\n"
        "c1,ana,01001,sao paulo,SP\nc2,ana,01001,sao paulo,SP\nc3,bia,20040,rio de janeiro,RJ\n",
    )
    preset.write(
        "olist_order_items_dataset.csv",
        "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value\n"
        "q1,1,p1,s1,2018-01-20 10:00:00,19.90,7.39\nq1,2,p1,s1,2018-01-20 10:00:00,19.90,7.39\n"
        "q2,1,p2,s1,2018-01-20 10:00:00,50.00,9.00\nq3,1,p2,s1,2018-01-20 10:00:00,50.00,0.00\n",
    )
    preset.write(
        "olist_products_dataset.csv",
        "product_id,product_category_name,product_name_lenght,product_description_lenght,product_photos_qty,product_weight_g,"
        "product_length_cm,product_height_cm,product_width_cm\n"
        "p1,brinquedos,10,20,1,100,1,1,1\np2,beleza_saude,10,20,1,100,1,1,1\n",
    )
    preset.refresh("olist")
    assert ("q1", "p1", "brinquedos", "2018-01-11 00:30:00") in preset.rows(
        "clean.orders", "order_id", "product_id", "category", "ordered_at"
    )
    assert ("q2", "['void']") in preset.rows("clean.orders_rejects", "order_id", "rules")
    assert preset.nets("customer_id") == {"ana": 54.58, "bia": 50.0}
