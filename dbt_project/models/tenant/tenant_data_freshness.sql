{{ config(alias='data_freshness') }}

-- The same for everybody, and without any tenant's rows: as of when the figures hold.
select min(data_as_of) as data_as_of
from {{ ref('data_freshness') }}
where source in ('oltp', 'content')
