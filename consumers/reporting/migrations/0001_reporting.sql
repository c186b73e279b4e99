-- What is known of every call. One file for PostgreSQL and SQLite alike.
--
-- Times ending in _at are milliseconds since 1970; those ending in _ms count from the call's
-- start. Rows are written once under the event's id, so that reading a record again changes
-- nothing. Nothing refers to another table by a foreign key: topics are read side by side, and
-- a tip may arrive before the utterance that it answers. Sealed columns hold ciphertext.

CREATE TABLE calls (
    call_id    TEXT   NOT NULL PRIMARY KEY,
    tenant     TEXT   NOT NULL,
    rep        TEXT   NOT NULL,
    customer   BYTEA,            -- sealed
    language   TEXT   NOT NULL,
    source     TEXT   NOT NULL,
    channels   TEXT   NOT NULL,  -- who speaks on each, with commas
    started_at BIGINT NOT NULL
);
CREATE INDEX calls_by_time ON calls (tenant, started_at);

-- What each topic told of a call's start and end.
CREATE TABLE call_stories (
    call_id        TEXT    NOT NULL,
    topic          TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    first_at       BIGINT  NOT NULL,
    last_at        BIGINT  NOT NULL,
    started        BOOLEAN NOT NULL,
    ended          BOOLEAN NOT NULL,
    end_reason     TEXT,
    duration_ms    BIGINT,
    utterances     BIGINT,
    transcribed_ms BIGINT,
    PRIMARY KEY (call_id, topic)
);
CREATE INDEX call_stories_by_time ON call_stories (last_at);

-- Which stretches of a call's audio have arrived, like 0-4500,4600-90000.
CREATE TABLE audio_received (
    call_id     TEXT   NOT NULL PRIMARY KEY,
    tenant      TEXT   NOT NULL,
    stretches   TEXT   NOT NULL,
    received_ms BIGINT NOT NULL
);

CREATE TABLE utterances (
    event_id TEXT   NOT NULL PRIMARY KEY,
    call_id  TEXT   NOT NULL,
    tenant   TEXT   NOT NULL,
    spoken_at BIGINT NOT NULL,
    channel  BIGINT NOT NULL,
    speaker  TEXT   NOT NULL,
    start_ms BIGINT NOT NULL,
    end_ms   BIGINT NOT NULL,
    language TEXT   NOT NULL,
    words    BIGINT NOT NULL,
    text     BYTEA  NOT NULL     -- sealed
);
CREATE INDEX utterances_by_call ON utterances (call_id, start_ms);

CREATE TABLE insights (
    event_id             TEXT    NOT NULL PRIMARY KEY,
    utterance_id         TEXT    NOT NULL,
    call_id              TEXT    NOT NULL,
    tenant               TEXT    NOT NULL,
    spoken_at            BIGINT  NOT NULL,
    channel              BIGINT  NOT NULL,
    speaker              TEXT    NOT NULL,
    start_ms             BIGINT  NOT NULL,
    end_ms               BIGINT  NOT NULL,
    language             TEXT    NOT NULL,
    words                BIGINT  NOT NULL,
    sentiment            TEXT    NOT NULL,
    sentiment_score      DOUBLE PRECISION NOT NULL,
    polarity             DOUBLE PRECISION NOT NULL,
    next_step            BOOLEAN NOT NULL,
    talk_ratio           DOUBLE PRECISION NOT NULL,
    monologue_ms         BIGINT  NOT NULL,
    interruptions        BIGINT  NOT NULL,
    rep_words_per_minute DOUBLE PRECISION NOT NULL,
    sentiment_trend      DOUBLE PRECISION NOT NULL
);
CREATE INDEX insights_by_call ON insights (call_id, start_ms);

CREATE TABLE objections (
    insight_id TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    call_id    TEXT   NOT NULL,
    tenant     TEXT   NOT NULL,
    spoken_at  BIGINT NOT NULL,
    score      DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (insight_id, kind)
);
CREATE INDEX objections_by_call ON objections (call_id);
CREATE INDEX objections_by_kind ON objections (tenant, kind, spoken_at);

-- What became of each kind of objection by the end of the call.
CREATE TABLE objection_outcomes (
    call_id  TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    tenant   TEXT    NOT NULL,
    raised   BIGINT  NOT NULL,
    answered BOOLEAN NOT NULL,
    PRIMARY KEY (call_id, kind)
);

-- How the conversation went over the whole call.
CREATE TABLE conversations (
    call_id              TEXT   NOT NULL PRIMARY KEY,
    tenant               TEXT   NOT NULL,
    talk_ratio           DOUBLE PRECISION NOT NULL,
    longest_monologue_ms BIGINT NOT NULL,
    interruptions        BIGINT NOT NULL,
    rep_words_per_minute DOUBLE PRECISION NOT NULL,
    sentiment_trend      DOUBLE PRECISION NOT NULL,
    next_step            BOOLEAN
);

CREATE TABLE tips (
    event_id         TEXT   NOT NULL PRIMARY KEY,
    utterance_id     TEXT,
    call_id          TEXT   NOT NULL,
    tenant           TEXT   NOT NULL,
    given_at         BIGINT NOT NULL,
    rule             TEXT   NOT NULL,
    playbook         TEXT   NOT NULL,
    playbook_version TEXT   NOT NULL,
    objection        TEXT,
    title            TEXT   NOT NULL,
    say              TEXT   NOT NULL,
    ask              TEXT   NOT NULL,
    language         TEXT   NOT NULL,
    priority         BIGINT NOT NULL,
    spoken_at        BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL
);
CREATE INDEX tips_by_call ON tips (call_id);

CREATE TABLE feedback (
    event_id TEXT   NOT NULL PRIMARY KEY,
    tip_id   TEXT   NOT NULL,
    call_id  TEXT   NOT NULL,
    tenant   TEXT   NOT NULL,
    given_at BIGINT NOT NULL,
    rep      TEXT   NOT NULL,
    action   TEXT   NOT NULL
);
CREATE INDEX feedback_by_call ON feedback (call_id);
CREATE INDEX feedback_by_tip ON feedback (tip_id);

-- One row: the silence after which a call counts as over, from [reporting] timeout_s.
CREATE TABLE ledger_rules (
    id         BIGINT NOT NULL PRIMARY KEY,
    timeout_ms BIGINT NOT NULL
);

-- The facts that the ledger judges: one row for each call that any topic told of.
CREATE VIEW call_facts AS
SELECT
    k.call_id,
    k.tenant,
    k.last_at,
    c.rep,
    c.source,
    c.started_at,
    COALESCE(audio.started, FALSE)      AS audio_started,
    COALESCE(transcript.started, FALSE) AS transcript_started,
    COALESCE(insight.started, FALSE)    AS insights_started,
    COALESCE(tip.started, FALSE)        AS tips_started,
    COALESCE(audio.ended, FALSE)        AS audio_ended,
    COALESCE(transcript.ended, FALSE)   AS transcript_ended,
    COALESCE(insight.ended, FALSE)      AS insights_ended,
    COALESCE(tip.ended, FALSE)          AS tips_ended,
    -- Transcripts of other systems come without audio.
    (audio.call_id IS NOT NULL OR COALESCE(c.source, 'transcript') <> 'transcript') AS has_audio,
    COALESCE(audio.end_reason, transcript.end_reason, insight.end_reason, tip.end_reason)
        AS end_reason,
    COALESCE(audio.duration_ms, transcript.duration_ms) AS duration_ms,
    COALESCE(received.received_ms, 0)        AS received_ms,
    COALESCE(transcript.transcribed_ms, 0)   AS transcribed_ms,
    COALESCE(transcript.utterances, 0)       AS utterances,
    (SELECT COUNT(*) FROM utterances u WHERE u.call_id = k.call_id) AS utterances_written,
    (SELECT COUNT(*) FROM insights i WHERE i.call_id = k.call_id)   AS insights_written,
    -- Event time, not the wall clock: reading old records again judges as it did then.
    k.last_at + (SELECT timeout_ms FROM ledger_rules)
        < (SELECT MAX(last_at) FROM call_stories) AS silent
FROM (
    SELECT call_id, MIN(tenant) AS tenant, MAX(last_at) AS last_at
    FROM call_stories GROUP BY call_id
) k
LEFT JOIN calls c ON c.call_id = k.call_id
LEFT JOIN audio_received received ON received.call_id = k.call_id
LEFT JOIN call_stories audio
    ON audio.call_id = k.call_id AND audio.topic = 'calls.audio'
LEFT JOIN call_stories transcript
    ON transcript.call_id = k.call_id AND transcript.topic = 'calls.transcript'
LEFT JOIN call_stories insight
    ON insight.call_id = k.call_id AND insight.topic = 'calls.insights'
LEFT JOIN call_stories tip
    ON tip.call_id = k.call_id AND tip.topic = 'coaching.tips';

-- What each call lacks, in words; empty when it lacks nothing.
CREATE VIEW call_gaps AS
SELECT
    f.*,
    (transcript_ended AND insights_ended AND tips_ended AND (audio_ended OR NOT has_audio))
        AS ended,
    CASE WHEN has_audio AND NOT audio_started THEN 'calls.audio: no start; ' ELSE '' END
    || CASE WHEN NOT transcript_started THEN 'calls.transcript: no start; ' ELSE '' END
    || CASE WHEN NOT insights_started THEN 'calls.insights: no start; ' ELSE '' END
    || CASE WHEN NOT tips_started THEN 'coaching.tips: no start; ' ELSE '' END
    || CASE WHEN has_audio AND NOT audio_ended THEN 'calls.audio: no end; ' ELSE '' END
    || CASE WHEN NOT transcript_ended THEN 'calls.transcript: no end; ' ELSE '' END
    || CASE WHEN NOT insights_ended THEN 'calls.insights: no end; ' ELSE '' END
    || CASE WHEN NOT tips_ended THEN 'coaching.tips: no end; ' ELSE '' END
    -- Milliseconds are rounded once for each chunk's offset and length.
    || CASE WHEN audio_ended AND received_ms + 20 < duration_ms
        THEN 'audio: ' || CAST(received_ms AS TEXT) || ' of '
            || CAST(duration_ms AS TEXT) || ' ms received; '
        ELSE '' END
    || CASE WHEN has_audio AND transcript_ended AND transcribed_ms + 20 < received_ms
        THEN 'transcription: ' || CAST(transcribed_ms AS TEXT) || ' of '
            || CAST(received_ms AS TEXT) || ' ms read; '
        ELSE '' END
    || CASE WHEN transcript_ended AND utterances_written < utterances
        THEN 'utterances: ' || CAST(utterances_written AS TEXT) || ' of '
            || CAST(utterances AS TEXT) || ' written; '
        ELSE '' END
    || CASE WHEN insights_ended AND insights_written < utterances_written
        THEN 'insights: ' || CAST(insights_written AS TEXT) || ' of '
            || CAST(utterances_written AS TEXT) || ' written; '
        ELSE '' END
        AS gaps
FROM call_facts f;

-- The ledger: a call is open, complete, incomplete (it ended, and something is missing) or
-- timeout (it never ended, and nothing came for too long).
CREATE VIEW call_ledger AS
SELECT
    call_id,
    tenant,
    rep,
    source,
    started_at,
    last_at,
    CASE
        WHEN ended AND gaps = '' THEN 'complete'
        WHEN ended THEN 'incomplete'
        WHEN silent THEN 'timeout'
        ELSE 'open'
    END AS status,
    RTRIM(gaps, '; ') AS missing,
    end_reason,
    duration_ms,
    received_ms,
    transcribed_ms,
    utterances_written AS utterances
FROM call_gaps;
