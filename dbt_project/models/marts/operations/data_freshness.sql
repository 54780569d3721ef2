{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff', 'pm_app']}) }}

select
    source,
    min(source_read) as data_as_of,
    count(*)::integer as tables,
    sum(row_count)::bigint as rows
from {{ source('ops', 'bookmarks') }}
group by source
