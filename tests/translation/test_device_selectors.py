"""Selectors of devices: the part of CEL that is understood, its types and its errors; and versions."""

from itertools import pairwise

import pytest

from allotment_api.quantities import parse as exact
from allotment_scheduler.core.objects.devices import DeviceFacts
from allotment_scheduler.translation.device_selectors import SelectorError, Selectors, selectors
from allotment_scheduler.translation.selector_values import Quantity
from allotment_scheduler.translation.versions import Version, VersionError

DRIVER = "gpu.example.com"
GPU = 'device.attributes["gpu.example.com"]'
MEMORY = 'device.capacity["gpu.example.com"].memory'
A100 = DeviceFacts(
    DRIVER,
    {
        (DRIVER, "model"): "a100",
        (DRIVER, "index"): 3,
        (DRIVER, "healthy"): True,
        (DRIVER, "version"): Version.parse("1.10.0"),
    },
    {(DRIVER, "memory"): Quantity(exact("80Gi"))},
)


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        ('device.driver == "gpu.example.com"', True),
        ("device.driver == 'other'", False),
        (f'device.driver != "other" && {GPU}.model == "a100"', True),
        (f'{GPU}["model"] in ["h100", "a100"]', True),
        (f'{GPU}.model.startsWith("a")', True),
        (f'{GPU}.model.lowerAscii().contains("100")', True),
        (f"size({GPU}.model) == 4 && {GPU}.model.size() == 4", True),
        (f'{GPU}.index >= 4 || device.driver.endsWith(".com")', True),
        (f"!({GPU}.index == 3)", False),
        (f"{GPU}.healthy", True),
        (f"!{GPU}.healthy", False),
        (f"{GPU}.healthy ? {GPU}.index == 3 : false", True),
        (f'{MEMORY}.compareTo(quantity("40Gi")) >= 0', True),
        (f'{MEMORY}.isLessThan(quantity("40Gi"))', False),
        (f'{MEMORY} == quantity("81920Mi")', True),
        (f'{GPU}.version.isGreaterThan(semver("1.9.0"))', True),
        ('"gpu.example.com" in device.attributes', True),
        (f'"model" in {GPU}', True),
        ('"model" in device.attributes["other.example.com"]', False),
        (f"has({GPU}.model) && !has({GPU}.missing)", True),
        (f'cel.bind(gpu, {GPU}, gpu.model == "a100" && "index" in gpu)', True),
        ("true", True),
        ("'it\\'s' == \"it's\"", True),
    ],
)  # fmt: skip
def test_selectors(expression: str, want: bool) -> None:
    assert selectors((expression,)).selects(A100) is want


@pytest.mark.parametrize(
    "expression",
    [
        f"{GPU}.healthy == 1",
        f"{GPU}.index == true",
        f'{GPU}.index == "3"',
        f"{GPU}.model == 5",
        f"{GPU}.index in [true]",
    ],
)
def test_values_of_two_types_are_never_equal(expression: str) -> None:
    assert not Selectors((expression,)).selects(A100)
    assert Selectors((f"!({expression})",)).selects(A100)


@pytest.mark.parametrize(
    ("expression", "decided"),
    [
        (f'{GPU}.missing == "x"', None),
        (f"{GPU}.model < 5", None),
        (f"{GPU}.model", None),
        (f"{GPU}.healthy < {GPU}.index", None),
        (f"{GPU}.missing || true", True),
        (f"true || {GPU}.missing", True),
        (f"{GPU}.missing && false", False),
        (f"{GPU}.missing || false", None),
        (f"{GPU}.missing && true", None),
    ],
)
def test_an_error_stays_one_unless_the_other_side_decides(expression: str, decided: bool | None) -> None:
    assert Selectors((expression,)).selects(A100) is (decided is True)
    assert Selectors((f"!({expression})",)).selects(A100) is (decided is False)


def test_every_selector_must_hold() -> None:
    assert selectors((f"{GPU}.healthy", f"{GPU}.index == 3")).selects(A100)
    assert not selectors((f"{GPU}.healthy", f"{GPU}.index == 4")).selects(A100)
    assert selectors(()).selects(A100)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "the end"),
        ("device.name == 'x'", "'name' is not understood, at character 7"),
        ("device.driver ==", "the end"),
        ("cel.block([1], true)", "'cel'"),
        ("device.driver.matches('g.*')", "'matches'"),
        ("device.driver == 'a' extra", "'extra'"),
        ("device.driver == 'a' == true", "'=='"),
        ('device.attributes["d"].x == quantity("many")', "many"),
        ('device.attributes["d"].x == semver("1.2")', "write major.minor.patch"),
        ("device.driver ~ 'a'", "at character 13"),
        ("1.5 < 2", "'1.5 < 2' is not understood"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(expression: str, said: str) -> None:
    with pytest.raises(SelectorError) as caught:
        selectors((expression,))

    assert said in str(caught.value)


def test_versions_are_ordered_by_precedence() -> None:
    # The example of https://semver.org/spec/v2.0.0.html#spec-item-11
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
               "1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0", "2.0.0"]  # fmt: skip

    assert all(Version.parse(left) < Version.parse(right) for left, right in pairwise(ordered))


@pytest.mark.parametrize("text", ["1.2", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3-01", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(VersionError):
        Version.parse(text)


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 400 + "true" + ")" * 400,
        "!" * 5000 + "true",
        f'semver("1.0.{"9" * 5000}").isLessThan(semver("2.0.0"))',
        f"{'9' * 5000} == 1",
    ],
    ids=["parentheses", "negations", "a version beyond 64 bits", "a number beyond 64 bits"],
)
def test_what_is_beyond_all_measure_is_refused_in_words(expression: str) -> None:
    with pytest.raises(SelectorError):
        selectors((expression,))
