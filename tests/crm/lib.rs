//! Test servers that answer as Salesforce and HubSpot do by their public documentation.
//!
//! Each is one account of one tenant on a free port of 127.0.0.1, in this process: it is not gone when
//! the stage under test is killed. It refuses what the real one refuses (an unknown field, a wrong verb,
//! a missing property, too large a batch, an expired token), keeps every request and every write, and
//! misbehaves on request or on a seed ([`Fault`]).
//!
//! ```no_run
//! # async fn example() {
//! use crm_servers::{Fault, hubspot, salesforce};
//! let org = salesforce::Salesforce::start(salesforce::Setup::default()).await;
//! let portal = hubspot::HubSpot::start(hubspot::Setup::default()).await;
//! org.misbehave(7, 0.2, &Fault::passing());
//! portal.next(Fault::ResetAfter);
//! let notes = org.count_by("Call_Coaching__c", "Call_Id__c");
//! # }
//! ```

pub mod hubspot;
pub mod salesforce;

mod fault;
mod front;
mod journal;
mod limit;
mod line;
mod server;

pub use fault::{Fault, Policy};
pub use journal::{Change, Request, Write};
