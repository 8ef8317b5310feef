"""Crawlers by their user agents: the list's own examples are found, and no browser, app or phone of people is."""

import polars as pl
import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from jobs.clean import _robots

_KHTML = "AppleWebKit/537.36 (KHTML, like Gecko)"
_DESKTOPS = (
    "Windows NT 10.0; Win64; x64", "Windows NT 6.1; WOW64", "Windows NT 10.0; ARM64", "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64", "X11; Ubuntu; Linux x86_64", "X11; CrOS x86_64 14541.0.0", "X11; Fedora; Linux x86_64",
)  # fmt: skip
_PHONES = (
    "SM-S918B", "SM-A546E Build/UP1A.231005.007", "SAMSUNG SM-G991U", "Pixel 8 Pro", "Pixel 6a", "Redmi Note 12", "M2101K6G",
    "POCO X3 Pro", "CPH2581", "OPPO A54", "vivo 1906", "V2206", "RMX3363", "moto g(60)", "XT2125-4", "motorola edge 20",
    "Nokia G21", "TECNO KI5q", "Infinix X6816", "itel A665L", "HUAWEI P30 Pro", "HONOR 90", "LM-Q730", "LG-H870", "XQ-BC72",
    "SO-53C",
    "SOV43", "HTC U12", "ONEPLUS A6013", "IN2023", "ASUS_I005DA", "A063", "Fairphone 5", "Panasonic Eluga I8", "KX-PRXA15",
    "P-01K",
    "SH-M24", "AQUOS R7", "F-51B", "KYOCERA DIGNO", "Cubot X30", "Ulefone Armor 9", "DOOGEE S98", "BLU G91", "Lenovo TB-X606F",
    "KFTRWI", "SM-T870", "Nexus 5X", "ZTE Blade A7", "CAT S62",
)  # fmt: skip
_IOS = (
    "iPhone; CPU iPhone OS 17_5_1 like Mac OS X",
    "iPhone; CPU iPhone OS 15_8 like Mac OS X",
    "iPad; CPU OS 16_7 like Mac OS X",
)
# What apps that show a page in themselves add to the agent of the phone.
_APPS = (
    "", "Instagram 340.0.0.14.109 Android (28/9; 320dpi; 720x1371; PANASONIC/Panasonic; Eluga I8; mt6765; en_IN)",
    "[FB_IAB/FB4A;FBAV/450.0.0.38.108;]", "[FBAN/FBIOS;FBAV/450.0.0.38.108;FBDV/iPhone14,5;FBLC/de_DE]", "Line/14.1.0/IAB",
    "MicroMessenger/8.0.47.2560 NetType/WIFI Language/zh_CN", "musical_ly_33.9.0 JsSdk/1.0 NetType/WIFI AppName/musical_ly",
    "GSA/317.0.634488990", "Snapchat/12.81.0.44", "Pinterest/0.2", "[Pinterest/Android]", "Twitter for iPhone/10.36",
    "KAKAOTALK/10.4.3 (INAPP)", "NAVER(inapp; search; 2000; 12.5.4)", "Weibo (iPhone15,2__weibo__14.4.0__iphone)", "DuckDuckGo/7",
    "YJApp-ANDROID jp.co.yahoo.android.yjtop/3.158.0", "LinkedInApp/9.29", "EdgA/124.0.2478.64", "OPR/81.2.4292.78446",
)  # fmt: skip


def list_agents_of_people() -> list[str]:
    """Return the user agents of browsers, apps and phones in the forms in which their makers write them."""
    agents = []
    for n, system in enumerate(_DESKTOPS):
        for version in (78, 109, 120, 137):
            chrome = f"Mozilla/5.0 ({system}) {_KHTML} Chrome/{version}.0.0.0 Safari/537.36"
            agents += [
                chrome,
                f"{chrome} Edg/{version}.0.2478.{n}",
                f"{chrome} OPR/{version - 14}.0.0.0",
                f"{chrome} Vivaldi/6.7",
            ]
            agents.append(f"Mozilla/5.0 ({system}; rv:{version}.0) Gecko/20100101 Firefox/{version}.0")
    for version in ("11.1.2", "13.1", "15.6.1", "17.4.1"):
        web = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        agents.append(f"{web} Version/{version} Safari/605.1.15")
    for n, phone in enumerate(_PHONES):
        view = f"Mozilla/5.0 (Linux; Android {6 + n % 9}; {phone}; wv) {_KHTML} Version/4.0"
        web = f"{view} Chrome/{100 + n}.0.6367.179 Mobile Safari/537.36"
        agents += [f"{web} {app}".strip() for app in _APPS[n % 4 :: 4]]
        agents.append(
            f"Mozilla/5.0 (Linux; Android 10; {phone}) {_KHTML} SamsungBrowser/24.0 Chrome/117.0.0.0 Mobile Safari/537.36"
        )
    for system in _IOS:
        web = f"Mozilla/5.0 ({system}) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        agents += [f"{web} Mobile/15E148 {app}".strip() for app in _APPS]
        agents += [
            f"{web} {browser} Mobile/15E148 Safari/604.1" for browser in ("Version/17.5", "CriOS/124.0.6367.88", "FxiOS/125.0")
        ]
    agents.append("Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko")
    agents.append(f"Mozilla/5.0 (Windows NT 6.1) {_KHTML} Chrome/98.0.4758.102 Safari/537.36 SE 2.X MetaSr 1.0")
    agents.append(f"Mozilla/5.0 (Linux; U; Android 12) {_KHTML} Version/4.0 Chrome/98.0 MQQBrowser/13.9 Mobile Safari/537.36")
    agents.append(
        f"Mozilla/5.0 (Linux; Android 11) {_KHTML} Chrome/98.0 SogouMobileBrowser/5.9 SogouSearch Android1.0 Mobile Safari/537.36"
    )
    agents.append(f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_KHTML} coc_coc_browser/124.0.148 Chrome/118.0 Safari/537.36")
    return list(dict.fromkeys(agents))


@pytest.mark.parametrize("change_case", [str, str.lower])
def test_no_browser_app_or_phone_of_people_is_a_crawler(change_case):
    agents = [change_case(agent) for agent in list_agents_of_people()]
    assert len(set(agents)) >= 500
    assert _robots.find_crawlers(pl.Series(agents)).to_list() == []


def test_every_example_of_the_list_is_a_crawler():
    examples = pl.Series([example for entry in CRAWLER_USER_AGENTS_DATA for example in entry.get("instances", [])]).unique()
    assert len(examples) > 2000
    assert len(_robots.find_crawlers(examples)) == len(examples)
    lower = examples.str.to_lowercase().unique()
    assert len(_robots.find_crawlers(lower)) >= 0.985 * len(lower)


def test_a_bare_word_is_found_as_a_whole_word_in_any_case():
    crawlers = ["Mozilla/5.0 HEADLESSCHROME/129.0", "Sonic 1.0", "Mozilla/5.0 (compatible; RankSonicSiteAuditor/2.1)"]
    people = ["Mozilla/5.0 (Linux; PANASONIC P55)", "Mozilla/5.0 (Linux; PanaSonicX)".lower()]
    assert _robots.find_crawlers(pl.Series(crawlers + people)).to_list() == crawlers


def test_the_app_of_the_shop_is_no_crawler_by_its_name():
    agents = pl.Series(["MyShop/4.2 okhttp/4.12.0", "okhttp/4.12.0", None])
    assert _robots.find_crawlers(agents, ["MyShop/"]).to_list() == ["okhttp/4.12.0"]
