"""What every tenant would use if all demand were poured in as a fluid: the filling, leaps over it, their proof."""
