//! The keyed hash of a name, as the program computes it (`hash_word` in src/bpf/name.h).
//!
//! Users who may create Services choose names and know this code. So the hash has a random key: two names chosen without
//! knowing it have the same hash with a probability below 2⁻³⁰.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::datapath::abi::{KEY_WORDS, edns_key};

/// A hash key. Names that collide can't be chosen without knowing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashKey {
    multiplier: [u64; 2],
    word: [u64; KEY_WORDS],
}

impl HashKey {
    /// A random key.
    #[must_use]
    pub fn random() -> Self {
        Self {
            // Odd, so that different sums have different hashes; large, so that each bit changes many.
            multiplier: std::array::from_fn(|_| random() | 0x8000_0001_0000_0001),
            word: std::array::from_fn(|_| random()),
        }
    }

    /// A key by which all names collide (for tests).
    #[doc(hidden)]
    #[must_use]
    pub const fn colliding() -> Self {
        Self { multiplier: [0; 2], word: [0; KEY_WORDS] }
    }

    /// The key as `struct edns_key`.
    pub(super) fn abi(&self) -> edns_key {
        edns_key { multiplier: self.multiplier, word: self.word, ..Default::default() }
    }

    /// The hash of a name in wire format and in lower case, as in `name_scan` and `suffix_find` of src/bpf.
    pub(super) fn hash(&self, wire: &[u8]) -> u64 {
        let words = wire.chunks(8).map(|octets| {
            let mut word = [0; 8];
            word[..octets.len()].copy_from_slice(octets);
            u64::from_le_bytes(word)
        });
        self.hash_words(words)
    }

    fn hash_words(&self, words: impl Iterator<Item = u64>) -> u64 {
        let sum = words.zip(&self.word).fold(0_u64, |sum, (word, key)| {
            let word = word.wrapping_add(*key);
            sum.wrapping_add(word.wrapping_mul((word >> 32) + 1))
        });
        self.multiplier.iter().fold(sum, |sum, multiplier| (sum ^ sum >> 32).wrapping_mul(*multiplier))
    }
}

/// A random number from the standard library's hash seed.
pub(in crate::datapath) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Compared bits of the hashes: those that choose one of 1,024 lines.
    const BITS: u32 = 10;
    /// Number of keys that each difference is tried with.
    const KEYS: usize = 64;
    /// The chance that more than 7 of 64 keys collide for a difference is below 1e-7.
    const KEPT_BY_CHANCE: usize = 7;

    trait Keyed {
        fn random() -> Self;
        fn of(&self, words: &[u64]) -> u64;
    }

    impl Keyed for HashKey {
        fn random() -> Self {
            Self::random()
        }

        fn of(&self, words: &[u64]) -> u64 {
            self.hash_words(words.iter().copied())
        }
    }

    /// Seed and multiplier of the hash of the first versions. Chosen differences between names made them collide under many keys.
    struct Former([u64; 2]);

    impl Keyed for Former {
        fn random() -> Self {
            Self([random(), random() | 1])
        }

        fn of(&self, words: &[u64]) -> u64 {
            let [seed, multiplier] = self.0;
            words.iter().fold(seed, |hash, word| {
                let word = hash ^ word;
                (word ^ word >> 32).wrapping_mul(multiplier)
            })
        }
    }

    /// Counts the keys under which two names with a given difference of bits collide.
    struct Kept {
        /// Number of such keys for the worst difference.
        most: usize,
        /// Number of such keys, added up over all differences.
        sum: usize,
        differences: usize,
    }

    impl Kept {
        fn by<K: Keyed>(words: usize, differences: impl Iterator<Item = Vec<usize>>) -> Self {
            let keys: Vec<K> = (0..1024).map(|_| K::random()).collect();
            let (mut state, mut name) = (random() | 1, vec![0; words]);
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let mut kept = Self { most: 0, sum: 0, differences: 0 };
            for difference in differences {
                let first = next() as usize;
                let keeps = |key: &&K| {
                    name.fill_with(&mut next);
                    let hash = key.of(&name);
                    difference.iter().for_each(|bit| name[bit / 64] ^= 1 << (bit % 64));
                    (hash ^ key.of(&name)).leading_zeros() >= BITS
                };
                let count = (0..KEYS).map(|i| &keys[(first + i) % keys.len()]).filter(keeps).count();
                kept.most = kept.most.max(count);
                kept.sum += count;
                kept.differences += 1;
            }
            kept
        }

        fn assert_by_chance(&self) {
            let expected = (self.differences * KEYS) >> BITS;
            assert!(self.most <= KEPT_BY_CHANCE, "{} of {KEYS} keys keep a difference", self.most);
            assert!(self.sum < expected + expected / 10 + 50, "{} kept, {expected} expected", self.sum);
        }
    }

    /// All differences of one, two and three bits in the two adjacent words that start with `word`.
    fn small_differences(word: usize) -> impl Iterator<Item = Vec<usize>> {
        let bits = move |from| from..(word + 2) * 64;
        bits(word * 64).flat_map(move |a| {
            let two = bits(a + 1)
                .flat_map(move |b| std::iter::once(vec![a, b]).chain(bits(b + 1).map(move |c| vec![a, b, c])));
            std::iter::once(vec![a]).chain(two)
        })
    }

    fn random_differences(count: usize) -> impl Iterator<Item = Vec<usize>> {
        let bit = |_| random() as usize % (KEY_WORDS * 64);
        // A set, so that a bit drawn twice counts once.
        let bits = move || (0..=random() as usize % 16).map(bit).collect::<BTreeSet<_>>();
        (0..count).map(move |_| bits().into_iter().collect())
    }

    /// `make hash-search` tries many more differences.
    fn is_thorough() -> bool {
        std::env::var_os("EDNS_HASH_SEARCH").is_some()
    }

    #[test]
    fn no_small_difference_is_kept_by_more_than_chance() {
        for word in 0..if is_thorough() { KEY_WORDS - 1 } else { 1 } {
            Kept::by::<HashKey>(word + 2, small_differences(word)).assert_by_chance();
        }
    }

    #[test]
    fn no_random_difference_is_kept_by_more_than_chance() {
        let count = if is_thorough() { 10_000_000 } else { 20_000 };
        Kept::by::<HashKey>(KEY_WORDS, random_differences(count)).assert_by_chance();
    }

    #[test]
    fn the_search_finds_weak_differences_of_the_former_hash() {
        let kept = Kept::by::<Former>(2, small_differences(0));
        assert!(kept.most > KEYS / 4, "{} of {KEYS} keys keep one", kept.most);
    }

    #[test]
    fn each_octet_and_the_length_change_the_hash() {
        let key = HashKey::random();
        let names: Vec<Vec<u8>> = (0..=255).map(|n| vec![b'x'; n]).collect();
        let cases = (0..=255).map(|octet| vec![octet, 1, 2, 3, 4, 5, 6, 7, octet ^ 0x20]);
        let mut hashes: Vec<u64> = names.into_iter().chain(cases).map(|name| key.hash(&name)).collect();
        hashes.sort_unstable();
        assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
