-- Whether the customer moved towards buying; insights written before this was looked for say no.
ALTER TABLE insights ADD COLUMN interest BOOLEAN NOT NULL DEFAULT FALSE;
