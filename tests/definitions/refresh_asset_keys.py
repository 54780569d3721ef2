"""Writes the snapshot of asset keys anew: python tests/definitions/refresh_asset_keys.py"""

from __future__ import annotations

from pathlib import Path

from penguin_pipelines.lib import dbt


def main() -> None:
    dbt.ensure_manifest()
    from penguin_pipelines.definitions import defs  # reads the manifest, so not before it is there

    keys = sorted(defs.get_repository_def().asset_graph.executable_asset_keys)
    Path(__file__).with_name("asset_keys.txt").write_text("".join(f"{k.to_user_string()}\n" for k in keys))


if __name__ == "__main__":
    main()
