"""bronze.customers: one row per customer as received."""

from jobs.bronze._contract import define_table

MEANINGS = {
    "customer_id": "customer",
    "email_key": "hash of the e-mail",
    "registered_at": "when registered",
    "country": "country",
    "merged_into": "account that this one became part of",
    "updated_at": "when this version of the record was written",
}
TABLE = define_table("customers", __doc__, MEANINGS)
