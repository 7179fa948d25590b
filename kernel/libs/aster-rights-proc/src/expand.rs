// SPDX-License-Identifier: MPL-2.0

//! Turning requirements into bounds.
//!
//! A bound goes where the other bounds of its parameter are: into the function's generics if the parameter is
//! declared there with bounds, else into the where clause. In two places at once it would be right too, but
//! clippy warns of it, where the attribute is used.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Error, Generics, Ident, Result, TypeParamBound, parse_quote, parse_quote_spanned, spanned::Spanned,
};

use crate::parse::{Demand, Function, Requirement, Requirements};

/// Adds to the function the bounds that the requirements stand for.
///
/// # Errors
///
/// A right that is the name of a type parameter, and so a set.
pub fn expand(requirements: Requirements, mut function: Function) -> Result<TokenStream> {
    let generics = &mut function.sig.generics;
    for requirement in &requirements.0 {
        let bounds = bounds(requirement, generics)?;
        add(generics, &requirement.subject, bounds);
    }

    let Function { attrs, vis, sig, rest } = function;
    Ok(quote! { #(#attrs)* #vis #sig #rest })
}

/// The bounds that one requirement stands for. Each has the place of the right or set that it comes from, to
/// which the compiler's messages then point.
fn bounds(requirement: &Requirement, generics: &Generics) -> Result<Vec<TypeParamBound>> {
    match &requirement.demand {
        Demand::Rights(rights) => {
            rights.iter().map(|right| right_bound(&requirement.subject, right, generics)).collect()
        }
        Demand::Set(set) => Ok(vec![parse_quote_spanned! { set.span() => ::aster_rights::Includes<#set> }]),
    }
}

fn right_bound(subject: &Ident, right: &Ident, generics: &Generics) -> Result<TypeParamBound> {
    if generics.type_params().any(|param| param.ident == *right) {
        let message =
            format!("`{right}` is a set of rights, not a right; `{subject} >= {right}` requires all of them");
        return Err(Error::new(right.span(), message));
    }
    let path = quote_spanned! { right.span() => ::aster_rights::#right };
    Ok(parse_quote_spanned! { right.span() => ::aster_rights::Contains<#path> })
}

/// Adds bounds of the type parameter `subject`.
fn add(generics: &mut Generics, subject: &Ident, bounds: Vec<TypeParamBound>) {
    match generics.type_params_mut().find(|param| param.ident == *subject && !param.bounds.is_empty()) {
        Some(param) => param.bounds.extend(bounds),
        None => generics.make_where_clause().predicates.push(parse_quote! { #subject: #(#bounds)+* }),
    }
}
