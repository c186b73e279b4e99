//! What was asked and what was written, in order.

use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::Fault;

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it had arrived whole.
    pub at: SystemTime,
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What was done wrong with it.
    pub fault: Option<Fault>,
    /// The answer's status; none while there is no answer.
    pub status: Option<u16>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new record.
    Created,
    /// An existing record.
    Updated,
    /// Gone.
    Deleted,
    /// HubSpot: two records are associated.
    Associated,
}

/// One record that was written.
#[derive(Clone, Debug)]
pub struct Write {
    /// When.
    pub at: SystemTime,
    /// Salesforce's object or HubSpot's object type, such as `Call_Coaching__c` or `calls`.
    pub object: String,
    /// The CRM's id of the record.
    pub id: String,
    /// What was done.
    pub change: Change,
    /// The fields that were given.
    pub fields: Map<String, Value>,
}

#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) requests: Vec<Request>,
    pub(crate) writes: Vec<Write>,
}

impl Journal {
    /// Notes a request and tells its number.
    pub(crate) fn arrived(&mut self, method: &str, path: &str, fault: Option<Fault>) -> usize {
        self.requests.push(Request {
            at: SystemTime::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            fault,
            status: None,
        });
        self.requests.len() - 1
    }

    pub(crate) fn answered(&mut self, number: usize, status: u16) {
        if let Some(request) = self.requests.get_mut(number) {
            request.status = Some(status);
        }
    }

    pub(crate) fn wrote(
        &mut self,
        object: &str,
        id: &str,
        change: Change,
        fields: Map<String, Value>,
    ) {
        self.writes.push(Write {
            at: SystemTime::now(),
            object: object.to_owned(),
            id: id.to_owned(),
            change,
            fields,
        });
    }
}
