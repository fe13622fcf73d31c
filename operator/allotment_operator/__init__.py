"""The operator: turns tenants' custom resources into running services and looks after them for life."""
