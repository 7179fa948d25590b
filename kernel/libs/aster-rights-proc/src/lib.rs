// SPDX-License-Identifier: MPL-2.0

//! The attribute by which a method requires rights of its receiver's type.
//!
//! The crate `aster-rights` re-exports [`macro@require`]; use it from there.

#![forbid(unsafe_code)]

mod expand;
mod parse;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;
use quote::quote;

/// Lets a method be called only if a type parameter, a set of rights, has the rights named.
///
/// ```
/// use aster_rights::{FullRights, TRightSet, TRights, require};
///
/// struct Door<R>(R);
///
/// impl<R: TRights> Door<TRightSet<R>> {
///     #[require(R > Read)]
///     fn look(&self) {}
///
///     #[require(R > Read | Write)]
///     fn paint(&self) {}
///
///     #[require(R > Dup, R >= S)]
///     fn copy_with_fewer<S: TRights>(&self) -> Door<TRightSet<S>> {
///         Door(TRightSet::new())
///     }
/// }
///
/// let door = Door(TRightSet::<FullRights>::new());
/// door.paint();
/// let window = door.copy_with_fewer::<TRights![Read]>();
/// window.look();
/// ```
///
/// The same with a right that the type does not have is refused by the compiler, which names the right:
///
/// ```compile_fail,E0277
/// # use aster_rights::{TRightSet, TRights, require};
/// # struct Door<R>(R);
/// # impl<R: TRights> Door<TRightSet<R>> {
/// #     #[require(R > Read | Write)]
/// #     fn paint(&self) {}
/// # }
/// let window = Door(TRightSet::<TRights![Read]>::new());
/// window.paint(); // error: the capability lacks the right `Write`
/// ```
///
/// # Syntax
///
/// A list of requirements, separated by commas. Each is one of
///
/// - `R > Read | Write`: the set `R` has each of these rights. They are those that `aster_rights` declares, and
///   need not be imported. Becomes the bounds `R: aster_rights::Contains<aster_rights::Read> + ...`.
/// - `R >= S`: the set `R` has all rights of the set `S`, which is any type. Becomes the bound `R: aster_rights::Includes<S>`.
///
/// `R` is a type parameter of the function or of the `impl` around it. The attribute goes on methods and free
/// functions, with a body or without.
///
/// # Method or impl
///
/// The bounds could stand on the `impl` instead. But of a method whose `impl` does not apply the compiler only
/// says that it "exists but its trait bounds were not satisfied"; of one whose own bounds fail it says which
/// right is lacking.
#[proc_macro_attribute]
pub fn require(args: TokenStream, item: TokenStream) -> TokenStream {
    let unchanged = TokenStream2::from(item.clone());
    let expanded = syn::parse(args)
        .and_then(|requirements| Ok((requirements, syn::parse(item)?)))
        .and_then(|(requirements, function)| expand::expand(requirements, function));
    let tokens = expanded.unwrap_or_else(|error| {
        // With the function still there, the compiler reports this error alone and not each use of it too.
        let error = error.to_compile_error();
        quote! { #error #unchanged }
    });
    tokens.into()
}
