//! Waits that stop their thread.

use std::collections::BTreeSet;

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, ExprMethodCall, Field, FnArg, Local, Pat, Type};

use crate::judge::{arity_of, core_of, last_name, short};
use crate::names::{BLOCKING, BLOCKING_CALLS, BLOCKING_ON_ENDS, ENDS};

/// What a file says of what its names are.
pub(crate) struct Ends {
    /// Whether it has anything with somebody at its other end.
    has_peers: bool,
    has_threads: bool,
    /// Receivers of threads' channels, which a loop may go over.
    receivers: BTreeSet<String>,
}

impl Ends {
    pub(crate) fn of(file: &syn::File) -> Self {
        let text = file.to_token_stream().to_string();
        let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let mut ends = Self {
            has_peers: words.iter().any(|word| ENDS.contains(word)),
            has_threads: words.contains(&"JoinHandle") || words.contains(&"spawn"),
            receivers: BTreeSet::new(),
        };
        ends.visit_file(file);
        ends
    }

    /// Whether a method that nobody awaits stops its thread.
    pub(crate) fn blocks(&self, call: &ExprMethodCall) -> bool {
        let (name, arity) = (call.method.to_string(), arity_of(call));
        let key = (name.as_str(), arity);
        let reads_lines = key == ("lines", 0) && reads(&call.receiver);
        if key == ("join", 0) {
            return self.has_threads;
        }
        BLOCKING.contains(&key) || self.has_peers && (BLOCKING_ON_ENDS.contains(&key) || reads_lines)
    }

    /// Whether a loop over `iterated` waits for a channel.
    pub(crate) fn is_receiver(&self, iterated: &Expr) -> bool {
        let inner = match core_of(iterated) {
            Expr::MethodCall(call) if ["iter", "into_iter"].contains(&call.method.to_string().as_str()) => {
                &call.receiver
            }
            other => other,
        };
        matches!(core_of(inner), Expr::Path(_) | Expr::Field(_)) && self.receivers.contains(&short(inner))
    }

    fn note(&mut self, name: Option<String>, of: &Type) {
        let text = of.to_token_stream().to_string();
        let is_receiver = text.split(' ').any(|word| word == "Receiver");
        self.receivers.extend(name.filter(|_| is_receiver));
    }
}

/// Whether what lines are taken from is read meanwhile: lines of a text are there already.
fn reads(receiver: &Expr) -> bool {
    let text = receiver.to_token_stream().to_string();
    ["stdin", "BufReader", "reader"].iter().any(|word| text.contains(word))
}

/// Whether a function that is called stops its thread.
pub(crate) fn call_blocks(call: &ExprCall) -> bool {
    last_name(&call.func).is_some_and(|name| BLOCKING_CALLS.contains(&name.as_str()))
}

impl<'ast> Visit<'ast> for Ends {
    fn visit_field(&mut self, field: &'ast Field) {
        self.note(field.ident.as_ref().map(ToString::to_string), &field.ty);
    }

    fn visit_fn_arg(&mut self, argument: &'ast FnArg) {
        if let FnArg::Typed(typed) = argument
            && let Pat::Ident(name) = &*typed.pat
        {
            self.note(Some(name.ident.to_string()), &typed.ty);
        }
    }

    fn visit_local(&mut self, local: &'ast Local) {
        let made = local.init.as_ref().and_then(|init| match core_of(&init.expr) {
            Expr::Call(call) => last_name(&call.func),
            _ => None,
        });
        if let (Pat::Tuple(pair), Some("channel" | "sync_channel")) = (&local.pat, made.as_deref())
            && let Some(Pat::Ident(receiver)) = pair.elems.last()
        {
            self.receivers.insert(receiver.ident.to_string());
        }
        visit::visit_local(self, local);
    }
}
