//! CRM write-back on real Kafka and PostgreSQL, against servers that answer as HubSpot and
//! Salesforce do: one note of every call, whatever the CRM does meanwhile.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod command;
mod killed;
mod limits;
mod once;
mod pace;
mod scene;
mod written;
