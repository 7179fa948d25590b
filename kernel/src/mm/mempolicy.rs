// SPDX-License-Identifier: MPL-2.0

//! Memory policies (`set_mempolicy(2)`, `mbind(2)`) on a machine whose memory is one node, number 0.
//!
//! Wherever a policy wants memory, that is where it comes from: all that is left of a policy is that it can be asked for, and that
//! mappings with different ones are different mappings. A thread has one, which its children inherit; a mapping may have one of its
//! own, kept as the mapping's label. What mappings have in common, like a file, has policies [itself](super::shared_policy).
//!
//! ```text
//!   label   0b0hfff_mmm       whether a home was named, flags and mode; of nodes the one that there is
//!           128 and more      a policy with nodes that do not exist, for the day when they do: its place in a list
//! ```

use crate::prelude::*;

/// The label of the first policy in the list of those that are not told by their mode and flags.
const FIRST_LISTED: u8 = 1 << 7;
/// In a label: a home was named.
const AT_HOME: u8 = 1 << 6;

/// Policies that say how their nodes count (`MPOL_F_STATIC_NODES`, `MPOL_F_RELATIVE_NODES`) and have others than the one there is. What
/// is here stays, for mappings that may have it: there are few that anybody wants.
static LISTED: Mutex<Vec<MemPolicy>> = Mutex::new(Vec::new());

/// What a policy does with its nodes; the numbers are Linux's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing special.
    #[default]
    Default = 0,
    /// Takes memory from one, if it has any.
    Preferred = 1,
    /// Takes memory from nowhere else.
    Bind = 2,
    /// Takes pages from one after the other.
    Interleave = 3,
    /// Takes memory from the node of the CPU.
    Local = 4,
    /// Takes memory from several, if they have any.
    PreferredMany = 5,
}

impl Mode {
    const ALL: [Self; 6] =
        [Self::Default, Self::Preferred, Self::Bind, Self::Interleave, Self::Local, Self::PreferredMany];
}

bitflags::bitflags! {
    /// What goes with a mode; the bits are Linux's.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ModeFlags: u32 {
        /// Pages may be moved to where they are used (`MPOL_F_NUMA_BALANCING`).
        const BALANCING = 1 << 13;
        /// Nodes are counted among those that are allowed (`MPOL_F_RELATIVE_NODES`).
        const RELATIVE = 1 << 14;
        /// Nodes are what they are (`MPOL_F_STATIC_NODES`).
        const STATIC = 1 << 15;
    }
}

impl ModeFlags {
    const NODES: Self = Self::RELATIVE.union(Self::STATIC);
}

/// A set of nodes as a program gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// The first 64.
    pub low: u64,
    /// Whether there are others.
    pub has_more: bool,
}

impl Nodes {
    /// The one node there is.
    pub const ONLY: Self = Self { low: 1, has_more: false };

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether the node that exists is among them.
    pub fn has_the_only(self) -> bool {
        self.low & 1 != 0
    }

    /// Whether nodes that do not exist are among them.
    pub fn has_others(self) -> bool {
        self.has_more || self.low > 1
    }
}

/// A memory policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemPolicy {
    mode: Mode,
    flags: ModeFlags,
    nodes: Nodes,
    /// Whether a node was named that memory is to be near (`set_mempolicy_home_node`): the one there is.
    has_home: bool,
}

impl MemPolicy {
    /// The mode and its flags that a program means by a number.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub fn parse_mode(number: i32) -> Result<(Mode, ModeFlags)> {
        let flags = ModeFlags::from_bits_truncate(number as u32);
        let mode = number as u32 & !ModeFlags::all().bits();
        let mode = *Mode::ALL.get(mode as usize).ok_or(EINVAL)?;
        let is_balanced_wrongly = flags.contains(ModeFlags::BALANCING) && mode != Mode::Bind;
        if flags.contains(ModeFlags::NODES) || is_balanced_wrongly { Err(EINVAL) } else { Ok((mode, flags)) }
    }

    /// The policy with these parts.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they do not go together, or the policy would leave no node (Linux 6.1, `mpol_new` and `mpol_set_nodemask`).
    pub fn new((mode, flags): (Mode, ModeFlags), nodes: Nodes) -> Result<Self> {
        let is_bare = nodes.is_empty() && !flags.intersects(ModeFlags::NODES);
        match mode {
            Mode::Default if nodes.is_empty() => return Ok(Self::default()),
            Mode::Preferred | Mode::Local if is_bare => {
                return Ok(Self { mode: Mode::Local, flags, nodes, has_home: false });
            }
            Mode::Default | Mode::Local => return Err(EINVAL),
            _ if nodes.is_empty() => return Err(EINVAL),
            _ => {}
        }
        // Counted among one node, any node is that one.
        if nodes.has_the_only() || flags.contains(ModeFlags::RELATIVE) {
            Ok(Self { mode, flags, nodes, has_home: false })
        } else {
            Err(EINVAL)
        }
    }

    /// The policy that has a home as well.
    pub fn at_home(self) -> Self {
        Self { has_home: true, ..self }
    }

    /// The mode.
    pub fn mode(self) -> Mode {
        self.mode
    }

    /// The number that a program knows mode and flags by.
    pub fn number(self) -> u32 {
        self.mode as u32 | self.flags.bits()
    }

    /// The nodes that a program is told of: its own where it said how they count, else those of them that exist.
    pub fn nodes(self) -> u64 {
        match self.mode {
            Mode::Default | Mode::Local => 0,
            _ if self.flags.intersects(ModeFlags::NODES) => self.nodes.low,
            _ => Nodes::ONLY.low,
        }
    }

    /// As the label of a mapping. Nodes that do not exist are forgotten where no program can ask for them, and when so many different
    /// sets of them are known that there is no label for another.
    pub fn to_label(self) -> u8 {
        let home = if self.has_home { AT_HOME } else { 0 };
        let plain = self.mode as u8 | (self.flags.bits() >> 10) as u8 | home;
        if self.nodes() == Self::from_label(plain).nodes() {
            return plain;
        }
        let mut listed = LISTED.lock();
        let place = listed.iter().position(|policy| *policy == self).unwrap_or(listed.len());
        let label = u8::try_from(usize::from(FIRST_LISTED) + place).ok();
        let is_listed = place < listed.len() || (label.is_some() && try_push(&mut *listed, self).is_ok());
        label.filter(|_| is_listed).unwrap_or(plain)
    }

    /// The policy that a label stands for.
    pub fn from_label(label: u8) -> Self {
        if let Some(place) = label.checked_sub(FIRST_LISTED) {
            return LISTED.lock().get(usize::from(place)).copied().unwrap_or_default();
        }
        let mode = Mode::ALL.get(usize::from(label & 0b111)).copied().unwrap_or_default();
        let flags = ModeFlags::from_bits_truncate(u32::from(label) << 10);
        let nodes = if matches!(mode, Mode::Default | Mode::Local) { Nodes::default() } else { Nodes::ONLY };
        Self { mode, flags, nodes, has_home: label & AT_HOME != 0 }
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn a_label_says_what_the_policy_is() {
        for number in [0, 1, 2, 3, 5, 2 | 1 << 13, 2 | 1 << 15, 3 | 1 << 14] {
            let Ok(mode) = MemPolicy::parse_mode(number) else { panic!("{number:#x} is a mode") };
            let nodes = if number == 0 { Nodes::default() } else { Nodes::ONLY };
            let policy = MemPolicy::new(mode, nodes);
            assert_eq!(policy.map(|policy| MemPolicy::from_label(policy.to_label())), policy);
            assert_eq!(policy.map(MemPolicy::number), Ok(number as u32));
            let home = policy.map(MemPolicy::at_home);
            assert_eq!(home.map(|home| MemPolicy::from_label(home.to_label())), home);
            assert_ne!(home, policy);
        }
    }

    #[ktest]
    fn a_label_keeps_nodes_that_count_for_something() {
        let policy = |flags, low| MemPolicy::new((Mode::Bind, flags), Nodes { low, has_more: false });
        let both = [policy(ModeFlags::STATIC, 0b11), policy(ModeFlags::RELATIVE, 0b10)];
        let labels = both.map(|policy| policy.map(MemPolicy::to_label));
        assert_ne!(labels[0], labels[1]);
        assert_eq!(both.map(|policy| policy.map(MemPolicy::to_label)), labels);
        assert_eq!(labels.map(|label| label.map(MemPolicy::from_label)), both);
        let plain = policy(ModeFlags::empty(), 0b11).map(MemPolicy::to_label);
        assert_eq!(plain, Ok(Mode::Bind as u8));
        assert_eq!(MemPolicy::from_label(u8::MAX), MemPolicy::default());
    }

    #[ktest]
    fn a_policy_without_a_node_is_none() {
        let bind = (Mode::Bind, ModeFlags::empty());
        let second = Nodes { low: 2, has_more: false };
        assert_eq!(MemPolicy::new(bind, Nodes::default()), Err(EINVAL));
        assert_eq!(MemPolicy::new(bind, second), Err(EINVAL));
        assert!(MemPolicy::new((Mode::Bind, ModeFlags::RELATIVE), second).is_ok());
        assert_eq!(MemPolicy::parse_mode(6), Err(EINVAL));
        assert_eq!(MemPolicy::parse_mode(2 | 3 << 14), Err(EINVAL));
    }
}
