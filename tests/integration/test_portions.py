"""The short form of the portions: late, random portions end where one build of everything ends.

The long form, twenty portions and the mutants, is `make portions` (tests/portions.py).
"""

from __future__ import annotations

from pathlib import Path

from portions import AS_OF, Portions, Size, drops_a_slice
from servers import Server


def test_late_portions_out_of_order_end_where_one_full_build_ends(
    postgres: Server, database_label: str, dbt_home: Path
) -> None:
    portions = Portions(postgres, Size(portions=2, messages=700, tenants=2), dbt_home, label=database_label)
    try:
        portions.run(last=1)
        portions.build_whole()
        portions.feed(2)
        portions.assert_sources_agree()
        with drops_a_slice() as give_back:
            portions.build(AS_OF)
        assert "intermediate.int_messages" in portions.against_whole(), "A slice that is lost must be seen."
        give_back(portions.fed["olap"])
        portions.build(AS_OF)
        assert portions.against_whole() == {}
        portions.assert_closed_is_closed(AS_OF)
        closed, posted = portions.closed_and_posted
        assert closed > 5 and posted > 0
        portions.assert_counts_by_utc_day()
        portions.assert_viewers_agree()
    finally:
        portions.drop()
