"""Names of hosts, as an option names them and a certificate carries them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import InvalidRotation
from securecfg.rotation.host_names import HOSTS_MAX, parse_allowed, parse_hosts

NO_NAMES = [
    "",
    ",",
    "a.internal,",
    "a.internal,,b.internal",
    "a..internal",
    ".internal",
    "a.internal.",
    "-a.internal",
    "a-.internal",
    "a_b.internal",
    "a b.internal",
    "a.internal\n",
    "a.internal\x00.evil",
    "https://a.internal",
    "a.internal:443",
    "user@a.internal",
    "a.internal/",
    "10.0.0.0/8",
    "a" * 64,
    f"{'a.' * 126}aa",
    # Wildcards that mean too much, or nothing to a client.
    "*",
    "*.",
    "*.internal",
    "*.*.shop.internal",
    "**.shop.internal",
    "w*.shop.internal",
    "a.*.internal",
    "*.10.0.0.1",
    # IDNA: what people read, what stands for nothing, and what is written otherwise than it is encoded.
    "bücher.internal",
    "\u0440\u0430ypal.internal",
    "a\u3002internal",
    "xn--.internal",
    "xn--a.internal",
    "xn--abc-.internal",
    "xn--99999999.internal",
    # Addresses of no host, and what only some take for an address.
    "0.0.0.0",  # noqa: S104 - refused
    "::",
    "224.0.0.1",
    "ff02::1",
    "fe80::1%eth0",
    "010.0.0.1",
    "10.0.0",
    "10.0.0.1.5",
    "127.0.0.0x1",
    "2130706433",
    "10.0.0.256",
    "::1::",
    "[::1]",
    "\uff11\uff10.0.0.1",
]


@pytest.mark.parametrize("text", NO_NAMES, ids=ascii)
def test_refuses_what_is_no_name_of_a_host(text: str) -> None:
    with pytest.raises(InvalidRotation) as caught:
        parse_hosts(text)
    assert caught.value.code == "invalid-rotation"
    assert str(caught.value).isprintable()


def test_takes_names_wildcards_and_addresses_each_once() -> None:
    hosts = parse_hosts(
        "Web.Shop.internal, *.shop.internal,localhost,10.0.0.7,::1,web.shop.internal,xn--bcher-kva.internal"
    )
    assert hosts == (
        "web.shop.internal",
        "*.shop.internal",
        "localhost",
        ip_address("10.0.0.7"),
        ip_address("::1"),
        "xn--bcher-kva.internal",
    )


def test_takes_as_many_names_as_it_says() -> None:
    names = [f"n{number}.internal" for number in range(HOSTS_MAX + 1)]
    assert len(parse_hosts(",".join(names[:-1]))) == HOSTS_MAX
    with pytest.raises(InvalidRotation):
        parse_hosts(",".join(names))


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("*.-,xn0:"), max_size=40))
def test_what_is_taken_is_taken_the_same_again(text: str) -> None:
    try:
        hosts = parse_hosts(text)
    except InvalidRotation:
        return
    assert parse_hosts(",".join(map(str, hosts))) == hosts
    assert all(str(host).isascii() for host in hosts)


@pytest.mark.parametrize(
    "text", ["", "*.shop.internal", "10.0.0.1/8", "10.0.0.0/33", "shop.internal,", "a/b", ".internal"]
)
def test_refuses_what_is_neither_a_domain_nor_a_network(text: str) -> None:
    with pytest.raises(InvalidRotation) as caught:
        parse_allowed(text)
    assert caught.value.code == "invalid-rotation"


@pytest.mark.parametrize(
    ("host", "is_permitted"),
    [
        ("shop.internal", True),
        ("a.b.shop.internal", True),
        ("*.shop.internal", True),
        ("notshop.internal", False),
        ("shop.internal.evil.example", False),
        ("internal", False),
        ("*.evil.internal", False),
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("::ffff:10.1.2.3", False),
        ("2001:db8::1", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
    ],
)
def test_a_name_lies_under_what_is_allowed_label_by_label(host: str, is_permitted: bool) -> None:
    allowed = parse_allowed("Shop.internal, 10.0.0.0/8,2001:db8::/32,192.0.2.1")
    [name] = parse_hosts(host)
    assert allowed.permits(name) is is_permitted


def test_a_wildcard_over_what_is_allowed_is_not() -> None:
    allowed = parse_allowed("a.shop.internal")
    [wildcard] = parse_hosts("*.shop.internal")
    assert not allowed.permits(wildcard)
