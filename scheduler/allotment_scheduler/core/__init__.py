"""The pure engine: state and time in, decisions out; the same code live, offline and in simulations."""
