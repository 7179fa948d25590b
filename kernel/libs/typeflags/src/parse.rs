// SPDX-License-Identifier: MPL-2.0

//! Reading a declaration: from tokens to a [`Universe`] that makes sense.

use syn::{
    Attribute, Error, Expr, Ident, Result, Token, Visibility, braced,
    parse::{Parse, ParseStream},
};

/// The integers that can hold the bits of a universe.
const INTEGERS: [&str; 6] = ["u8", "u16", "u32", "u64", "u128", "usize"];

/// A declaration of flags. Has at least one flag, and no two of one name.
pub struct Universe {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    /// One of [`INTEGERS`].
    pub bits: Ident,
    pub flags: Vec<Flag>,
}

/// One flag of a declaration.
pub struct Flag {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    pub value: Expr,
}

impl Parse for Universe {
    fn parse(input: ParseStream) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        input.parse::<Token![trait]>()?;
        let name: Ident = input.parse()?;
        input.parse::<Token![:]>()?;
        let bits: Ident = input.parse()?;
        if !INTEGERS.iter().any(|integer| bits == integer) {
            return Err(Error::new(bits.span(), "the bits of flags need an unsigned integer type"));
        }

        let body;
        braced!(body in input);
        let mut flags: Vec<Flag> = Vec::new();
        while !body.is_empty() {
            let flag: Flag = body.parse()?;
            if flags.iter().any(|other| other.name == flag.name) {
                return Err(Error::new(
                    flag.name.span(),
                    format!("the flag `{}` is declared twice", flag.name),
                ));
            }
            flags.push(flag);
        }
        if flags.is_empty() {
            return Err(Error::new(name.span(), format!("`{name}` declares no flags")));
        }
        Ok(Self { attrs, vis, name, bits, flags })
    }
}

impl Parse for Flag {
    fn parse(input: ParseStream) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        input.parse::<Token![struct]>()?;
        let name = input.parse()?;
        input.parse::<Token![=]>()?;
        let value = input.parse()?;
        input.parse::<Token![;]>()?;
        Ok(Self { attrs, vis, name, value })
    }
}
