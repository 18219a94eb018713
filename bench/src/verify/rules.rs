//! What a query's text says about the order of its rows.

/// How the rows of a query are to be held against the right ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// What ORDER BY names, as far as those are columns of the answer: their names, or their places from 1. Rows that agree
    /// in all of them may come in any order.
    pub order_by: Vec<String>,
    /// The LIMIT, where there is one.
    pub limit: Option<usize>,
}

impl Rules {
    /// Those of a query's last ORDER BY and LIMIT.
    #[must_use]
    pub fn of(sql: &str) -> Self {
        let words = top_level(sql);
        let Some(start) = words.windows(2).rposition(|pair| is(&pair[0], "order") && is(&pair[1], "by"))
        else {
            return Self { order_by: Vec::new(), limit: limit_in(&words) };
        };
        let tail = &words[start + 2..];
        let end = tail.iter().position(|word| is(word, "limit")).unwrap_or(tail.len());
        let terms = tail[..end].split(|word| word == ",");
        Self { order_by: terms.map(term).collect(), limit: limit_in(tail) }
    }

    /// The columns of ORDER BY among those of the answer, up to the first that is none of them: what follows it does not
    /// order the rows of the answer.
    pub(super) fn columns_of(&self, columns: &[String]) -> Vec<usize> {
        let place = |name: &String| match name.parse::<usize>() {
            Ok(place) => place.checked_sub(1).filter(|place| *place < columns.len()),
            Err(_) => columns.iter().position(|column| column.eq_ignore_ascii_case(name)),
        };
        self.order_by.iter().map_while(place).collect()
    }
}

fn is(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

fn limit_in(words: &[String]) -> Option<usize> {
    let at = words.iter().rposition(|word| is(word, "limit"))?;
    words.get(at + 1)?.parse().ok()
}

/// The column that a term of ORDER BY names, or its whole text when it is more than a column.
fn term(words: &[String]) -> String {
    let ends = |word: &String| ["asc", "desc", "nulls"].iter().any(|end| is(word, end));
    let end = words.iter().position(ends).unwrap_or(words.len());
    let text = words[..end].concat();
    text.rsplit_once('.').map_or(text.as_str(), |(_, name)| name).to_owned()
}

/// The words outside of parentheses, each comma one of its own. What stands in parentheses is one word, `()`.
fn top_level(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut depth = 0_usize;
    for c in sql.chars() {
        match c {
            '(' => {
                depth += 1;
                if depth == 1 {
                    word.push_str("()");
                }
            }
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            c if c.is_whitespace() || c == ';' => end(&mut word, &mut words),
            ',' => {
                end(&mut word, &mut words);
                words.push(",".to_owned());
            }
            c => word.push(c),
        }
    }
    end(&mut word, &mut words);
    words
}

fn end(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> (Vec<String>, Option<usize>) {
        let rules = Rules::of(sql);
        (rules.order_by, rules.limit)
    }

    #[test]
    fn order_and_limit_are_read_from_the_text() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(of("SELECT a FROM t"), (vec![], None));
        assert_eq!(of("select a from t order by a limit 3;"), (names(&["a"]), Some(3)));
        let text = "SELECT rank() OVER (ORDER BY z) FROM (SELECT 1 ORDER BY y LIMIT 7) ORDER BY t.a DESC NULLS FIRST,\n 2, b - c";
        assert_eq!(of(text), (names(&["a", "2", "b-c"]), None));
    }

    #[test]
    fn what_follows_an_expression_orders_nothing() {
        let rules = Rules::of("SELECT a, b FROM t ORDER BY B, 1, a + b, 2");
        assert_eq!(rules.columns_of(&["a".to_owned(), "b".to_owned()]), [1, 0]);
        assert!(Rules::of("SELECT a FROM t ORDER BY 0, 9").columns_of(&["a".to_owned()]).is_empty());
    }
}
