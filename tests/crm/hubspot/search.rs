//! Search, which sees a change only after a while.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::routes::{Asked, json};
use super::schema::ObjectType;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    filter_groups: Vec<Group>,
    #[serde(default)]
    properties: Vec<String>,
    #[serde(default = "ten")]
    limit: usize,
    after: Option<String>,
    #[serde(default)]
    sorts: Vec<Value>,
}

fn ten() -> usize {
    10
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    property_name: String,
    operator: Operator,
    value: Option<String>,
    values: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operator {
    Eq,
    Neq,
    In,
    HasProperty,
    NotHasProperty,
}

impl Filter {
    fn check(&self, object: &ObjectType) -> Result<(), Refusal> {
        if object.find(&self.property_name).is_none() {
            let message = format!(
                "There was a problem with the request: no property {}",
                self.property_name
            );
            return Err(Refusal::invalid(message));
        }
        let (one, many) = (self.value.is_some(), self.values.is_some());
        let fits = match self.operator {
            Operator::Eq | Operator::Neq => one && !many,
            Operator::In => many && !one,
            Operator::HasProperty | Operator::NotHasProperty => !one && !many,
        };
        if fits {
            return Ok(());
        }
        Err(Refusal::invalid(
            "a filter's operator and its value or values do not fit",
        ))
    }

    fn holds(&self, properties: &Map<String, Value>) -> bool {
        let own = properties.get(&self.property_name).and_then(Value::as_str);
        let own = own.filter(|own| !own.is_empty());
        match self.operator {
            Operator::Eq => own.is_some() && own == self.value.as_deref(),
            Operator::Neq => own.is_some() && own != self.value.as_deref(),
            Operator::In => {
                let values = self.values.iter().flatten();
                own.is_some_and(|own| values.into_iter().any(|value| value == own))
            }
            Operator::HasProperty => own.is_some(),
            Operator::NotHasProperty => own.is_none(),
        }
    }
}

pub(super) async fn search(
    State(portal): Asked,
    Path(object): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let object = portal.object(&object)?;
    let wanted: Wanted = json(&headers, &body)?;
    if !(1..=200).contains(&wanted.limit) {
        return Err(Refusal::invalid("limit must be 1 to 200"));
    }
    if wanted.filter_groups.len() > 5 || wanted.filter_groups.iter().any(|g| g.filters.len() > 6) {
        return Err(Refusal::invalid(
            "at most 5 filterGroups of at most 6 filters",
        ));
    }
    if !wanted.sorts.is_empty() {
        return Err(Refusal::invalid("sorts are not served here"));
    }
    for filter in wanted.filter_groups.iter().flat_map(|group| &group.filters) {
        filter.check(&object)?;
    }
    let after = match wanted.after.as_deref().map(str::parse) {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => return Err(Refusal::invalid("after is not a number")),
    };
    let names = (!wanted.properties.is_empty()).then_some(wanted.properties.as_slice());
    let records = portal.records();
    let found: Vec<Value> = records
        .indexed(&object, portal.setup.search_lag)
        .filter(|record| {
            let groups = &wanted.filter_groups;
            groups.is_empty()
                || groups
                    .iter()
                    .any(|group| group.filters.iter().all(|f| f.holds(&record.properties)))
        })
        .map(|record| record.show(names))
        .collect();
    let total = found.len();
    let page: Vec<Value> = found.into_iter().skip(after).take(wanted.limit).collect();
    let next = after + page.len();
    let mut answer = json!({"total": total, "results": page});
    if next < total {
        answer["paging"] = json!({"next": {"after": next.to_string()}});
    }
    Ok(Json(answer))
}
