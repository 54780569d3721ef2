"""Everything that Dagster sees. Each module is found by its place here and never imports another one."""
