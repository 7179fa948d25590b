// SPDX-License-Identifier: MPL-2.0

//! Fewer steps that show the same difference (delta debugging: Zeller and Hildebrandt, 2002).
//!
//! The last step is the one that differs, and stays. Of the others ever smaller pieces are left out, all pieces of a size in
//! the same boot; those that can go one by one are then left out together, as far as that goes.

use std::ops::Range;

use anyhow::Result;

use super::{
    case::{Case, Level, Said, first_difference},
    peer::Pair,
};

/// The smallest list found; `None` if nothing differs.
pub fn shrink(pair: &Pair, case: &Case) -> Result<Option<Case>> {
    let whole = Case { name: "whole".to_owned(), steps: case.steps.clone() };
    let Some(last) = differences(pair, std::slice::from_ref(&whole))?.pop().flatten() else {
        return Ok(None);
    };
    let count = last.saturating_add(1).min(case.steps.len());
    let mut small = case.without("small", |index| index >= count);
    let is_stopped = last == usize::MAX;
    let mut size = small.steps.len() / 2;
    while size > 0 {
        eprintln!("tessera: {} steps still show it", small.steps.len());
        let pieces = pieces(small.steps.len() - 1, size);
        let removable = shown(pair, &small, &pieces, is_stopped, |piece, index| piece.contains(&index))?;
        let removable: Vec<Range<usize>> = removable.into_iter().map(|index| pieces[index].clone()).collect();
        if !removable.is_empty() {
            let counts: Vec<usize> = (1..=removable.len()).collect();
            let is_gone = |count: &usize, index| {
                removable[..*count].iter().any(|piece: &Range<usize>| piece.contains(&index))
            };
            let together = shown(pair, &small, &counts, is_stopped, is_gone)?;
            let most = together.last().map_or(1, |index| counts[*index]);
            small = small.without("small", |index| is_gone(&most, index));
        }
        size = match removable.len() {
            0 => size / 2,
            _ => size.min(small.steps.len().saturating_sub(1)),
        };
    }
    let verb = small.steps.last().and_then(|step| step.split([' ', '(']).nth(1)).unwrap_or("step");
    let number = case.name.trim_start_matches("seed-");
    let name = if case.name.starts_with("seed-") { format!("{verb}-{number}") } else { case.name.clone() };
    Ok(Some(Case { name, steps: small.steps }))
}

/// The ranges of so many steps that make up a list.
fn pieces(count: usize, size: usize) -> Vec<Range<usize>> {
    (0..count).step_by(size).map(|start| start..(start + size).min(count)).collect()
}

/// Which of several ways to leave out steps still show the difference in the last step.
fn shown<T>(
    pair: &Pair,
    case: &Case,
    ways: &[T],
    is_stopped: bool,
    is_gone: impl Fn(&T, usize) -> bool,
) -> Result<Vec<usize>> {
    let candidates: Vec<Case> = (0..)
        .zip(ways)
        .map(|(number, way)| case.without(&format!("way-{number}"), |index| is_gone(way, index)))
        .collect();
    // A kernel that stops takes the other candidates with it: they come one by one then.
    let found = match is_stopped {
        false => differences(pair, &candidates)?,
        true => {
            let mut found = Vec::new();
            for candidate in &candidates {
                found.extend(differences(pair, std::slice::from_ref(candidate))?);
            }
            found
        }
    };
    let is_shown = |(index, last): (usize, Option<usize>)| {
        let expected = if is_stopped { usize::MAX } else { candidates[index].steps.len() - 1 };
        (last == Some(expected)).then_some(index)
    };
    Ok(found.into_iter().enumerate().filter_map(is_shown).collect())
}

/// The first step of each case that the kernels differ in.
pub fn differences(pair: &Pair, cases: &[Case]) -> Result<Vec<Option<usize>>> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let [one, two] = pair.play(Level::Steps, cases, &[], 0)?;
    let silent = Said::Stopped("no word".to_owned());
    let of = |case: &Case| {
        first_difference(one.get(&case.name).unwrap_or(&silent), two.get(&case.name).unwrap_or(&silent))
    };
    Ok(cases.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_make_up_the_whole() {
        assert_eq!(pieces(5, 2), [0..2, 2..4, 4..5]);
        assert_eq!(pieces(5, 4), [0..4, 4..5]);
        assert!(pieces(0, 1).is_empty());
    }
}
