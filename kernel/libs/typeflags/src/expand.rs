// SPDX-License-Identifier: MPL-2.0

//! Writing the generated items: from a [`Universe`] to tokens.
//!
//! A set is a struct with one type parameter for each flag, its *slot*. All the logic is in the slots; that of a
//! set is theirs, slot by slot:
//!
//! ```text
//!                   X = Absent    X = Flag
//!     Absent ∪ X    Absent        Flag
//!     Flag   ∪ X    Flag          Flag
//!     Absent ∩ X    Absent        Absent
//!     Flag   ∩ X    Absent        Flag
//!     Absent \ X    Absent        Absent
//!     Flag   \ X    Flag          Absent
//! ```
//!
//! The traits of the slots are public but stand in a private module: nobody outside can make up a slot, and
//! with it a set that claims more than it has.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Visibility, spanned::Spanned};

use crate::parse::Universe;

/// Writes everything that a declaration stands for.
pub fn expand(universe: &Universe) -> TokenStream {
    let names = Names::of(universe);
    let flags = expand_flags(universe);
    let slots = expand_slots(universe, &names);
    let set_trait = expand_set_trait(universe, &names);
    let set = expand_set(universe, &names);
    let set_macro = expand_set_macro(universe, &names);
    quote! { #flags #slots #set_trait #set #set_macro }
}

/// The names of what is generated, beside those that the declaration gives.
struct Names {
    /// The struct whose instances are the sets.
    set: Ident,
    /// The private module of the slots' traits.
    slots: Ident,
    /// The alias of the empty set, for the macro.
    empty: Ident,
    /// The alias of a set with one flag more, for the macro.
    with: Ident,
    /// For each flag, the type parameter and associated type that is its slot.
    slot_of: Vec<Ident>,
}

impl Names {
    fn of(universe: &Universe) -> Self {
        let name = &universe.name;
        Self {
            set: format_ident!("{name}Flags"),
            slots: format_ident!("__{}_slots", name.to_string().to_lowercase()),
            empty: format_ident!("__{name}Empty"),
            with: format_ident!("__{name}With"),
            slot_of: universe.flags.iter().map(|flag| format_ident!("{}Slot", flag.name)).collect(),
        }
    }
}

/// The markers, and the check that their bits are fit for flags.
fn expand_flags(universe: &Universe) -> TokenStream {
    let bits = &universe.bits;
    let markers = universe.flags.iter().map(|flag| {
        let (attrs, vis, name, value) = (&flag.attrs, &flag.vis, &flag.name, &flag.value);
        quote! {
            #(#attrs)*
            #[derive(Clone, Copy, Debug)]
            #vis struct #name;

            impl ::typeflags_util::Flag for #name {
                type Bits = #bits;
                const BIT: #bits = #value;
            }
        }
    });
    let checks = universe.flags.iter().enumerate().map(|(index, flag)| {
        let name = &flag.name;
        let not_one_bit = format!("the value of `{name}` is not a single bit");
        let before = universe.flags[..index].iter().map(|other| &other.name);
        let taken = before.clone().map(|other| format!("`{name}` has the bit of `{other}`"));
        quote_spanned! { flag.value.span() =>
            const _: () = {
                let bit = <#name as ::typeflags_util::Flag>::BIT;
                ::core::assert!(bit.is_power_of_two(), #not_one_bit);
                #(::core::assert!(<#before as ::typeflags_util::Flag>::BIT & bit == 0, #taken);)*
            };
        }
    });
    quote! { #(#markers)* #(#checks)* }
}

/// The private module: what a slot is and can do.
fn expand_slots(universe: &Universe, names: &Names) -> TokenStream {
    let Universe { name, .. } = universe;
    let Names { set, slots, .. } = names;
    let flags: Vec<_> = universe.flags.iter().map(|flag| &flag.name).collect();
    let lacks = format!("the set of `{name}` lacks the flag `{{Slot}}`");
    let no_slot = format!("`{{Self}}` cannot stand in the place of `{{F}}` in a set of `{name}`");
    let no_flag = format!("`{{Self}}` is not a flag of `{name}`");
    let only = (0..flags.len()).map(|index| {
        let content = flags.iter().enumerate().map(|(other, flag)| match other == index {
            true => quote! { #flag },
            false => quote! { ::typeflags_util::Absent },
        });
        quote! { super::#set<#(#content),*> }
    });
    // Inside the module, the flags are those of the module around it.
    let content_scope = quote! { #[allow(unused_imports)] use super::{#(#flags),*}; };
    quote! {
        #[doc(hidden)]
        mod #slots {
            #content_scope

            /// Keeps others from implementing the trait of the sets.
            pub trait Sealed {}

            /// What can stand in the slot of the flag `F`: `F` itself, or `Absent`.
            #[diagnostic::on_unimplemented(message = #no_slot)]
            pub trait Slot<F>: 'static {
                /// Whether `F` stands here.
                const PRESENT: bool;
                /// `F` if it stands here or there.
                type Or<There: Slot<F>>: Slot<F>;
                /// `F` if it stands here and there.
                type And<There: Slot<F>>: Slot<F>;
                /// `F` if it stands here and not there.
                type AndNot<There: Slot<F>>: Slot<F>;
                /// `There` if `F` does not stand here, else `Absent`.
                type IfAbsent<There: Slot<F>>: Slot<F>;
            }

            impl<F> Slot<F> for ::typeflags_util::Absent {
                const PRESENT: bool = false;
                type Or<There: Slot<F>> = There;
                type And<There: Slot<F>> = Self;
                type AndNot<There: Slot<F>> = Self;
                type IfAbsent<There: Slot<F>> = There;
            }

            /// A slot that holds what `Slot` holds, if that holds anything.
            #[diagnostic::on_unimplemented(message = #lacks, label = "this needs `{Slot}`")]
            pub trait Covers<Slot> {}

            impl<S> Covers<::typeflags_util::Absent> for S {}

            /// A flag of this universe.
            #[diagnostic::on_unimplemented(message = #no_flag, label = "not one of the declared flags")]
            pub trait Member {
                /// The set that has this flag only.
                type Only: super::#name;
            }

            #(
                impl Slot<#flags> for #flags {
                    const PRESENT: bool = true;
                    type Or<There: Slot<#flags>> = Self;
                    type And<There: Slot<#flags>> = There;
                    type AndNot<There: Slot<#flags>> = There::IfAbsent<Self>;
                    type IfAbsent<There: Slot<#flags>> = ::typeflags_util::Absent;
                }

                impl Covers<#flags> for #flags {}

                impl Member for #flags {
                    type Only = #only;
                }
            )*
        }
    }
}

/// The trait that all sets of the universe implement.
fn expand_set_trait(universe: &Universe, names: &Names) -> TokenStream {
    let Universe { attrs, vis, name, bits, .. } = universe;
    let Names { slots, slot_of, .. } = names;
    let flags = universe.flags.iter().map(|flag| &flag.name);
    let no_set = format!("`{{Self}}` is not a set of `{name}`");
    quote! {
        #(#attrs)*
        #[diagnostic::on_unimplemented(message = #no_set)]
        #vis trait #name: ::typeflags_util::FlagSet<Bits = #bits> + #slots::Sealed {
            /// The flags that this set or `S` has.
            type Union<S: #name>: #name;
            /// The flags that this set and `S` both have.
            type Intersection<S: #name>: #name;
            /// The flags that this set has and `S` has not.
            type Difference<S: #name>: #name;
            #(
                #[doc(hidden)]
                type #slot_of: #slots::Slot<#flags>;
            )*
        }
    }
}

/// The struct whose instances are the sets.
fn expand_set(universe: &Universe, names: &Names) -> TokenStream {
    let Universe { vis, name, bits, .. } = universe;
    let Names { set, slots, slot_of, .. } = names;
    let flags: Vec<_> = universe.flags.iter().map(|flag| &flag.name).collect();
    let doc = format!(
        "A set of [`{name}`], with one argument for each flag: the flag itself, or \
         [`Absent`](typeflags_util::Absent). `{name}!` names it by its flags."
    );
    let contains = flags.iter().enumerate().map(|(index, flag)| {
        let others = slot_of.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, slot)| slot);
        let bounds = flags.iter().zip(slot_of).enumerate().filter(|(other, _)| *other != index);
        let bounds = bounds.map(|(_, (flag, slot))| quote! { #slot: #slots::Slot<#flag> });
        let content = slot_of.iter().enumerate().map(|(other, slot)| match other == index {
            true => quote! { #flag },
            false => quote! { #slot },
        });
        quote! {
            impl<#(#others),*> ::typeflags_util::Contains<#flag> for #set<#(#content),*>
            where
                #(#bounds,)*
            {
            }
        }
    });
    quote! {
        #[doc = #doc]
        #vis struct #set<#(#flags),*>(::core::marker::PhantomData<fn() -> (#(#flags,)*)>);

        impl<#(#slot_of: #slots::Slot<#flags>),*> #slots::Sealed for #set<#(#slot_of),*> {}

        impl<#(#slot_of: #slots::Slot<#flags>),*> ::typeflags_util::FlagSet for #set<#(#slot_of),*> {
            type Bits = #bits;
            const BITS: #bits = 0 #(
                | if #slot_of::PRESENT { <#flags as ::typeflags_util::Flag>::BIT } else { 0 }
            )*;
        }

        impl<#(#slot_of: #slots::Slot<#flags>),*> #name for #set<#(#slot_of),*> {
            type Union<S: #name> = #set<#(#slot_of::Or<S::#slot_of>),*>;
            type Intersection<S: #name> = #set<#(#slot_of::And<S::#slot_of>),*>;
            type Difference<S: #name> = #set<#(#slot_of::AndNot<S::#slot_of>),*>;
            #(type #slot_of = #slot_of;)*
        }

        impl<S: #name, #(#slot_of: #slots::Slot<#flags>),*> ::typeflags_util::Includes<S>
            for #set<#(#slot_of),*>
        where
            #(#slot_of: #slots::Covers<S::#slot_of>,)*
        {
        }

        #(#contains)*
    }
}

/// The macro that names a set, with one arm for each number of flags.
///
/// An arm for each number, because a macro that called itself would need a path to itself, and the path to an
/// exported macro that came out of another macro is refused inside the crate that declares it.
fn expand_set_macro(universe: &Universe, names: &Names) -> TokenStream {
    let Universe { name, vis, flags, .. } = universe;
    let Names { empty, with, set, slots, .. } = names;
    let absent = flags.iter().map(|_| quote! { ::typeflags_util::Absent });
    let export = match vis {
        Visibility::Public(_) => quote! { #[macro_export] },
        _ => quote! { #[allow(unused_macros)] },
    };
    let doc = format!("Names the set of [`trait@{name}`] that has the listed flags, in whatever order.");
    let arms = (0..=flags.len()).map(|count| {
        let listed: Vec<_> =
            (0..count).map(|index| Ident::new(&format!("flag{index}"), Span::call_site())).collect();
        let separator = (count > 0).then(|| quote! { $(,)? });
        let named = listed.iter().fold(quote! { $crate::#empty }, |named, flag| {
            quote! { $crate::#with<#named, $crate::$#flag> }
        });
        quote! { (#($#listed:ident),* #separator) => { #named }; }
    });
    quote! {
        #[doc(hidden)]
        #vis type #empty = #set<#(#absent),*>;

        #[doc(hidden)]
        #vis type #with<S, F> = <S as #name>::Union<<F as #slots::Member>::Only>;

        #[doc = #doc]
        #export
        macro_rules! #name { #(#arms)* }
    }
}
