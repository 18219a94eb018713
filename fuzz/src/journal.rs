//! What managers keep, and what they tell each other, which is JSON: an input is a byte that chooses what it is, and the text.

use serde_json::{Value, json};

use super::change::{Numbers, change_text};

/// The largest input that is changed: what is larger takes longer and finds no more.
const INPUT_BYTES_MAX: usize = 4096;
/// Kinds of texts: jobs, entries of the log, snapshots, and so on.
pub const KINDS: u8 = 8;

/// Changes an input, the same way for the same seed.
pub fn change(input: &mut Vec<u8>, seed: u64) {
    let n = &mut Numbers::new(seed);
    if input.len() < 2 || input.len() > INPUT_BYTES_MAX || n.below(64) == 0 {
        *input = valid(n.next());
        return;
    }
    let mut text = input.split_off(1);
    for _ in 0..=n.below(3) {
        change_text(&mut text, &WORDS, n);
    }
    input.append(&mut text);
}

const WORDS: [&str; 28] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"",
    ",",
    ":",
    "}",
    "]",
    "-1",
    "1e300",
    "1.5",
    "\"open\"",
    "\"launching\"",
    "\"submitted\"",
    "{\"failed\":{\"class\":\"User\",\"error\":{\"message\":\"a\"}}}",
    "{\"cancelled\":{\"reason\":\"a\"}}",
    "\"weight\":0",
    "\"ended\":1",
    "\"launch\":null",
    "\"conf\":{}",
    "\"worker\":\"\"",
    "\"log_id\"",
    "\"payload\"",
    "\"Blank\"",
    "\"Normal\"",
    "\"Membership\"",
    "\\ud800",
];

/// An input that is what it says.
#[must_use]
pub fn valid(seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    let kind = n.below(usize::from(KINDS)) as u8;
    let log_id = |n: &mut Numbers| json!({"leader_id": {"term": n.number(), "node_id": n.number()}, "index": n.number()});
    let vote =
        json!({"leader_id": {"term": n.number(), "node_id": n.number()}, "committed": n.below(2) == 0});
    let members = json!({"configs": [[1, 2, 3]], "nodes": {"1": {"addr": "a:1"}, "2": {"addr": "b:1"}, "3": {"addr": "c:1"}}});
    let text = match kind {
        0 => job(n),
        1 => entry(n),
        2 => {
            json!({"numbers": {"origin": n.number(), "epoch_seed": n.number(), "numbered": n.number()}, "jobs": {"7": job(n)}})
        }
        3 => {
            json!({"vote": vote, "prev_log_id": log_id(n), "entries": [entry(n)], "leader_commit": log_id(n)})
        }
        4 => json!({"vote": vote, "last_log_id": log_id(n)}),
        5 => {
            let membership = json!({"log_id": log_id(n), "membership": members});
            let meta = json!({"last_log_id": log_id(n), "last_membership": membership, "snapshot_id": "a"});
            json!({"vote": vote, "meta": meta, "offset": n.number(), "data": [], "done": true})
        }
        6 => vote,
        _ => json!({"log_id": log_id(n), "membership": members}),
    };
    [&[kind][..], text.to_string().as_bytes()].concat()
}

fn entry(n: &mut Numbers) -> Value {
    let payload = match n.below(3) {
        0 => json!("Blank"),
        1 => json!({"Normal": {"run_begins": {"unix_ms": n.number()}}}),
        _ => {
            let kept = if n.below(3) == 0 { Value::Null } else { job(n) };
            json!({"Normal": {"changes": {"run": n.number(), "numbered": n.number(), "jobs": {"7": kept}}}})
        }
    };
    json!({"log_id": {"leader_id": {"term": n.number(), "node_id": 1}, "index": n.number()}, "payload": payload})
}

fn job(n: &mut Numbers) -> Value {
    let number = n.below(6);
    let phase = match number {
        0 => json!("submitted"),
        1 => json!("launching"),
        2 => json!("open"),
        3 => json!({"succeeded": {"rows": n.number()}}),
        4 => json!({"failed": {"class": "User", "error": {"message": "a", "detail": null, "hint": "b"}}}),
        _ => json!({"cancelled": {"reason": "a"}}),
    };
    let may = |n: &mut Numbers, value: Value| if n.below(2) == 0 { value } else { Value::Null };
    let launch = json!({
        "conf": {"worker.cores": "2"}, "worker": "w0", "worker_address": "a:1", "worker_incarnation": "a",
        "launches": n.number() as u32, "result_address": null,
    });
    let times = [n.number(), n.number(), n.number(), n.number()];
    json!({
        "name": "a", "sql": "select 1", "user": "b", "driver_host": "h", "incarnation": "i", "queue": "q",
        "weight": n.number() as u32, "launch": may(n, launch), "phase": phase, "submitted": times[0],
        "started": may(n, json!(times[1])), "ended": if number > 2 { json!(times[2]) } else { Value::Null }, "cancelled": may(n, json!([times[3], "c"])),
    })
}
