{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff', 'pm_app']}) }}

-- All tables of a source are read in one snapshot, and one in which nothing happened keeps its bookmark: the latest counts.
select
    source,
    max(source_read) as data_as_of,
    count(*)::integer as tables,
    sum(row_count)::bigint as rows
from {{ source('ops', 'bookmarks') }}
group by source
