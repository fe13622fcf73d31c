"""The state of the cluster: one object with one door for changes, and the parts it is made of."""
