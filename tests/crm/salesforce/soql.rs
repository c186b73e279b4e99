//! The part of SOQL that finds records: `SELECT a, b FROM O WHERE x = 'y' AND z IN ('a', 'b') LIMIT 5`.

use serde_json::{Map, Number, Value, json};

use super::records::Records;
use super::refusal::Refusal;
use super::schema::{Field, Object};

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Literal(Value),
    Sign(&'static str),
}

struct Condition<'a> {
    field: &'a Field,
    negated: bool,
    values: Vec<Value>,
}

fn malformed(what: impl std::fmt::Display) -> Refusal {
    Refusal::bad("MALFORMED_QUERY", format!("unexpected token: {what}"))
}

/// The answer to a query.
pub(super) fn answer(
    query: &str,
    objects: &[Object],
    records: &Records,
    version: &str,
) -> Result<Value, Refusal> {
    let mut tokens = Tokens {
        tokens: tokens(query)?,
        at: 0,
    };
    tokens.keyword("SELECT")?;
    let mut names = vec![tokens.word()?];
    while tokens.sign(",") {
        names.push(tokens.word()?);
    }
    tokens.keyword("FROM")?;
    let from = tokens.word()?;
    let Some(object) = objects
        .iter()
        .find(|object| object.name.eq_ignore_ascii_case(&from))
    else {
        let message = format!("sObject type '{from}' is not supported.");
        return Err(Refusal::bad("INVALID_TYPE", message));
    };
    let selected = names
        .iter()
        .map(|name| column(object, name))
        .collect::<Result<Vec<_>, _>>()?;
    let conditions = tokens.conditions(object)?;
    let limit = tokens.limit()?;
    if let Some(rest) = tokens.peek() {
        return Err(malformed(format!("{rest:?}")));
    }

    let found: Vec<Value> = records
        .live(&object.name)
        .filter(|record| {
            conditions
                .iter()
                .all(|condition| condition.holds(&record.fields))
        })
        .take(limit)
        .map(|record| {
            let url = format!(
                "/services/data/{version}/sobjects/{}/{}",
                object.name, record.id
            );
            let mut row = Map::new();
            row.insert(
                "attributes".to_owned(),
                json!({"type": object.name, "url": url}),
            );
            for field in &selected {
                let value = record
                    .fields
                    .get(&field.name)
                    .cloned()
                    .unwrap_or(Value::Null);
                row.insert(field.name.clone(), value);
            }
            Value::Object(row)
        })
        .collect();
    Ok(json!({"totalSize": found.len(), "done": true, "records": found}))
}

fn column<'a>(object: &'a Object, name: &str) -> Result<&'a Field, Refusal> {
    object.find(name).ok_or_else(|| {
        let message = format!("No such column '{name}' on entity '{}'.", object.name);
        Refusal::bad("INVALID_FIELD", message)
    })
}

impl Condition<'_> {
    fn holds(&self, fields: &Map<String, Value>) -> bool {
        let own = fields.get(&self.field.name).unwrap_or(&Value::Null);
        let found = self.values.iter().any(|value| match (own, value) {
            // Comparing text does not look at case, except in fields that do.
            (Value::String(_), Value::String(_)) => self.field.same(own, value),
            _ => own == value,
        });
        found != self.negated
    }
}

struct Tokens {
    tokens: Vec<Token>,
    at: usize,
}

impl Tokens {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self) -> Result<Token, Refusal> {
        let token = self.peek().cloned().ok_or_else(|| malformed("<EOF>"))?;
        self.at += 1;
        Ok(token)
    }

    fn word(&mut self) -> Result<String, Refusal> {
        match self.take()? {
            Token::Word(word) => Ok(word),
            other => Err(malformed(format!("{other:?}"))),
        }
    }

    fn is(&mut self, keyword: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), Refusal> {
        if self.is(keyword) {
            return Ok(());
        }
        Err(malformed(format!("{:?}, expected {keyword}", self.peek())))
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(own)) if *own == sign);
        self.at += usize::from(found);
        found
    }

    fn literal(&mut self) -> Result<Value, Refusal> {
        match self.take()? {
            Token::Literal(value) => Ok(value),
            Token::Word(word) if word.eq_ignore_ascii_case("null") => Ok(Value::Null),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            other => Err(malformed(format!("{other:?}"))),
        }
    }

    fn conditions<'a>(&mut self, object: &'a Object) -> Result<Vec<Condition<'a>>, Refusal> {
        let mut conditions = Vec::new();
        if !self.is("WHERE") {
            return Ok(conditions);
        }
        loop {
            let name = self.word()?;
            let field = column(object, &name)?;
            let (negated, values) = if self.sign("=") {
                (false, vec![self.literal()?])
            } else if self.sign("!=") {
                (true, vec![self.literal()?])
            } else {
                let negated = self.is("NOT");
                self.keyword("IN")?;
                (negated, self.list()?)
            };
            conditions.push(Condition {
                field,
                negated,
                values,
            });
            if !self.is("AND") {
                return Ok(conditions);
            }
        }
    }

    fn list(&mut self) -> Result<Vec<Value>, Refusal> {
        if !self.sign("(") {
            return Err(malformed(format!("{:?}, expected (", self.peek())));
        }
        let mut values = vec![self.literal()?];
        while self.sign(",") {
            values.push(self.literal()?);
        }
        if self.sign(")") {
            return Ok(values);
        }
        Err(malformed(format!("{:?}, expected )", self.peek())))
    }

    fn limit(&mut self) -> Result<usize, Refusal> {
        if !self.is("LIMIT") {
            return Ok(usize::MAX);
        }
        match self.literal()? {
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(|| malformed(number)),
            other => Err(malformed(other)),
        }
    }
}

fn tokens(query: &str) -> Result<Vec<Token>, Refusal> {
    let mut tokens = Vec::new();
    let mut rest = query.chars().peekable();
    while let Some(&first) = rest.peek() {
        if first.is_whitespace() {
            rest.next();
            continue;
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let mut word = String::new();
            while let Some(&next) = rest.peek()
                && (next.is_ascii_alphanumeric() || matches!(next, '_' | '.'))
            {
                word.push(next);
                rest.next();
            }
            tokens.push(Token::Word(word));
            continue;
        }
        if first.is_ascii_digit() {
            let mut number = String::new();
            while let Some(&next) = rest.peek()
                && next.is_ascii_digit()
            {
                number.push(next);
                rest.next();
            }
            let number: u64 = number.parse().map_err(malformed)?;
            tokens.push(Token::Literal(Value::Number(Number::from(number))));
            continue;
        }
        rest.next();
        tokens.push(match first {
            '\'' => Token::Literal(Value::String(quoted(&mut rest)?)),
            ',' => Token::Sign(","),
            '(' => Token::Sign("("),
            ')' => Token::Sign(")"),
            '=' => Token::Sign("="),
            '!' if rest.next_if_eq(&'=').is_some() => Token::Sign("!="),
            other => return Err(malformed(other)),
        });
    }
    Ok(tokens)
}

/// The rest of a text in quotes, its escapes undone.
fn quoted(rest: &mut impl Iterator<Item = char>) -> Result<String, Refusal> {
    let mut text = String::new();
    loop {
        match rest.next() {
            Some('\'') => return Ok(text),
            Some('\\') => match rest.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some(escaped @ ('\'' | '"' | '\\' | '%' | '_')) => text.push(escaped),
                Some(other) => return Err(malformed(format!("\\{other}"))),
                None => return Err(malformed("<EOF>")),
            },
            Some(other) => text.push(other),
            None => return Err(malformed("<EOF>")),
        }
    }
}
