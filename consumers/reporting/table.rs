//! Rows on their way into a table, many in one statement.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

/// Rows in one statement. Few sizes, so that the database keeps few statements prepared.
const SIZES: [usize; 4] = [128, 32, 8, 1];

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(Option<String>),
    Whole(Option<i64>),
    Real(f64),
    Flag(Option<bool>),
    Bytes(Option<Vec<u8>>),
}

/// One row, in the order of its table's columns.
pub(super) type Row = Vec<Value>;

/// How rows get into a table.
pub(super) struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [&'static str],
    /// What happens to a row that is there.
    pub conflict: &'static str,
}

impl Table {
    /// Inserts rows; gives what the statement returns of each, if it does.
    pub(super) async fn insert(
        &self,
        connection: &mut AnyConnection,
        rows: Vec<Row>,
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let mut returned = Vec::new();
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let size = SIZES.into_iter().find(|size| *size <= rows.len());
            let size = size.unwrap_or(1);
            let statement = AssertSqlSafe(self.statement(size));
            let mut query = sqlx::query(statement);
            for value in rows.by_ref().take(size).flatten() {
                query = bind(query, value);
            }
            returned.extend(query.fetch_all(&mut *connection).await?);
        }
        Ok(returned)
    }

    /// The statement for so many rows.
    fn statement(&self, rows: usize) -> String {
        let width = self.columns.len();
        let row = |index: usize| {
            let places: Vec<String> = (1..=width)
                .map(|at| format!("${}", index * width + at))
                .collect();
            format!("({})", places.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!(
            "INSERT INTO {} ({}) VALUES {} {}",
            self.name,
            self.columns.join(", "),
            rows.join(", "),
            self.conflict
        )
    }
}

fn bind(query: Query<'_, Any, AnyArguments>, value: Value) -> Query<'_, Any, AnyArguments> {
    match value {
        Value::Text(text) => query.bind(text),
        Value::Whole(number) => query.bind(number),
        Value::Real(number) => query.bind(number),
        Value::Flag(flag) => query.bind(flag),
        Value::Bytes(bytes) => query.bind(bytes),
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $made:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $made
            }
        })+
    };
}

from! {
    &str => |text| Self::Text(Some(text.to_owned()));
    Option<&str> => |text| Self::Text(text.map(str::to_owned));
    String => |text| Self::Text(Some(text));
    Option<String> => |text| Self::Text(text);
    i32 => |number| Self::Whole(Some(number.into()));
    i64 => |number| Self::Whole(Some(number));
    Option<i64> => |number| Self::Whole(number);
    f32 => |number| Self::Real(number.into());
    bool => |flag| Self::Flag(Some(flag));
    Option<bool> => |flag| Self::Flag(flag);
    Vec<u8> => |bytes| Self::Bytes(Some(bytes));
    Option<Vec<u8>> => |bytes| Self::Bytes(bytes);
}
