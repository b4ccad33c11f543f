"""What lies here is installed by tests, and not collected with them."""

collect_ignore = ["nearest-mean"]
