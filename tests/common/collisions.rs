//! Names that collide in the hash function of eDNS' first versions, whatever its key, and names that differ only by bit 0x20,
//! which case folding may ignore.
//!
//! That function was `(h ^ h >> 32) * M` for each word of eight octets. Flipping bit 0x40 of octets 3 and 7 of a word (bits
//! 30 and 62; a letter from p to y becomes a digit or a sign) changed bit 62 of the state and, with one key in two, nothing
//! else. The multiplication kept that difference in bit 62, and flipping the same bit of octet 7 of the next word undid it.
//! Each place where a name may have that change or not halves the number of hash values.

use super::rng::Rng;

/// Octets of a word.
const WORD: usize = 8;
const LABEL_MAX: usize = 63;
/// Places for the change in a label of [`LABEL_MAX`] octets. With its length octet the label fills eight words.
const PLACES: usize = 7;
/// Places for the change in names of several labels.
const FILE_PLACES: usize = 12;

/// Host names of one label each, as the endpoints of one headless Service may have them. They come in groups of 128 that
/// differ only by the change.
pub fn hostnames(count: usize) -> Vec<String> {
    let mut rng = Rng::new(40);
    let names = std::iter::repeat_with(|| variants(&base(&mut rng, 1), PLACES)).flatten();
    names.take(count).collect()
}

/// Names below `zone`, as a domain file may have them: groups of 4,096 that differ only by the change, and pairs in which one
/// name has a digit or a hyphen where the other has a label's length octet (they differ by bit 0x20).
pub fn names(count: usize, zone: &str) -> Vec<String> {
    let mut rng = Rng::new(41);
    let split = count / 16;
    let changed = std::iter::repeat_with(|| variants(&base(&mut rng, 3), FILE_PLACES)).flatten();
    let mut names: Vec<String> = changed.take(count - split).collect();
    names.extend(splits(split));
    names.iter_mut().for_each(|name| *name = format!("{name}.{zone}"));
    names
}

/// Labels of the greatest length. Every octet that the change affects is a letter that becomes a digit.
fn base(rng: &mut Rng, labels: usize) -> Vec<u8> {
    let mut wire = vec![LABEL_MAX as u8; labels * (LABEL_MAX + 1)];
    for (at, octet) in wire.iter_mut().enumerate().filter(|(at, _)| at % (LABEL_MAX + 1) != 0) {
        let (first, letters) = if at % WORD == 3 || at % WORD == 7 { (b'p', 10) } else { (b'a', 15) };
        *octet = first + rng.below(letters) as u8;
    }
    wire
}

/// All variants of a name: with and without the change at each of `places` words.
fn variants(base: &[u8], places: usize) -> Vec<String> {
    let variant = |set: usize| {
        let mut wire = base.to_vec();
        for at in (0..places).filter(|place| set >> place & 1 == 1).map(|place| place * WORD) {
            for octet in [3, 7, WORD + 7] {
                wire[at + octet] ^= 0x40;
            }
        }
        text(&wire)
    };
    (0..1 << places).map(variant).collect()
}

/// A pair: a name whose first label has 63 octets, and one whose labels of 31, 13 and 17 octets end at the hyphen and at the
/// digit 1 of that label; the second label is split in the same way.
fn splits(count: usize) -> Vec<String> {
    let mut rng = Rng::new(42);
    let pair = || {
        let mut whole = base(&mut rng, 2);
        for at in [0, LABEL_MAX + 1] {
            (whole[at + 32], whole[at + 46]) = (b'-', b'1');
        }
        (0..4).map(move |set| {
            let mut wire = whole.clone();
            for at in [0, LABEL_MAX + 1].into_iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, at)| at) {
                (wire[at], wire[at + 32], wire[at + 46]) = (31, 13, 17);
            }
            text(&wire)
        })
    };
    std::iter::repeat_with(pair).flatten().take(count).collect()
}

/// Labels in wire format without the root label, as text.
fn text(mut wire: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((len, rest)) = wire.split_first() {
        let (label, rest) = rest.split_at(usize::from(*len));
        labels.push(str::from_utf8(label).expect("ASCII"));
        wire = rest;
    }
    labels.join(".")
}
