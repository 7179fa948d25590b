// SPDX-License-Identifier: MPL-2.0

//! Reading the attribute's argument and the function it stands on.

use proc_macro2::{Span, TokenStream};
use syn::{
    Attribute, Error, Ident, Result, Signature, Token, Type, Visibility,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    spanned::Spanned,
};

const USAGE: &str = "rights are required as in `R > Read | Write`, those of a set `S` as in `R >= S`";

/// What one attribute requires: `R > Read | Write, R >= S`.
pub struct Requirements(pub Vec<Requirement>);

/// What is required of one type parameter.
pub struct Requirement {
    /// The type parameter.
    pub subject: Ident,
    pub demand: Demand,
}

/// What a set of rights must have.
pub enum Demand {
    /// Each of these rights.
    Rights(Vec<Ident>),
    /// All the rights of this set.
    Set(Box<Type>),
}

impl Parse for Requirements {
    fn parse(input: ParseStream) -> Result<Self> {
        if input.is_empty() {
            return Err(Error::new(input.span(), format!("no rights are named; {USAGE}")));
        }
        let list = Punctuated::<Requirement, Token![,]>::parse_terminated(input)?;
        Ok(Self(list.into_iter().collect()))
    }
}

impl Parse for Requirement {
    fn parse(input: ParseStream) -> Result<Self> {
        let subject: Ident = input.parse().map_err(|error| {
            Error::new(error.span(), format!("not the name of a type parameter; {USAGE}"))
        })?;
        let demand = if input.peek(Token![>=]) {
            let operator: Token![>=] = input.parse()?;
            Demand::Set(Box::new(parse_set(input, operator.span())?))
        } else if input.peek(Token![>]) && !input.peek(Token![>>]) {
            let operator: Token![>] = input.parse()?;
            Demand::Rights(parse_rights(input, operator.span())?)
        } else if input.is_empty() || input.peek(Token![,]) {
            return Err(Error::new(subject.span(), format!("nothing is required of `{subject}`; {USAGE}")));
        } else {
            return Err(Error::new(input.span(), format!("neither `>` nor `>=`; {USAGE}")));
        };
        if !input.is_empty() && !input.peek(Token![,]) {
            return Err(Error::new(input.span(), format!("not the end of the requirement; {USAGE}")));
        }
        Ok(Self { subject, demand })
    }
}

/// Reads the type after the operator `>=`, which stands at `operator`.
fn parse_set(input: ParseStream, operator: Span) -> Result<Type> {
    if input.is_empty() {
        return Err(Error::new(operator, format!("no set of rights follows; {USAGE}")));
    }
    input.parse()
}

/// Reads `Read | Write`, at least one right and each named once, after the operator `>`, which stands at
/// `operator`.
fn parse_rights(input: ParseStream, mut operator: Span) -> Result<Vec<Ident>> {
    let mut rights: Vec<Ident> = Vec::new();
    loop {
        if input.is_empty() {
            return Err(Error::new(operator, format!("no right follows; {USAGE}")));
        }
        let right: Ident = input
            .parse()
            .map_err(|error| Error::new(error.span(), format!("not the name of a right; {USAGE}")))?;
        if rights.contains(&right) {
            return Err(Error::new(right.span(), format!("the right `{right}` is named twice")));
        }
        rights.push(right);
        if !input.peek(Token![|]) {
            return Ok(rights);
        }
        operator = input.parse::<Token![|]>()?.span();
    }
}

/// A function of any kind: free, method, or declared in a trait without a body.
pub struct Function {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub sig: Signature,
    /// The body, or a semicolon. Not looked at.
    pub rest: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let start = input.span();
        let sig = input.parse().map_err(|_| {
            Error::new(start, "the attribute `require` stands on something other than a function")
        })?;
        let rest = input.parse()?;
        Ok(Self { attrs, vis, sig, rest })
    }
}
