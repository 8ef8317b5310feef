"""Names that vendors give to columns."""

# By our column, without case and marks; those that come first fit best.
NAMES = {
    "order_id": (
        "orderid ordernumber orderno ordernr ordername invoiceno invoiceid invoicenumber invoice transactionid ticket "
        "receipt saleid purchaseid checkoutid bookingid tiorderid orderref order basketid"
    ),
    "line_no": "line lineno linenumber lineposition orderitemid position itemno rowno",
    "line_id": "lineid lineitemid orderlineid itemlineid",
    "ordered_at": (
        "orderedat orderdate ordertime orderpurchasetimestamp purchasedat purchasedate invoicedate createdat createdutc "
        "created createdon datecreatedgmt datecreated saledate transactiondate timestamp time datetime date ts paidat day "
        "bookedon"
    ),
    "event_at": (
        "eventat eventtime eventtimestamp timestamp ts time datetime occurredat createdat created date hittime clienttime"
    ),
    "updated_at": (
        "updatedat updated modified modifiedat modifiedutc datemodifiedgmt lastmodified lastupdated changedat updatedon"
    ),
    "sent_at": "sentat sent senttime devicesenttime",
    "received_at": "receivedat received serverts servertime collectortstamp arrivedat",
    "customer_id": (
        "customerid customer customerno customernumber custno custid clientno clientnumber userid userref user uid "
        "accountid account buyerid buyer memberid shopperid personid kundennummer customeruniqueid"
    ),
    "visitor_id": (
        "visitorid visitor clientid client deviceid cookieid cookie anonymousid sessionid session usersession distinctid "
        "userpseudoid fullvisitorid browserid v"
    ),
    "email_key": "email mail emailaddress customeremail custemail useremail billingemail buyeremail",
    "event_type": "eventtype eventname event action type what behavior behaviour behaviortype activity verb",
    "event_id": "eventid hitid uuid messageid id",
    "product_id": (
        "productid sku product itemid item stockcode articleno articleid article variantid productsku itemsku asin ean "
        "lineitemsku productcode itemcode code"
    ),
    "product_name": "productname itemname name title description product lineitemname label",
    "quantity": "quantity qty pieces units count itemcount lineitemquantity n amount menge stueck",
    "unit_price": "unitprice price priceinusd itemprice lineitemprice listprice priceeach productprice unitcost p",
    "line_amount": (
        "linetotal grandtotalpurchased grandtotalbase grandtotal lineamount linevalue itemtotal totalprice amount total subtotal "
        "value revenue sales"
    ),
    "discount_amount": "discountamount discount linediscount rebate itemdiscount lineitemdiscount",
    "order_discount": "orderdiscount totaldiscount couponamount",
    "order_shipping": "shipping shippingcost shippingamount shippingprice freight freightvalue postage delivery deliveryfee",
    "order_tax": "tax taxes taxamount ordertax vat",
    "currency": "currency ccy currencycode curr iso",
    "kind": "kind what linetype transactiontype recordtype saletype type",
    "original_order_id": "undoes refundof originalorder originalorderid refundedorder originalinvoice parentorder parentid",
    "country": "country countrycode shipcountry shippingcountry billingcountry geo geocountry cc land",
    "shop": "shop shopid store storeid site",
    "category": "category categoryname categorycode productcategory dept department categoryid itemcategory",
    "brand": "brand maker manufacturer vendor",
    "name": "name title productname itemname description",
    "price": "price listprice priceinusd unitprice p",
    "known_on": "knownon addedon validfrom since updated date day",
    "registered_at": "registeredat registered signuputc signup since createdat created joined date registrationdate",
    "merged_into": "mergedinto mergedwith masterid",
    "search_term": "searchterm query search keyword q term",
    "page": "page url pageurl path pagelocation",
    "device": "device devicetype devicecategory",
    "user_agent": "useragent ua agent browser",
    "channel": "channel utmsource source utmmedium medium trafficsource",
    "address": "ip ipaddress clientip remoteaddr useripaddress",
    "rated_on": "ratedon day date fixingdate",
    "rate": "rate gbpperunit exchangerate fxrate value",
}
