"""The page shows what the picture holds; the lines tell only what has changed."""

import io

from rich.console import Console, RenderableType

from allotment_cli.demo import summary, view
from allotment_cli.demo.acts import PLAY, Verdict
from allotment_cli.demo.director import Scene
from allotment_cli.demo.facts import History
from builders.bank_pictures import BANK, node, picture, pod, service, tenant


def text_of(page: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=view.WIDTH, color_system=None)
    console.print(page)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_page_holds_tenants_services_machines_and_reasons() -> None:
    tenants = (*BANK, tenant("research", "markets", share=0.5))
    waits = pod("p", "fraud", owner="features", reason="NoNodeFits", message="NoNodeFits: 0 of 1 nodes fit: 1 lack cpu")
    seen = picture(
        pod("a", "research", on="n1"),
        waits,
        tenants=tenants,
        services=(service("KafkaCluster", "payments", "payments"),),
        nodes=(node("n1"),),
    )

    shown = text_of(view.page([Scene(PLAY[0], Verdict(done=False, said="5 of 8 tenants ready"), 1.0)], seen, acts=9))

    assert "Act 1 of 9: estate" in shown
    assert "50.0%" in shown
    assert "Ready (simulated)" in shown
    assert "4/16" in shown
    assert "1 lack cpu" in shown


def test_a_bar_is_as_long_as_its_fraction_and_marks_another() -> None:
    assert view.bar(0.5, width=10).plain == "█████·····"
    assert view.bar(0.0, width=4).plain == "····"
    assert view.bar(1.7, width=4).plain == "████"
    assert view.bar(0.5, entitled=0.8, width=10).plain == "█████···│·"


def test_an_unchanged_picture_tells_nothing() -> None:
    seen = picture(pod("a", "fraud", reason="NoNodeFits"), services=(service("KafkaCluster", "payments", "payments"),))

    assert list(view.changes(seen, seen)) == []


def test_every_change_is_one_line() -> None:
    before = picture(services=(service("KafkaCluster", "payments", "payments", ready=False),))
    after = picture(
        pod("a", "fraud", owner="train", reason="NoNodeFits", message="NoNodeFits: no GPU is free"),
        pod("b", "fraud", owner="train", reason="NoNodeFits", message="NoNodeFits: no GPU is free"),
        services=(service("KafkaCluster", "payments", "payments"),),
        history=History(restarts={"allotment-operator": 1}, violations=("node n1 holds 2 cpu of 1",)),
    )

    assert list(view.changes(before, after)) == [
        "KafkaCluster payments/payments is Ready (PodsReadySimulated)",
        "fraud/train waits: NoNodeFits: no GPU is free",
        "allotment-operator ended and was started again",
        "VIOLATION: node n1 holds 2 cpu of 1",
    ]
    assert list(view.changes(after, picture()))[-1] == "KafkaCluster payments/payments is gone"


def scenes(*, happened: bool) -> list[Scene]:
    return [Scene(act, Verdict(done=happened, said="numbers"), 2.0, over=True) for act in PLAY]


def test_the_demo_has_happened_only_when_every_act_has() -> None:
    assert summary.succeeded(scenes(happened=True), PLAY, picture())
    assert not summary.succeeded(scenes(happened=True)[:-1], PLAY, picture())
    assert not summary.succeeded([*scenes(happened=True)[:-1], *scenes(happened=False)[-1:]], PLAY, picture())
    assert not summary.succeeded(scenes(happened=True), PLAY, picture(history=History(violations=("x",))))


def test_the_summary_names_what_did_not_happen() -> None:
    shown = text_of(summary.table(summary.data(scenes(happened=True)[:3], PLAY, picture(), seconds=60)))

    assert shown.count("did not happen") == len(PLAY) - 3
    assert "not played" in shown
