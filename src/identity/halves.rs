//! Tokens by their marks, in two halves: what is used moves to the younger, and the older one is dropped when the
//! younger is full. Bounded, and what is used again and again stays.

use rustc_hash::FxHashMap;

/// What is kept of a token, with the token itself: a mark is no proof.
pub(crate) trait Kept {
    /// All of the token.
    fn token(&self) -> &str;
}

/// What is kept of tokens, by their marks.
#[derive(Debug)]
pub(crate) struct Halves<T> {
    young: FxHashMap<u64, T>,
    old: FxHashMap<u64, T>,
    /// Half the bound.
    size: usize,
}

impl<T: Kept> Halves<T> {
    /// At most `bound` tokens; fewer than two are none.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            young: FxHashMap::default(),
            old: FxHashMap::default(),
            size: bound / 2,
        }
    }

    /// What is kept of exactly this token.
    pub(crate) fn find(&mut self, mark: u64, token: &str) -> Option<&T> {
        if !self.young.contains_key(&mark) {
            let entry = self.old.remove(&mark)?;
            self.insert(mark, entry);
        }
        let entry = self.young.get(&mark)?;
        (entry.token() == token).then_some(entry)
    }

    /// Keeps it, in the place of what had the same mark.
    pub(crate) fn insert(&mut self, mark: u64, entry: T) {
        if self.size == 0 {
            return;
        }
        if self.young.len() >= self.size && !self.young.contains_key(&mark) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(mark, entry);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept for &str {
        fn token(&self) -> &str {
            self
        }
    }

    #[test]
    fn a_mark_that_two_tokens_share_makes_neither_the_other() {
        let mut halves = Halves::new(10);
        halves.insert(7, "one");
        assert!(halves.find(7, "other").is_none());
        assert!(halves.find(7, "one").is_some());
    }
}
