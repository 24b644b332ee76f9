"""Grafana's dashboards: an overview, one a service, one of the broker. `render` of each gives the file's text."""
