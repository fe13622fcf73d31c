"""Label expressions select agents as the controller does."""

import pytest

from allotment_operator.services.jenkins.label_expression import LabelExpressionError, matches

LABELS = frozenset({"linux", "maven", "jdk-17", "big box"})


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("linux", True),
        ("windows", False),
        ("jdk-17", True),
        ("linux && maven", True),
        ("linux&&windows", False),
        ("windows || maven", True),
        ("!windows", True),
        ("!!linux", True),
        ("!(linux && maven)", False),
        ("linux -> maven", True),
        ("linux->windows", False),
        ("windows -> anything", True),
        ("linux <-> maven", True),
        ("linux <-> windows", False),
        ('"big box" && linux', True),
        ("windows || linux && maven", True),
        ("windows && linux || maven", True),
        ("", False),
    ],
)
def test_an_expression_selects(expression: str, wanted: bool) -> None:
    assert matches(expression, LABELS) is wanted


@pytest.mark.parametrize("expression", ["(" * 5000, "!" * 500 + "a", "(" * 40 + "a" + ")" * 40, "a" * 2000])
def test_what_would_cost_too_much_to_read_is_refused(expression: str) -> None:
    with pytest.raises(LabelExpressionError):
        matches(expression, LABELS)


@pytest.mark.parametrize("expression", ["linux &&", "(linux", "linux maven", "&& linux", "linux)", "!"])
def test_nonsense_is_refused(expression: str) -> None:
    with pytest.raises(LabelExpressionError):
        matches(expression, LABELS)
