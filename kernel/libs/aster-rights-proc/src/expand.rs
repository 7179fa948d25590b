// SPDX-License-Identifier: MPL-2.0

//! Turning requirements into where clauses.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Error, Generics, Ident, Result, WherePredicate, parse_quote_spanned, spanned::Spanned};

use crate::parse::{Demand, Function, Requirement, Requirements};

/// Adds to the function the where clauses that the requirements stand for.
///
/// # Errors
///
/// A right that is the name of a type parameter, and so a set.
pub fn expand(requirements: Requirements, mut function: Function) -> Result<TokenStream> {
    let mut predicates = Vec::new();
    for requirement in &requirements.0 {
        predicates.extend(where_predicates(requirement, &function.sig.generics)?);
    }
    function.sig.generics.make_where_clause().predicates.extend(predicates);

    let Function { attrs, vis, sig, rest } = function;
    Ok(quote! { #(#attrs)* #vis #sig #rest })
}

/// The where clauses of one requirement. Each has the place of the right or set that it comes from, to which
/// the compiler's messages then point.
fn where_predicates(requirement: &Requirement, generics: &Generics) -> Result<Vec<WherePredicate>> {
    let subject = &requirement.subject;
    match &requirement.demand {
        Demand::Rights(rights) => {
            rights.iter().map(|right| right_predicate(subject, right, generics)).collect()
        }
        Demand::Set(set) => {
            Ok(vec![parse_quote_spanned! { set.span() => #subject: ::aster_rights::Includes<#set> }])
        }
    }
}

fn right_predicate(subject: &Ident, right: &Ident, generics: &Generics) -> Result<WherePredicate> {
    if generics.type_params().any(|param| param.ident == *right) {
        let message =
            format!("`{right}` is a set of rights, not a right; `{subject} >= {right}` requires all of them");
        return Err(Error::new(right.span(), message));
    }
    let path = quote_spanned! { right.span() => ::aster_rights::#right };
    Ok(parse_quote_spanned! { right.span() => #subject: ::aster_rights::Contains<#path> })
}
