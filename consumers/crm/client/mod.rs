//! The CRMs: what they are asked, and what their answers mean.

mod hubspot;
mod line;
mod salesforce;

use std::time::Duration;

use schemas::Crm;
use serde_json::{Map, Value};

pub use hubspot::HubSpot;
pub use line::{Line, LineSettings, Usage};
pub use salesforce::Salesforce;

use super::mapping::Style;
use super::note::Note;
use super::tenant::Tenant;

/// What went wrong, as an instruction to the writer. Decided here, where the CRM's answer comes in,
/// and nowhere else.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// It can never succeed. `all`: nor can any other note written in the same way.
    #[error("{code}: {words}")]
    Refused {
        /// The CRM's own code.
        code: String,
        /// The CRM's own words.
        words: String,
        /// Whether the cause is the mapping, not this note.
        all: bool,
    },
    /// It may succeed soon.
    #[error("{code}: {words}")]
    Later {
        /// The CRM's own code, or what failed on the way.
        code: String,
        /// The CRM's own words.
        words: String,
        /// How long the CRM asked to wait.
        after: Option<Duration>,
    },
    /// Too many calls in a short time.
    #[error("too many calls, go on after {0:?}")]
    TooFast(Duration),
    /// The day's calls are used up.
    #[error("the day's calls are used up: {words}")]
    Daily {
        /// The CRM's own words.
        words: String,
        /// How long the CRM asked to wait.
        after: Option<Duration>,
    },
    /// The CRM does not let us in, or not far enough: someone must change something there.
    #[error("{code}: {words}")]
    Shut {
        /// The CRM's own code.
        code: String,
        /// The CRM's own words.
        words: String,
    },
}

/// A note as one CRM takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The call's id.
    pub call_id: String,
    /// Our key: the same for the same tenant and call in every run.
    pub key: String,
    /// The record's fields but for the key; of HubSpot a call's, of Salesforce the object's.
    pub fields: Map<String, Value>,
    /// The fields of Salesforce's task but for the key.
    pub task: Map<String, Value>,
    /// The customer's number, when the call is to hang on the contact with it.
    pub contact: Option<String>,
}

/// A record in a CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id there.
    pub id: String,
    /// Whether it was made now.
    pub new: bool,
}

/// What became of each note of a batch, in the batch's order.
pub type Answers = Vec<Result<Record, Trouble>>;

/// Something that an administrator should know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it keeps notes from being written.
    pub wrong: bool,
    /// What it is.
    pub text: String,
}

impl Finding {
    /// Something that is in order.
    pub fn fine(text: impl Into<String>) -> Self {
        Self {
            wrong: false,
            text: text.into(),
        }
    }

    /// Something that keeps notes from being written.
    pub fn wrong(text: impl Into<String>) -> Self {
        Self {
            wrong: true,
            text: text.into(),
        }
    }
}

/// One tenant's CRM.
pub enum Client {
    /// HubSpot.
    HubSpot(HubSpot),
    /// Salesforce.
    Salesforce(Salesforce),
}

impl Client {
    /// The tenant's CRM of that kind, let in with `secret`; none when the tenant has none.
    pub fn of(tenant: &Tenant, crm: Crm, secret: &str, line: LineSettings) -> Option<Self> {
        match crm {
            Crm::Hubspot => {
                let settings = tenant.hubspot.clone()?;
                Some(Self::HubSpot(HubSpot::new(settings, secret, line)))
            }
            Crm::Salesforce => {
                let settings = tenant.salesforce.clone()?;
                Some(Self::Salesforce(Salesforce::new(settings, secret, line)))
            }
        }
    }

    /// Notes in one batch at most.
    pub fn batch(&self) -> usize {
        match self {
            Self::HubSpot(_) => hubspot::BATCH,
            Self::Salesforce(_) => salesforce::BATCH,
        }
    }

    /// The way to the CRM.
    pub fn line(&self) -> &Line {
        match self {
            Self::HubSpot(client) => client.line(),
            Self::Salesforce(client) => client.line(),
        }
    }

    /// Writes notes whose keys all differ: each is made, or put in place of the one there.
    ///
    /// # Errors
    /// [`Trouble`] when the batch as a whole met it; what became of its notes is not known.
    pub async fn write(&self, drafts: &[Draft]) -> Result<Answers, Trouble> {
        match self {
            Self::HubSpot(client) => client.write(drafts).await,
            Self::Salesforce(client) => client.write(drafts).await,
        }
    }

    /// Takes a call's note out; true when there was one.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn erase(&self, key: &str) -> Result<bool, Trouble> {
        match self {
            Self::HubSpot(client) => client.erase(key).await,
            Self::Salesforce(client) => client.erase(key).await,
        }
    }

    /// Tries the credentials, and compares the mapping with what the CRM has.
    pub async fn check(&self) -> Vec<Finding> {
        match self {
            Self::HubSpot(client) => client.check().await,
            Self::Salesforce(client) => client.check().await,
        }
    }
}

/// A note as the tenant's CRM takes it.
pub fn draft(tenant: &Tenant, crm: Crm, call_id: &str, note: &Note) -> Draft {
    let mut draft = Draft {
        call_id: call_id.to_owned(),
        key: key(&tenant.name, call_id),
        fields: Map::new(),
        task: Map::new(),
        contact: None,
    };
    match crm {
        Crm::Hubspot => {
            if let Some(hubspot) = &tenant.hubspot {
                draft.fields = hubspot.fields.render(note, Style::HubSpot);
            }
        }
        Crm::Salesforce => {
            if let Some(salesforce) = &tenant.salesforce {
                draft.fields = salesforce.fields.render(note, Style::Salesforce);
                draft.task = salesforce.task.fields.render(note, Style::Salesforce);
            }
        }
    }
    draft
}

/// Our key of a call: a UUID, which no CRM trims, folds or finds too long.
pub fn key(tenant: &str, call_id: &str) -> String {
    schemas::EventId::derive("crm", &format!("{tenant}\u{1f}{call_id}"), 0).to_string()
}

/// Pairs as `application/x-www-form-urlencoded`.
fn form(pairs: &[(&str, &str)]) -> String {
    let url = reqwest::Url::parse_with_params("form:", pairs);
    url.ok()
        .and_then(|url| url.query().map(str::to_owned))
        .unwrap_or_default()
}

/// The request with a form as its body.
fn form_encoded(request: reqwest::RequestBuilder, form: String) -> reqwest::RequestBuilder {
    request
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form)
}
