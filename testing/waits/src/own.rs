//! Which functions are the project's own: their waits are looked at where they are written.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    Block, Expr, ExprCall, FnArg, ImplItemFn, Item, ItemFn, ItemMod, Pat, Signature, Stmt, TraitItemFn,
    UseTree,
};

use crate::CRATES;
use crate::judge::{arity_of, core_of, last_name, name_of_type};
use crate::names::{CLOCKS, TIMEOUTS};
use crate::sources::{Source, is_test};

/// A function of the project.
#[derive(Clone, Debug)]
struct Function {
    /// The crate that it is in.
    package: String,
    /// The type or trait that it is of.
    of: Option<String>,
    /// How many arguments it takes, itself aside.
    arity: usize,
    takes_self: bool,
    /// Whether what it hands back is waited for in its own text.
    waits_itself: bool,
    /// The argument that it puts a clock around.
    bounds: Option<usize>,
    /// Whether it ends when a time is over.
    is_clock: bool,
}

/// What is known of a function where it is called.
pub(crate) struct Called<'a> {
    pub package: &'a str,
    pub name: &'a str,
    pub arity: usize,
    pub is_method: bool,
}

/// The functions and modules of the project.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    functions: BTreeMap<String, Vec<Function>>,
    modules: BTreeSet<String>,
}

impl Own {
    /// Those of `sources`.
    pub(crate) fn of(sources: &[Source]) -> Self {
        let mut own = Self::default();
        for source in sources {
            own.modules.insert(source.module().to_owned());
            Reader { own: &mut own, package: source.package(), of: None }.visit_file(&source.tree);
        }
        own
    }

    /// Those that a crate can call: its own, and those of crates before it.
    pub(crate) fn seen_from(&self, package: &str) -> Self {
        let place = |package: &str| CRATES.iter().position(|known| *known == package);
        let mut seen = self.clone();
        seen.functions.values_mut().for_each(|f| f.retain(|f| place(&f.package) <= place(package)));
        seen
    }

    fn named(&self, name: &str) -> &[Function] {
        self.functions.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a method of any type is our own and waits in its own text.
    pub(crate) fn has_method(&self, name: &str, arity: usize) -> bool {
        self.named(name).iter().any(|f| f.takes_self && f.arity == arity && f.waits_itself)
    }

    /// The same of one type.
    pub(crate) fn has_method_of(&self, of: &str, name: &str, arity: usize) -> bool {
        let is_it = |f: &Function| f.of.as_deref() == Some(of) && f.takes_self && f.arity == arity;
        self.named(name).iter().any(|f| is_it(f) && f.waits_itself)
    }

    /// The same of a call by a path: `name(..)`, `module::name(..)`, `Type::name(..)`.
    pub(crate) fn has_call(&self, path: &[String], self_type: Option<&str>, uses: &Uses) -> bool {
        let Some((name, before)) = path.split_last() else { return false };
        if uses.is_foreign(&path[0]) {
            return false;
        }
        match before.last().map(String::as_str) {
            None => self.named(name).iter().any(|f| f.of.is_none() && f.waits_itself),
            Some("Self") => self.waits_of(self_type.unwrap_or_default(), name),
            Some(of) if of.starts_with(char::is_uppercase) => self.waits_of(of, name),
            Some(module) => {
                (self.is_our_module(module) && self.is_our_module(&path[0]))
                    && self.named(name).iter().any(|f| f.of.is_none() && f.waits_itself)
            }
        }
    }

    fn waits_of(&self, of: &str, name: &str) -> bool {
        self.named(name).iter().any(|f| f.of.as_deref() == Some(of) && f.waits_itself)
    }

    fn is_our_module(&self, name: &str) -> bool {
        is_our_root(name) || self.modules.contains(name)
    }

    /// Whether free functions of that name are ours.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.named(name).iter().any(|f| f.of.is_none())
    }

    /// Whether a method of a type is our own, of whatever kind.
    pub(crate) fn has_any_method_of(&self, of: &str, name: &str, arity: usize) -> bool {
        self.named(name).iter().any(|f| f.of.as_deref() == Some(of) && f.takes_self && f.arity == arity)
    }

    /// The argument that a call within a crate puts a clock around, if all functions there do that it may be a call of.
    pub(crate) fn bounded_argument(&self, called: &Called<'_>) -> Option<usize> {
        let Called { package, name, arity, is_method } = *called;
        let is_it = |f: &&Function| f.package == package && f.arity == arity && f.takes_self == is_method;
        let mut bounds = self.named(name).iter().filter(is_it).map(|f| f.bounds);
        let bounded = bounds.next()??;
        bounds.all(|other| other == Some(bounded)).then_some(bounded)
    }

    /// Whether all our functions of that name end when a time is over.
    pub(crate) fn is_clock(&self, name: &str) -> bool {
        let functions = self.named(name);
        !functions.is_empty() && functions.iter().all(|f| f.is_clock)
    }
}

fn is_our_root(name: &str) -> bool {
    ["crate", "self", "super"].contains(&name) || name.starts_with("firesteel_")
}

/// The names that a file has from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    foreign: BTreeSet<String>,
}

impl Uses {
    pub(crate) fn of(file: &syn::File) -> Self {
        let mut modules = BTreeSet::new();
        for item in &file.items {
            if let Item::Mod(module) = item {
                modules.insert(module.ident.to_string());
            }
        }
        let mut uses = Self::default();
        for item in &file.items {
            if let Item::Use(import) = item {
                let is_ours = matches!(&import.tree, UseTree::Path(path)
                    if is_our_root(&path.ident.to_string()) || modules.contains(&path.ident.to_string()));
                if !is_ours {
                    uses.add(&import.tree, "");
                }
            }
        }
        uses
    }

    fn add(&mut self, tree: &UseTree, parent: &str) {
        match tree {
            UseTree::Path(path) => self.add(&path.tree, &path.ident.to_string()),
            UseTree::Name(name) if name.ident == "self" => drop(self.foreign.insert(parent.to_owned())),
            UseTree::Name(name) => drop(self.foreign.insert(name.ident.to_string())),
            UseTree::Rename(rename) => drop(self.foreign.insert(rename.rename.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add(tree, parent)),
            UseTree::Glob(_) => {}
        }
    }

    pub(crate) fn is_foreign(&self, name: &str) -> bool {
        self.foreign.contains(name)
    }
}

struct Reader<'a> {
    own: &'a mut Own,
    package: &'a str,
    of: Option<String>,
}

impl Reader<'_> {
    fn add(&mut self, signature: &Signature, body: Option<&Block>) {
        let takes_self = matches!(signature.inputs.first(), Some(FnArg::Receiver(_)));
        let parameters: Vec<_> = signature.inputs.iter().skip(usize::from(takes_self)).collect();
        let function = Function {
            package: self.package.to_owned(),
            of: self.of.clone(),
            arity: parameters.len(),
            takes_self,
            waits_itself: signature.asyncness.is_some() || is_future_of_own_text(signature, body),
            bounds: parameters.iter().position(|parameter| body.is_some_and(|body| bounds(body, parameter))),
            is_clock: body.is_some_and(ends_with_clock),
        };
        self.own.functions.entry(signature.ident.to_string()).or_default().push(function);
    }
}

/// Whether a function that is not `async` makes its future of an async block, or is only declared.
fn is_future_of_own_text(signature: &Signature, body: Option<&Block>) -> bool {
    match body {
        Some(body) => has_word(&body.to_token_stream().to_string(), "async"),
        None => signature.output.to_token_stream().to_string().contains("Future"),
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// Whether `body` hands `parameter` to a timeout.
fn bounds(body: &Block, parameter: &FnArg) -> bool {
    let FnArg::Typed(typed) = parameter else { return false };
    let Pat::Ident(name) = &*typed.pat else { return false };
    let mut finder = Bounded { name: name.ident.to_string(), found: false };
    finder.visit_block(body);
    finder.found
}

struct Bounded {
    name: String,
    found: bool,
}

impl<'ast> Visit<'ast> for Bounded {
    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let is_timeout = last_name(&call.func).is_some_and(|name| TIMEOUTS.contains(&name.as_str()));
        let last = call.args.last().filter(|_| is_timeout);
        self.found |= last.is_some_and(|argument| name_of(argument).as_deref() == Some(self.name.as_str()));
        visit::visit_expr_call(self, call);
    }
}

/// The variable that an argument is, if it is one.
pub(crate) fn name_of(argument: &Expr) -> Option<String> {
    match core_of(argument) {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    }
}

/// Whether the last thing that a function does is to wait for a time.
fn ends_with_clock(body: &Block) -> bool {
    let Some(Stmt::Expr(Expr::Await(last), _)) = body.stmts.last() else { return false };
    match core_of(&last.base) {
        Expr::Call(call) => last_name(&call.func).is_some_and(|name| CLOCKS.contains(&name.as_str())),
        Expr::MethodCall(call) => call.method == "tick" && arity_of(call) == 0,
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            self.own.modules.insert(module.ident.to_string());
            visit::visit_item_mod(self, module);
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

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let before = self.of.take();
        self.add(&function.sig, Some(&function.block));
        visit::visit_item_fn(self, function);
        self.of = before;
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig, Some(&function.block));
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        self.add(&function.sig, function.default.as_ref());
        visit::visit_trait_item_fn(self, function);
    }
}
