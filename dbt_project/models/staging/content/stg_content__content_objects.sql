select
    storage_key,
    tenant_id,
    object_kind,
    raw_size_bytes,
    compressed_size_bytes,
    compression_algorithm,
    content_hash,
    duplicate_of,
    storage_tier,
    retention_days,
    expires,
    archived,
    is_archived,
    last_accessed,
    created,
    updated
from {{ source('content', 'content_objects') }}
where _deleted is null
