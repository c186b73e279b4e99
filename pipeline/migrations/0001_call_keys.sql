-- Data keys of calls, wrapped by the master key. Destroying one erases its call everywhere.
CREATE TABLE call_keys (
    call_id       TEXT   NOT NULL PRIMARY KEY,
    tenant        TEXT   NOT NULL,
    master_key_id TEXT   NOT NULL,
    -- Empty once destroyed.
    wrapped       BYTEA  NOT NULL,
    -- Milliseconds since 1970.
    created_at    BIGINT NOT NULL,
    destroyed_at  BIGINT
);
CREATE INDEX call_keys_by_tenant ON call_keys (tenant);
