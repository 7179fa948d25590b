// SPDX-License-Identifier: MPL-2.0

//! Reading the attribute's argument and the function it stands on.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Error, Ident, Result, Signature, Token, Type, Visibility,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
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
            return Err(input.error(format!("no rights are named; {USAGE}")));
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
            input.parse::<Token![>=]>()?;
            Demand::Set(input.parse()?)
        } else if input.peek(Token![>]) && !input.peek(Token![>>]) {
            input.parse::<Token![>]>()?;
            Demand::Rights(parse_rights(input)?)
        } else if input.is_empty() {
            return Err(Error::new(subject.span(), format!("nothing is required of `{subject}`; {USAGE}")));
        } else {
            return Err(input.error(format!("neither `>` nor `>=`; {USAGE}")));
        };
        if !input.is_empty() && !input.peek(Token![,]) {
            return Err(input.error(format!("not the end of the requirement; {USAGE}")));
        }
        Ok(Self { subject, demand })
    }
}

/// Reads `Read | Write`: at least one right, each named once.
fn parse_rights(input: ParseStream) -> Result<Vec<Ident>> {
    let mut rights: Vec<Ident> = Vec::new();
    loop {
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
        input.parse::<Token![|]>()?;
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
