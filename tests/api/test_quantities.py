from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_api.quantities import (
    UNCOUNTABLE,
    Quantity,
    QuantityError,
    exceeding,
    format_resources,
    format_units,
    parse,
    quantity,
    spark_memory_bytes,
    total,
    units,
)

SUFFIXES = {
    "n": (10, -9),
    "u": (10, -6),
    "m": (10, -3),
    "": (10, 0),
    "k": (10, 3),
    "M": (10, 6),
    "G": (10, 9),
    "T": (10, 12),
    "P": (10, 15),
    "E": (10, 18),
    "Ki": (2, 10),
    "Mi": (2, 20),
    "Gi": (2, 30),
    "Ti": (2, 40),
    "Pi": (2, 50),
    "Ei": (2, 60),
}

numbers = st.one_of(
    st.integers(0, 10**9).map(str),
    st.decimals(0, 10**6, places=3, allow_nan=False).map(str),
    st.sampled_from(["0", "00", "1.", ".5", "0.1", "0.0001", "+3", "007"]),
)
texts = st.one_of(
    st.tuples(numbers, st.sampled_from(sorted(SUFFIXES))).map("".join),
    st.tuples(numbers, st.sampled_from("eE"), st.integers(-9, 9).map(str)).map("".join),
)
resources = st.sampled_from(["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "nvidia.com/gpu", "pods"])


def exact(text: str) -> Fraction:
    """The definition, spelled out without any of the tricks of the code under test."""
    for letter in "eE":
        number, found, exponent = text.partition(letter)
        if found and exponent and exponent != "i":
            return Fraction(Decimal(number)) * Fraction(10) ** int(exponent)
    suffix = max((s for s in SUFFIXES if text.endswith(s)), key=len)
    base, power = SUFFIXES[suffix]
    return Fraction(Decimal(text.removesuffix(suffix) if suffix else text)) * Fraction(base) ** power


def nano_up(amount: Fraction) -> Fraction:
    return Fraction(-(-amount * 10**9 // 1), 10**9)


@given(texts)
def test_a_quantity_is_read_exactly_down_to_a_nano(text: str) -> None:
    assert parse(text) == nano_up(exact(text))


@given(texts, texts)
def test_quantities_are_ordered_by_their_exact_amounts(one: str, other: str) -> None:
    a, b = Quantity(parse(one), one), Quantity(parse(other), other)

    assert (a < b) == (nano_up(exact(one)) < nano_up(exact(other)))
    assert (a == b) == (nano_up(exact(one)) == nano_up(exact(other)))
    if a == b:
        assert hash(a) == hash(b)


@given(resources, st.integers(0, 2**62))
def test_units_written_back_read_the_same(resource: str, amount: int) -> None:
    assert units(resource, format_units(resource, amount)) == amount


@given(texts)
def test_units_are_rounded_up_never_down(text: str) -> None:
    read = Quantity(parse(text), text)

    assert 0 <= read.milli - read.amount * 1000 < 1
    assert 0 <= read.value - read.amount < 1


@given(st.text(max_size=40))
def test_no_text_does_worse_than_a_clear_refusal(text: str) -> None:
    try:
        amount, refusal = quantity(text).amount, "write"
    except QuantityError as error:
        amount, refusal = Fraction(0), str(error)

    assert amount < UNCOUNTABLE
    assert "write" in refusal


@pytest.mark.parametrize(
    ("resource", "written", "wanted"),
    [
        ("cpu", "500m", 500),
        ("cpu", "0.1", 100),
        ("cpu", 4, 4000),
        ("cpu", "1n", 1),
        ("cpu", "1u", 1),
        ("cpu", "100001u", 101),
        ("cpu", "1.5", 1500),
        ("memory", "1Gi", 2**30),
        ("memory", "1G", 10**9),
        ("memory", "1.5Gi", 3 * 2**29),
        ("memory", "100m", 1),
        ("memory", "1E", 10**18),
        ("memory", "1E3", 1000),
        ("memory", "12e6", 12_000_000),
        ("memory", "7.5Ei", 15 * 2**59),
        ("nvidia.com/gpu", "2", 2),
    ],
)
def test_a_resource_is_counted_in_its_own_unit(resource: str, written: Any, wanted: int) -> None:
    assert units(resource, written) == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("1GB", "write 1G (or 1Gi for powers of 1024)"),
        ("4 Gi", "write 4Gi"),
        ("4gb", "write 4G (or 4Gi for powers of 1024)"),
        ("16gib", "write 16Gi"),
        ("16g", "write 16G (or 16Gi for powers of 1024)"),
        ("512mb", "write 512M (or 512Mi for powers of 1024)"),
        ("2 cores", "write 2"),
        ("1,5Gi", "write 1.5Gi"),
        ("1K", "has no known suffix: write one of m, k"),
        ("lots", "write a number and a suffix"),
        ("", "must not be empty"),
        ("1" * 40, "longer than 32 characters"),
        ("1e999", "write"),
        ("9Ei", "write less than 8Ei"),
        ("-1", "must not be negative"),
        (0.5, "write '500m'"),
        (2.0, "write '2'"),
        (True, "must be a quantity"),
        (None, "must be a quantity"),
        ([1], "must be a quantity"),
    ],
)
def test_a_wrong_quantity_is_refused_with_what_to_write_instead(written: Any, wanted: str) -> None:
    with pytest.raises(QuantityError, match=r"quantity|write|empty|characters") as refusal:
        quantity(written)

    assert wanted in str(refusal.value)


def test_resource_lists_go_to_units_and_back() -> None:
    written = {"cpu": quantity("1500m"), "memory": quantity("3Gi"), "nvidia.com/gpu": quantity(2)}

    assert total(written) == {"cpu": 1500, "memory": 3 * 2**30, "nvidia.com/gpu": 2}
    assert format_resources(total(written)) == {"cpu": "1500m", "memory": "3Gi", "nvidia.com/gpu": "2"}


def test_only_resources_on_both_sides_are_compared() -> None:
    small = {"cpu": quantity("3"), "memory": quantity("1Gi")}
    large = {"cpu": quantity("2500m"), "nvidia.com/gpu": quantity(1)}

    assert list(exceeding(small, large)) == ["cpu"]


@pytest.mark.parametrize(("text", "wanted"), [("512m", 2**29), ("4g", 2**32), ("4G", 2**32), ("1tb", 2**40), ("7", 7)])
def test_spark_sizes_are_powers_of_1024(text: str, wanted: int) -> None:
    assert spark_memory_bytes(text) == wanted


@pytest.mark.parametrize("text", ["4Gi", "", "1.5g", "g", "-1g"])
def test_kubernetes_spelling_is_refused_where_spark_is_meant(text: str) -> None:
    with pytest.raises(QuantityError, match="write 512m or 4g"):
        spark_memory_bytes(text)


SAMPLE = [
    f"{number}{suffix}"
    for number in ("1", "3", "0.1", "1.5", "100001", "0.0004", "+2", ".5", "2.", "999999999")
    for suffix in ("n", "u", "m", "", "k", "M", "Ki", "Mi", "e3", "E-2", "e+1")
]


def test_the_api_server_reads_the_same_amounts(api: Any) -> None:
    containers = [
        {"name": f"c{index}", "image": "x", "resources": {"requests": {"cpu": text}}}
        for index, text in enumerate(SAMPLE)
    ]
    pod = {"metadata": {"name": "quantities"}, "spec": {"containers": containers}}
    account = {"metadata": {"name": "default"}}
    api.request("POST", f"/api/v1/namespaces/{api.namespace}/serviceaccounts", account)

    answer = api.request("POST", f"/api/v1/namespaces/{api.namespace}/pods", pod, dryRun="All")

    assert answer.accepted, answer.message
    read = {c["name"]: c["resources"]["requests"]["cpu"] for c in answer.body["spec"]["containers"]}
    assert {text: units("cpu", read[f"c{index}"]) for index, text in enumerate(SAMPLE)} == {
        text: units("cpu", text) for text in SAMPLE
    }
