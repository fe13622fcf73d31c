"""Random small clusters: trees, weights, limits, guarantees, gangs (elastic, of unlike pods), priorities."""

from hypothesis import strategies as st

from builders.scheduling import World


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World()
    nodes = draw(st.integers(1, 4))
    for number in range(nodes):
        world.node(
            f"n{number}", cpu=draw(st.integers(1, 8)), memory=draw(st.integers(1, 8)), gpu=draw(st.integers(0, 3))
        )
    parents = [f"d{number}" for number in range(draw(st.integers(0, 2)))]
    bounds = st.fixed_dictionaries(
        {}, optional={"cpu": st.integers(0, 8), "memory": st.integers(0, 8), "gpu": st.integers(0, 3)}
    )
    for name in parents:
        world.inner(
            name,
            weight=draw(st.sampled_from(["1", "2", "0.5", "0"])),
            limits=draw(st.one_of(st.just({}), bounds)),
            guaranteed=draw(st.one_of(st.just({}), bounds)),
        )
    leaves = []
    for number in range(draw(st.integers(1, 4))):
        name = f"t{number}"
        leaves.append(name)
        world.tenant(
            name,
            draw(st.sampled_from(["", *parents])),
            weight=draw(st.sampled_from(["1", "1", "2", "0.3", "0"])),
            limits=draw(st.one_of(st.just({}), st.just({}), bounds)),
            guaranteed=draw(st.one_of(st.just({}), bounds)),
            suspended=draw(st.sampled_from([False] * 9 + [True])),
            highest_priority=draw(st.sampled_from([1000, 1000, 1])),
        )
    gangs: dict[str, list[str]] = {name: [] for name in leaves}
    for number in range(draw(st.integers(0, 3))):
        leaf = draw(st.sampled_from(leaves))
        world.gang(leaf, f"g{number}", draw(st.integers(1, 3)), priority=draw(st.sampled_from([None, None, 0, 1, 3])))
        gangs[leaf].append(f"g{number}")
    for number in range(draw(st.integers(1, 14))):
        leaf = draw(st.sampled_from(leaves))
        group = draw(st.sampled_from([None, None, *gangs[leaf]]))
        world.pod(
            leaf,
            f"p{number}",
            on=draw(st.sampled_from([None, None, *(f"n{n}" for n in range(nodes))])),
            group=group,
            priority=draw(st.sampled_from([0, 0, 1, 2])),
            cpu=draw(st.integers(0, 3)),
            memory=draw(st.integers(0, 3)),
            gpu=draw(st.sampled_from([0, 0, 0, 1, 2])),
            more={"preemptible": draw(st.sampled_from([True, True, True, False]))},
        )
    return world
