-- What CRM write-back knows. One file for PostgreSQL and SQLite alike; times ending in _at are
-- milliseconds since 1970.

-- What a call's events told that its note may say, one row an event. Sealed words stay sealed.
CREATE TABLE crm_facts (
    event_id    TEXT   NOT NULL PRIMARY KEY,
    tenant      TEXT   NOT NULL,
    call_id     TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    happened_at BIGINT NOT NULL,
    fact        TEXT   NOT NULL    -- JSON
);
CREATE INDEX crm_facts_by_call ON crm_facts (call_id);
CREATE INDEX crm_facts_by_time ON crm_facts (happened_at);

-- What became of each call's note in each CRM.
CREATE TABLE crm_notes (
    tenant     TEXT   NOT NULL,
    call_id    TEXT   NOT NULL,
    crm        TEXT   NOT NULL,
    state      TEXT   NOT NULL,    -- written, parked or failed
    content    TEXT,               -- hash of what the CRM has
    crm_id     TEXT,
    attempts   BIGINT NOT NULL,
    reason     TEXT,
    detail     TEXT,               -- the CRM's own words, masked
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, call_id, crm)
);
CREATE INDEX crm_notes_by_state ON crm_notes (tenant, crm, state);

-- How each tenant's CRM is doing.
CREATE TABLE crm_connections (
    tenant     TEXT   NOT NULL,
    crm        TEXT   NOT NULL,
    reason     TEXT,               -- why nothing is sent until until_at
    detail     TEXT,
    until_at   BIGINT NOT NULL,
    calls      BIGINT NOT NULL,    -- API calls made
    daily_used BIGINT,             -- as the CRM last said
    daily_max  BIGINT,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, crm)
);

-- What a CRM lets us in with, sealed.
CREATE TABLE crm_secrets (
    tenant     TEXT   NOT NULL,
    crm        TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, crm)
);

-- Calls whose notes were erased: nothing of them is written again.
CREATE TABLE crm_erased (
    tenant    TEXT   NOT NULL,
    call_id   TEXT   NOT NULL,
    erased_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, call_id)
);
