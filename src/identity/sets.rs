//! Tokens by their marks, each in one of the four places of its set. A set of references is one line of memory, so that
//! whoever is known is found with one look: a map takes two, and each that no cache of the processor answers is a tenth of
//! a microsecond. Bounded, and grows as it fills.

/// What is kept of a token, with the token itself: a mark is no proof.
pub(crate) trait Kept {
    /// All of the token.
    fn token(&self) -> &str;

    /// Asks memory for what is about to be read of it.
    fn ahead(&self) {}
}

/// What is kept of tokens, by their marks, which are spread evenly.
#[derive(Debug)]
pub(crate) struct Sets<T> {
    sets: Box<[Set<T>]>,
    kept: usize,
    bound: usize,
}

/// The places of one set, taken from the first on. What is found moves one up, and the last makes room.
#[derive(Debug)]
#[repr(align(64))]
struct Set<T>([Option<(u64, T)>; PLACES]);

impl<T: Kept> Sets<T> {
    /// At most `bound` tokens.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            sets: Box::default(),
            kept: 0,
            bound,
        }
    }

    /// What is kept of exactly this token.
    pub(crate) fn find(&mut self, mark: u64, token: &str) -> Option<&T> {
        let index = self.index(mark);
        let set = self.sets.get_mut(index)?;
        let found = set.place_of(mark)?;
        let up = found.saturating_sub(1);
        set.0.swap(found, up);
        let (_, kept) = set.0[up].as_ref()?;
        kept.ahead();
        (kept.token() == token).then_some(kept)
    }

    /// Whether there is a place for it, or one to be had, so that it pushes out no other.
    pub(crate) fn has_room(&self, mark: u64) -> bool {
        let set = self.sets.get(self.index(mark));
        let has_place = |set: &Set<T>| !self.is_full() && set.taken() < PLACES;
        set.is_some_and(|set| has_place(set) || set.place_of(mark).is_some()) || self.may_grow()
    }

    /// Keeps it, in the place of what had the same mark; where no place is left, of the last in its set.
    pub(crate) fn insert(&mut self, mark: u64, kept: T) {
        let set = self.sets.get(self.index(mark));
        if set.is_none_or(|set| set.taken() == PLACES && set.place_of(mark).is_none())
            && self.may_grow()
        {
            self.grow();
        }
        self.put(mark, kept);
    }

    /// All that is kept, taken out.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.bound))
    }

    fn put(&mut self, mark: u64, kept: T) {
        let index = self.index(mark);
        let Some(set) = self.sets.get(index) else {
            return;
        };
        let (own, taken) = (set.place_of(mark), set.taken());
        if own.is_none() && taken < PLACES && self.is_full() {
            self.drop_one(index);
        }
        let set = &mut self.sets[index];
        let place = own.unwrap_or_else(|| set.taken().min(PLACES - 1));
        let before = set.0[place].replace((mark, kept));
        self.kept += usize::from(before.is_none());
    }

    /// Drops the last of the first set, from here on, that has two: the bound is as many as two for each.
    fn drop_one(&mut self, index: usize) {
        let (before, after) = self.sets.split_at_mut(index);
        let fewest = self.bound.min(2);
        let spare = |set: &&mut Set<T>| set.taken() >= fewest;
        if let Some(set) = after.iter_mut().chain(before).find(spare) {
            set.0[set.taken() - 1] = None;
            self.kept -= 1;
        }
    }

    fn is_full(&self) -> bool {
        self.kept >= self.bound
    }

    /// Whether there may be more places, and a quarter is taken: the first sets are full by then. At most twice as many as
    /// tokens, so that few are.
    fn may_grow(&self) -> bool {
        let places = self.sets.len() * PLACES;
        !self.is_full() && places < 2 * self.bound && self.kept >= places / 4
    }

    fn grow(&mut self) {
        let most = (2 * self.bound).div_ceil(PLACES);
        let count = (self.sets.len() * 2).clamp(1, most);
        let sets = (0..count).map(|_| Set::default()).collect();
        let before = std::mem::replace(&mut self.sets, sets);
        self.kept = 0;
        for (mark, kept) in before.into_iter().flat_map(|set| set.0).flatten() {
            self.put(mark, kept);
        }
    }

    fn index(&self, mark: u64) -> usize {
        ((u128::from(mark) * self.sets.len() as u128) >> u64::BITS) as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.kept
    }
}

impl<T> Set<T> {
    fn place_of(&self, mark: u64) -> Option<usize> {
        let is_it =
            |place: &Option<(u64, T)>| place.as_ref().is_some_and(|(known, _)| *known == mark);
        self.0.iter().position(is_it)
    }

    fn taken(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self([const { None }; PLACES])
    }
}

/// So many references, with their marks, are a line of memory.
const PLACES: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    impl Kept for &str {
        fn token(&self) -> &str {
            self
        }
    }

    #[test]
    fn a_mark_that_two_tokens_share_makes_neither_the_other() {
        let mut sets = Sets::new(10);
        sets.insert(7, "one");
        assert!(sets.find(7, "other").is_none());
        assert!(sets.find(7, "one").is_some());
    }

    #[test]
    fn a_set_of_references_is_a_line_of_memory() {
        assert_eq!(size_of::<Set<Arc<u8>>>(), 64);
    }

    #[test]
    fn what_is_found_outlives_what_is_not() {
        let mut sets = Sets::new(4);
        for mark in 0..4 {
            assert!(sets.has_room(mark), "{mark}");
            sets.insert(mark, "kept");
        }
        assert!(sets.has_room(3), "in its own place");
        for newcomer in 4..100 {
            assert!(sets.find(2, "kept").is_some(), "{newcomer}");
            assert!(!sets.has_room(newcomer));
            sets.insert(newcomer, "kept");
            assert_eq!(sets.len(), 4);
        }
        assert!(sets.find(99, "kept").is_some());
    }

    #[test]
    fn it_grows_to_its_bound_and_loses_nothing_on_the_way() {
        let mut sets = Sets::new(1000);
        // Evenly spread, as hashes are, and no two alike.
        let mark = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for number in 0..500 {
            assert!(sets.has_room(mark(number)), "{number}");
            sets.insert(mark(number), "kept");
        }
        for number in 0..500 {
            assert!(sets.find(mark(number), "kept").is_some(), "{number}");
        }
        for number in 500..10_000 {
            sets.insert(mark(number), "kept");
        }
        assert_eq!(sets.len(), 1000);
        assert!(sets.sets.len() <= 500, "{}", sets.sets.len());
        assert_eq!(sets.take().len(), 1000);
        assert_eq!(sets.len(), 0);
        sets.insert(7, "kept");
        assert!(sets.find(7, "kept").is_some());
    }
}
