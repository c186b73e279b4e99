-- What became of each call's note in each CRM, as crm.notes tells it.
CREATE TABLE note_results (
    event_id    TEXT   NOT NULL PRIMARY KEY,
    call_id     TEXT   NOT NULL,
    tenant      TEXT   NOT NULL,
    happened_at BIGINT NOT NULL,
    crm         TEXT   NOT NULL,
    result      TEXT   NOT NULL,
    crm_id      TEXT,
    attempts    BIGINT NOT NULL,
    latency_ms  BIGINT,
    reason      TEXT,
    until_at    BIGINT
);
CREATE INDEX note_results_by_call ON note_results (call_id);
