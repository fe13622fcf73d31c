"""Tenants: from what an administrator grants to namespaces, walls, seats and quotas.

Pure but for `register`, which watches. `estate` is the picture of all tenants, pools and namespaces at one moment,
`forest` judges it as a whole, the other modules render one part of a namespace's furniture each, and `plan` puts them
in order.
"""
