//! Reading `select!`: a macro's arms are tokens until somebody parses them.

use syn::parse::{Parse, ParseStream};
use syn::{Expr, Pat, Token};

/// One arm of a `select!`.
pub(crate) struct Arm {
    /// What it waits for; none for `else` and the like.
    pub future: Option<Expr>,
    /// Whether it is only looked at under a condition.
    pub is_conditional: bool,
    /// The condition and what is done then.
    pub handlers: Vec<Expr>,
}

/// A `select!` of tokio or futures.
pub(crate) struct Select {
    pub arms: Vec<Arm>,
}

mod word {
    syn::custom_keyword!(biased);
}

impl Parse for Select {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        if input.peek(word::biased) && input.peek2(Token![;]) {
            input.parse::<word::biased>()?;
            input.parse::<Token![;]>()?;
        }
        let mut arms = Vec::new();
        while !input.is_empty() {
            arms.push(input.parse()?);
        }
        Ok(Self { arms })
    }
}

impl Parse for Arm {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let (mut future, mut handlers) = (None, Vec::new());
        if input.peek(Token![else]) {
            input.parse::<Token![else]>()?;
        } else {
            Pat::parse_multi_with_leading_vert(input)?;
            if input.peek(Token![=]) && !input.peek(Token![=>]) {
                input.parse::<Token![=]>()?;
                future = Some(input.parse()?);
            }
        }
        let is_conditional = input.peek(Token![,]);
        if is_conditional {
            input.parse::<Token![,]>()?;
            input.parse::<Token![if]>()?;
            handlers.push(input.parse()?);
        }
        input.parse::<Token![=>]>()?;
        handlers.push(Expr::parse_with_earlier_boundary_rule(input)?);
        input.parse::<Option<Token![,]>>()?;
        Ok(Self { future, is_conditional, handlers })
    }
}
