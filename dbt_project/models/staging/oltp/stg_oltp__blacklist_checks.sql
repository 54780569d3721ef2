select
    id as check_id,
    tenant_id,
    check_type,
    smtp_ip_address_id,
    domain_id,
    blacklist_name,
    is_listed,
    listed_since,
    delisted,
    checked,
    created
from {{ source('oltp', 'blacklist_checks') }}
where _deleted is null
