//! Going through the sources and finding the waits.

use std::collections::{BTreeSet, HashMap};

use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Expr, ExprAwait, ExprCall, ExprForLoop, ExprMethodCall, ImplItem, Item, Local, Macro,
    Pat, Signature, Stmt, Token,
};

use crate::blocking::{Ends, call_blocks};
use crate::judge::{
    Judge, Verdict, arguments, core_of, last_name, name_of_type, segments, short, short_call,
};
use crate::names::{ADAPTERS, SPAWNS, TIMEOUTS};
use crate::own::{Called, Own, Uses, name_of};
use crate::select::Select;
use crate::sources::{Source, is_test};
use crate::{CRATES, Wait};

#[cfg(test)]
mod tests;

/// The waits without a deadline in `sources` of [`CRATES`], by file and line.
pub fn find(sources: &[Source]) -> Vec<Wait> {
    let own = Own::of(sources);
    let seen = CRATES.map(|package| (package, own.seen_from(package)));
    let mut waits = Vec::new();
    for (package, own) in &seen {
        let sources = sources.iter().filter(|source| source.package() == *package);
        waits.extend(sources.flat_map(|source| find_in(source, own)));
    }
    waits.sort_by_key(|wait| (wait.file.clone(), wait.line));
    waits
}

fn find_in(source: &Source, own: &Own) -> Vec<Wait> {
    let mut finder = Finder {
        own,
        uses: Uses::of(&source.tree),
        ends: Ends::of(&source.tree),
        file: &source.path,
        package: source.package(),
        of: None,
        scope: Scope::default(),
        waits: Vec::new(),
    };
    finder.visit_file(&source.tree);
    finder.waits
}

/// What is known within a function.
#[derive(Default)]
struct Scope {
    function: String,
    /// Whether a clock runs over what is looked at.
    is_timed: bool,
    /// Variables that a clock runs over where they are used.
    timed: BTreeSet<String>,
    variables: HashMap<String, Verdict>,
}

struct Finder<'a> {
    own: &'a Own,
    uses: Uses,
    ends: Ends,
    file: &'a str,
    package: &'a str,
    of: Option<String>,
    scope: Scope,
    waits: Vec<Wait>,
}

impl Finder<'_> {
    fn judge(&self) -> Judge<'_> {
        Judge {
            own: self.own,
            uses: &self.uses,
            self_type: self.of.as_deref(),
            variables: &self.scope.variables,
        }
    }

    fn report(&mut self, at: &impl Spanned, what: String) {
        if !self.scope.is_timed {
            let (file, function) = (self.file.to_owned(), self.scope.function.clone());
            self.waits.push(Wait { file, function, what, line: at.span().start().line });
        }
    }

    fn in_function(&mut self, signature: &Signature, body: &Block) {
        let name = signature.ident.to_string();
        let function = self.of.as_ref().map_or_else(|| name.clone(), |of| format!("{of}::{name}"));
        let mut timed = Timed { own: self.own, package: self.package, names: BTreeSet::new() };
        timed.visit_block(body);
        let scope = Scope { function, timed: timed.names, ..Scope::default() };
        let before = std::mem::replace(&mut self.scope, scope);
        let is_poll = name.starts_with("poll") && has_word(&signature.inputs, "Context");
        if is_poll {
            self.report(&signature.ident, name);
        }
        self.visit_block(body);
        self.scope = before;
    }

    /// Visits with a clock running, or with none.
    fn timed(&mut self, is_timed: bool, visit: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.scope.is_timed, is_timed);
        visit(self);
        self.scope.is_timed = before;
    }

    /// Visits what is within an expression that is waited for; that it is has been judged.
    fn visit_awaited(&mut self, awaited: &Expr) {
        match core_of(awaited) {
            Expr::Call(call) => self.visit_arguments(call),
            Expr::MethodCall(call) if ADAPTERS.contains(&call.method.to_string().as_str()) => {
                self.visit_awaited(&call.receiver);
                self.visit_method_arguments(call);
            }
            Expr::MethodCall(call) => {
                self.visit_expr(&call.receiver);
                self.visit_method_arguments(call);
            }
            other => visit::visit_expr(self, other),
        }
    }

    fn visit_arguments(&mut self, call: &ExprCall) {
        let name = last_name(&call.func).unwrap_or_default();
        self.visit_expr(&call.func);
        self.visit_each(&name, &call.args, bounded_of_call(self.own, self.package, call));
    }

    fn visit_method_arguments(&mut self, call: &ExprMethodCall) {
        let bounded = bounded_of_method(self.own, self.package, call);
        self.visit_each(&call.method.to_string(), &call.args, bounded);
    }

    fn visit_each(&mut self, called: &str, arguments: &Punctuated<Expr, Token![,]>, bounded: Option<usize>) {
        let is_spawn = SPAWNS.contains(&called);
        for (at, argument) in arguments.iter().enumerate() {
            if bounded == Some(at) {
                self.timed(true, |finder| finder.visit_awaited(argument));
            } else {
                let is_timed = self.scope.is_timed && !is_spawn;
                self.timed(is_timed, |finder| finder.visit_expr(argument));
            }
        }
    }

    /// A `select!` is one wait, for all its arms.
    fn visit_select(&mut self, call: &Macro, select: &Select) {
        if !has_clock(select, &self.judge()) {
            let futures = select.arms.iter().filter_map(|arm| arm.future.as_ref());
            let waited: Vec<_> = futures.map(|future| self.waited_in(future)).collect();
            self.report(call, format!("select of {}", waited.join(", ")));
        }
        for arm in &select.arms {
            if let Some(future) = &arm.future {
                self.timed(true, |finder| finder.visit_awaited(future));
            }
            arm.handlers.iter().for_each(|handler| self.visit_expr(handler));
        }
    }

    fn waited_in(&self, future: &Expr) -> String {
        match self.judge().judge(future) {
            Verdict::Waits(waits) => waits.join(", "),
            Verdict::Fine | Verdict::Clock => short(future),
        }
    }
}

/// Whether a clock runs in a `select!` at all times.
fn has_clock(select: &Select, judge: &Judge<'_>) -> bool {
    let mut always =
        select.arms.iter().filter(|arm| !arm.is_conditional).filter_map(|arm| arm.future.as_ref());
    always.any(|future| judge.judge(future) == Verdict::Clock)
}

/// The argument of a call that a clock runs over.
fn bounded_of_call(own: &Own, package: &str, call: &ExprCall) -> Option<usize> {
    let (name, arity) = (last_name(&call.func)?, call.args.len());
    if TIMEOUTS.contains(&name.as_str()) && !own.has_function(&name) {
        return arity.checked_sub(1);
    }
    own.bounded_argument(&Called { package, name: &name, arity, is_method: false })
}

/// The same of a method's call.
fn bounded_of_method(own: &Own, package: &str, call: &ExprMethodCall) -> Option<usize> {
    let (name, arity) = (call.method.to_string(), call.args.len());
    own.bounded_argument(&Called { package, name: &name, arity, is_method: true })
}

fn has_word(tokens: &impl ToTokens, word: &str) -> bool {
    let text = tokens.to_token_stream().to_string();
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes_of_item(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(function) if is_test(&function.attrs) => {}
            item => visit::visit_impl_item(self, item),
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if !is_test(attributes_of_statement(statement)) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let before = self.of.replace(name_of_type(&block.self_ty));
        visit::visit_item_impl(self, block);
        self.of = before;
    }

    fn visit_item_trait(&mut self, block: &'ast syn::ItemTrait) {
        let before = self.of.replace(block.ident.to_string());
        visit::visit_item_trait(self, block);
        self.of = before;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        let before = self.of.take();
        self.in_function(&function.sig, &function.block);
        self.of = before;
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.in_function(&function.sig, &function.block);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.in_function(&function.sig, body);
        }
    }

    fn visit_local(&mut self, local: &'ast Local) {
        let name = match &local.pat {
            Pat::Ident(name) => Some(name.ident.to_string()),
            _ => None,
        };
        let is_timed = name.as_ref().is_some_and(|name| self.scope.timed.contains(name));
        self.timed(self.scope.is_timed || is_timed, |finder| visit::visit_local(finder, local));
        if let (Some(name), Some(init)) = (name, &local.init) {
            let verdict = self.judge().judge(&init.expr);
            self.scope.variables.insert(name, verdict);
        }
    }

    fn visit_expr_await(&mut self, awaited: &'ast ExprAwait) {
        for what in self.judge().judge(&awaited.base).into_waits().into_iter().flatten() {
            self.report(&awaited.await_token, what);
        }
        self.visit_awaited(&awaited.base);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if self.ends.blocks(call) && !self.judge().is_of_self(call) {
            self.report(&call.method, short_call(call));
        }
        self.visit_expr(&call.receiver);
        self.visit_method_arguments(call);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let name = last_name(&call.func).unwrap_or_default();
        if call_blocks(call) || name == "poll_fn" {
            self.report(call, name);
        }
        self.visit_arguments(call);
    }

    fn visit_expr_for_loop(&mut self, round: &'ast ExprForLoop) {
        if self.ends.is_receiver(&round.expr) {
            self.report(&round.expr, format!("{} in a loop", short(&round.expr)));
        }
        visit::visit_expr_for_loop(self, round);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let name = segments(&call.path).pop().unwrap_or_default();
        if name.starts_with("select") {
            match call.parse_body::<Select>() {
                Ok(select) => self.visit_select(call, &select),
                Err(_) => self.report(call, format!("{name}!")),
            }
        } else if let Some(arguments) = arguments(call) {
            arguments.iter().for_each(|argument| self.visit_argument(&name, argument));
        } else if has_word(&call.tokens, "await") {
            self.report(call, format!("{name}!"));
        }
    }
}

impl Finder<'_> {
    /// The futures that `join!` is given are waited for at its place.
    fn visit_argument(&mut self, called: &str, argument: &Expr) {
        if !["join", "try_join"].contains(&called) {
            return self.visit_expr(argument);
        }
        for what in self.judge().judge(argument).into_waits().into_iter().flatten() {
            self.report(argument, what);
        }
        self.visit_awaited(argument);
    }
}

/// Finds the variables of a function that are handed to a clock, or wait beside one.
struct Timed<'a> {
    own: &'a Own,
    package: &'a str,
    names: BTreeSet<String>,
}

impl Timed<'_> {
    fn note(&mut self, arguments: &Punctuated<Expr, Token![,]>, bounded: Option<usize>) {
        self.names.extend(bounded.and_then(|at| arguments.get(at)).and_then(name_of));
    }
}

impl<'ast> Visit<'ast> for Timed<'_> {
    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        self.note(&call.args, bounded_of_call(self.own, self.package, call));
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.note(&call.args, bounded_of_method(self.own, self.package, call));
        visit::visit_expr_method_call(self, call);
    }

    fn visit_item(&mut self, _: &'ast Item) {}

    fn visit_macro(&mut self, call: &'ast Macro) {
        if let Ok(select) = call.parse_body::<Select>() {
            for arm in select.arms {
                arm.future.iter().for_each(|future| self.look_into(future));
                arm.handlers.iter().for_each(|handler| self.look_into(handler));
            }
        } else {
            arguments(call).iter().flatten().for_each(|argument| self.look_into(argument));
        }
    }
}

impl Timed<'_> {
    /// What a macro was given lives no longer than this.
    fn look_into(&mut self, expression: &Expr) {
        let mut inner = Timed { own: self.own, package: self.package, names: BTreeSet::new() };
        inner.visit_expr(expression);
        self.names.append(&mut inner.names);
    }
}

fn attributes_of_item(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn attributes_of_statement(statement: &Stmt) -> &[Attribute] {
    match statement {
        Stmt::Local(local) => &local.attrs,
        Stmt::Macro(call) => &call.attrs,
        Stmt::Item(_) => &[],
        Stmt::Expr(expression, _) => match expression {
            Expr::Await(inner) => &inner.attrs,
            Expr::Block(inner) => &inner.attrs,
            Expr::Call(inner) => &inner.attrs,
            Expr::If(inner) => &inner.attrs,
            Expr::MethodCall(inner) => &inner.attrs,
            Expr::Try(inner) => &inner.attrs,
            _ => &[],
        },
    }
}
