"""Judging all tenants together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_api.tenant import Tenant
from allotment_operator.tenancy.estate import NamespaceFacts
from allotment_operator.tenancy.forest import Forest
from builders.estates import a_tenant, an_estate


def forest(*tenants: object) -> Forest:
    return an_estate(*tenants).forest  # type: ignore[arg-type]  # a shorthand


def leave(tenant: Tenant) -> Tenant:
    metadata = tenant.metadata.model_copy(update={"deletion_timestamp": tenant.metadata.creation_timestamp})
    return tenant.model_copy(update={"metadata": metadata})


class TestProblems:
    def test_a_tenant_that_stands_has_none(self) -> None:
        trees = forest(a_tenant("retail"), a_tenant("payments", parent="retail", namespaces=["pay"]))

        assert trees.problem("retail") is None
        assert trees.problem("payments") is None

    def test_a_cycle_is_told_as_a_path_from_each_of_its_tenants(self) -> None:
        trees = forest(a_tenant("a", parent="c"), a_tenant("b", parent="a"), a_tenant("c", parent="b"))

        for name, path in (("a", "a → c → b → a"), ("b", "b → a → c → b"), ("c", "c → b → a → c")):
            problem = trees.problem(name)
            assert problem is not None
            assert problem.reason == "ParentCycle"
            assert path in problem.message

    def test_a_tenant_below_a_cycle_learns_which_it_is(self) -> None:
        trees = forest(a_tenant("a", parent="b"), a_tenant("b", parent="a"), a_tenant("leaf", parent="b"))

        problem = trees.problem("leaf")

        assert problem is not None
        assert "a → b → a" in problem.message
        assert "above it" in problem.message

    def test_an_unknown_parent_is_named_with_the_tenant_that_names_it(self) -> None:
        trees = forest(a_tenant("mid", parent="ghost"), a_tenant("leaf", parent="mid"), a_tenant("other"))

        problem = trees.problem("leaf")

        assert problem is not None
        assert problem.reason == "ParentNotFound"
        assert "the parent ghost of mid does not exist" in problem.message
        assert trees.problem("other") is None

    def test_a_tenant_below_one_that_was_never_readable_does_not_stand(self) -> None:
        """What that one bounds is not known, nor what is above it: the leaf would be unbounded."""
        tenants = {"leaf": a_tenant("leaf", parent="middle"), "middle": a_tenant("middle", parent="odd")}

        problem = Forest(tenants, unreadable={"odd": "spec.weight: must be a number"}).problem("leaf")

        assert problem is not None
        assert problem.reason == "ParentUnreadable"
        assert "odd, above leaf, cannot be read: spec.weight: must be a number. Mend odd." in problem.message

    def test_a_tenant_below_one_that_was_readable_before_stands_by_its_last_good_version(self) -> None:
        tenants = {"leaf": a_tenant("leaf", parent="odd"), "odd": a_tenant("odd")}

        assert Forest(tenants, unreadable={"odd": "spec.weight: must be a number"}).problem("leaf") is None

    def test_only_leaves_have_namespaces(self) -> None:
        trees = forest(a_tenant("retail", namespaces=["shop"]), a_tenant("payments", parent="retail"))

        problem = trees.problem("retail")

        assert problem is not None
        assert problem.reason == "NamespacesOnInnerTenant"
        assert "payments" in problem.message


class TestClaims:
    @pytest.mark.parametrize(
        ("tenants", "want"),
        [
            (
                [a_tenant("young", born=2, namespaces=["x"]), a_tenant("old", born=1, namespaces=["x"])],
                ("old", "young"),
            ),
            ([a_tenant("b", namespaces=["x"]), a_tenant("a", namespaces=["x"])], ("a", "b")),
            ([a_tenant("a")], ()),
        ],
        ids=["the older one has it", "of the same age the first by name has it", "nobody lists it"],
    )
    def test_the_rightful_one_comes_first(self, tenants: list[object], want: tuple[str, ...]) -> None:
        assert forest(*tenants).claims("x") == want

    @pytest.mark.parametrize(
        ("holder", "leaving", "want"),
        [
            ("young", "", ("young", "old")),
            ("young", "young", ("old", "young")),
            ("old", "old", ("young", "old")),
            ("stranger", "", ("old", "young")),
        ],
        ids=["who has it keeps it", "who has it leaves", "the older one has it and leaves", "who has it lists it not"],
    )
    def test_who_has_it_by_its_label_comes_before_the_older(
        self, holder: str, leaving: str, want: tuple[str, ...]
    ) -> None:
        tenants = [a_tenant("old", born=1, namespaces=["x"]), a_tenant("young", born=2, namespaces=["x"])]
        gone = [leave(each) if each.metadata.name == leaving else each for each in tenants]

        assert an_estate(*gone, namespaces=[NamespaceFacts("x", tenant=holder)]).forest.claims("x") == want

    @given(st.permutations(range(5)))
    def test_do_not_depend_on_the_order_in_which_tenants_were_seen(self, order: list[int]) -> None:
        tenants = [a_tenant(f"t{number}", born=number % 3, namespaces=["x"]) for number in range(5)]

        assert forest(*(tenants[number] for number in order)).owner("x") == "t0"


@given(st.lists(st.integers(min_value=0, max_value=7), min_size=8, max_size=8))
def test_every_shape_is_judged_and_every_problem_has_its_reason(parents: list[int]) -> None:
    """Any graph of parents: each tenant stands, or its ancestors really contain the cycle that it is told."""
    tenants = [
        a_tenant(f"t{child}", parent=None if parent == child else f"t{parent}") for child, parent in enumerate(parents)
    ]
    trees = forest(*tenants)
    for child in range(8):
        problem = trees.problem(f"t{child}")
        walk, here = [], child
        while here not in walk:
            walk.append(here)
            here = parents[here]
        in_cycle = here != walk[-1] or parents[here] != here
        assert (problem is not None) == in_cycle
        if problem is not None:
            cycle = walk[walk.index(here) :]
            told = problem.message.split(": ")[1].split(".")[0].split(" → ")
            assert {f"t{each}" for each in cycle} == set(told)
            assert told[0] == told[-1]
