//! What an expression that is awaited waits for, as far as its text tells.

use std::collections::HashMap;

use syn::{Expr, ExprCall, ExprMethodCall, Macro, Path, Type};

use crate::names::{ADAPTERS, AWAITED, CALLS, CLOCKS, ENDING, SILENT, WRAPPERS};
use crate::own::{Own, Uses};

/// What waiting for an expression comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What it waits for is looked at elsewhere, or it ends by itself.
    Fine,
    /// It ends when a time is over.
    Clock,
    /// It waits for these.
    Waits(Vec<String>),
}

/// What is known where an expression is.
pub(crate) struct Judge<'a> {
    pub own: &'a Own,
    pub uses: &'a Uses,
    pub self_type: Option<&'a str>,
    /// What the function's variables were bound to.
    pub variables: &'a HashMap<String, Verdict>,
}

impl Judge<'_> {
    pub(crate) fn judge(&self, awaited: &Expr) -> Verdict {
        match core_of(awaited) {
            Expr::Async(_) => Verdict::Fine,
            Expr::Closure(closure) => self.judge(&closure.body),
            Expr::Call(call) => self.judge_call(call),
            Expr::MethodCall(call) => self.judge_method(call),
            Expr::Macro(call) => self.judge_macro(&call.mac),
            Expr::Path(path) => self.judge_variable(&path.path),
            other => waits(short(other)),
        }
    }

    fn judge_variable(&self, path: &Path) -> Verdict {
        let name = path.get_ident().map(ToString::to_string).unwrap_or_default();
        match self.variables.get(&name) {
            Some(known @ (Verdict::Fine | Verdict::Clock)) => known.clone(),
            _ => waits(name),
        }
    }

    fn judge_call(&self, call: &ExprCall) -> Verdict {
        let Expr::Path(function) = core_of(&call.func) else { return waits(short(&call.func)) };
        let path = segments(&function.path);
        let Some(name) = path.last() else { return waits(short(&call.func)) };
        if let [name] = path.as_slice()
            && self.variables.get(name) == Some(&Verdict::Fine)
        {
            return Verdict::Fine;
        }
        if self.own.has_call(&path, self.self_type, self.uses) {
            return if self.own.is_clock(name) { Verdict::Clock } else { Verdict::Fine };
        }
        match (name.as_str(), call.args.first()) {
            (name, _) if CLOCKS.contains(&name) => Verdict::Clock,
            (name, _) if ENDING.contains(&name) => Verdict::Fine,
            (name, Some(inner)) if is_wrapper(&path, name) => self.judge(inner),
            _ => waits(path[path.len().saturating_sub(2)..].join("::")),
        }
    }

    fn judge_method(&self, call: &ExprMethodCall) -> Verdict {
        let (name, arity) = (call.method.to_string(), arity_of(call));
        if self.is_own_method(call) {
            return if self.own.is_clock(&name) { Verdict::Clock } else { Verdict::Fine };
        }
        if name == "tick" && arity == 0 {
            return Verdict::Clock;
        }
        if ADAPTERS.contains(&name.as_str()) {
            return self.judge(&call.receiver);
        }
        waits(short_call(call))
    }

    /// Whether a method that is called is our own. One that libraries have too is so only when it is called on `self`.
    fn is_own_method(&self, call: &ExprMethodCall) -> bool {
        let (name, arity) = (call.method.to_string(), arity_of(call));
        let is_of_self = self.on_self(call).is_some_and(|of| self.own.has_method_of(of, &name, arity));
        is_of_self || self.is_told_apart(&name, arity)
    }

    /// Whether a method is called on `self` and is of its type: it is looked at there.
    pub(crate) fn is_of_self(&self, call: &ExprMethodCall) -> bool {
        let (name, arity) = (call.method.to_string(), arity_of(call));
        self.on_self(call).is_some_and(|of| self.own.has_any_method_of(of, &name, arity))
    }

    fn on_self(&self, call: &ExprMethodCall) -> Option<&str> {
        match core_of(&call.receiver) {
            Expr::Path(path) if path.path.is_ident("self") => self.self_type,
            _ => None,
        }
    }

    fn is_told_apart(&self, name: &str, arity: usize) -> bool {
        !AWAITED.contains(&(name, arity)) && !CALLS.contains(&name) && self.own.has_method(name, arity)
    }

    fn judge_macro(&self, call: &Macro) -> Verdict {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        match arguments(call) {
            Some(arguments) if ["join", "try_join", "pin"].contains(&name.as_str()) => {
                let all = arguments.iter().map(|argument| self.judge(argument));
                let all: Vec<_> = all.filter_map(Verdict::into_waits).flatten().collect();
                if all.is_empty() { Verdict::Fine } else { Verdict::Waits(all) }
            }
            _ => waits(format!("{name}!")),
        }
    }
}

impl Verdict {
    pub(crate) fn into_waits(self) -> Option<Vec<String>> {
        match self {
            Self::Waits(waits) => Some(waits),
            Self::Fine | Self::Clock => None,
        }
    }
}

fn waits(what: String) -> Verdict {
    Verdict::Waits(vec![what])
}

fn is_wrapper(path: &[String], name: &str) -> bool {
    WRAPPERS.contains(&name) || path.len() > 1 && path[path.len() - 2] == "Pin" && name == "new"
}

/// A macro's arguments, when they are expressions.
pub(crate) fn arguments(call: &Macro) -> Option<Vec<Expr>> {
    let parser = syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated;
    call.parse_body_with(parser).ok().map(|arguments| arguments.into_iter().collect())
}

pub(crate) fn arity_of(call: &ExprMethodCall) -> usize {
    call.args.len()
}

pub(crate) fn segments(path: &Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

/// The last name of a function that is called by its path.
pub(crate) fn last_name(function: &Expr) -> Option<String> {
    match core_of(function) {
        Expr::Path(path) => segments(&path.path).pop(),
        _ => None,
    }
}

/// An expression without parentheses, references and the like.
pub(crate) fn core_of(expression: &Expr) -> &Expr {
    match expression {
        Expr::Paren(inner) => core_of(&inner.expr),
        Expr::Group(inner) => core_of(&inner.expr),
        Expr::Reference(inner) => core_of(&inner.expr),
        Expr::Unary(inner) if matches!(inner.op, syn::UnOp::Deref(_)) => core_of(&inner.expr),
        Expr::Try(inner) => core_of(&inner.expr),
        other => other,
    }
}

/// `receiver.method`, the receiver by its last name.
pub(crate) fn short_call(call: &ExprMethodCall) -> String {
    format!("{}.{}", short(&call.receiver), call.method)
}

/// The last name in an expression.
pub(crate) fn short(expression: &Expr) -> String {
    match core_of(expression) {
        Expr::Path(path) => segments(&path.path).pop().unwrap_or_default(),
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => name.to_string(),
            syn::Member::Unnamed(index) => format!("{}.{}", short(&field.base), index.index),
        },
        Expr::MethodCall(call) if SILENT.contains(&call.method.to_string().as_str()) => short(&call.receiver),
        Expr::MethodCall(call) => call.method.to_string(),
        Expr::Call(call) => short_function(call),
        Expr::Index(index) => short(&index.expr),
        Expr::Await(awaited) => short(&awaited.base),
        Expr::Macro(call) => format!("{}!", segments(&call.mac.path).pop().unwrap_or_default()),
        Expr::Block(_) | Expr::Unsafe(_) => "block".to_owned(),
        Expr::If(_) => "if".to_owned(),
        Expr::Match(_) => "match".to_owned(),
        _ => "expression".to_owned(),
    }
}

fn short_function(call: &ExprCall) -> String {
    match (last_name(&call.func).as_deref(), call.args.first()) {
        (Some("clone" | "pin" | "new"), Some(inner)) => short(inner),
        (Some(name), _) => name.to_owned(),
        (None, _) => short(&call.func),
    }
}

/// The name of a type without its parameters.
pub(crate) fn name_of_type(of: &Type) -> String {
    match of {
        Type::Path(path) => segments(&path.path).pop().unwrap_or_default(),
        Type::Reference(reference) => name_of_type(&reference.elem),
        _ => "type".to_owned(),
    }
}
