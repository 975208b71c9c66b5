//! Names that were chosen to collide: all that differ by what the hash of the first versions kept, whatever its key, and by what
//! folding of case would make the same.
//!
//! That hash was `(h ^ h >> 32) * M` a word of eight octets. A change of 0x40 in octets 3 and 7 of a word (bits 30 and 62: a letter
//! from p to y becomes a digit or a sign) left bit 62 alone changed, the multiplication kept it there, and by one key of two nothing
//! else; the same change of octet 7 in the next word took it back. Each place where a name may have that change or not halves the
//! number of hashes.

use super::rng::Rng;

/// Octets of a word.
const WORD: usize = 8;
const LABEL_MAX: usize = 63;
/// Places for the change in a label of [`LABEL_MAX`] octets, which with its length fills eight words.
const PLACES: usize = 7;
/// As many places in names of several labels.
const FILE_PLACES: usize = 12;

/// Host names as one headless Service's endpoints may have them, of a label each: 128 of a kind that differ by the change alone.
pub fn hostnames(count: usize) -> Vec<String> {
    let mut rng = Rng::new(40);
    let names = std::iter::repeat_with(|| variants(&base(&mut rng, 1), PLACES)).flatten();
    names.take(count).collect()
}

/// Names below `zone` as a domain file may have them: 4,096 of a kind, and pairs whose labels end where the other has a digit or a
/// hyphen, which only bit 0x20 tells from a label's length.
pub fn names(count: usize, zone: &str) -> Vec<String> {
    let mut rng = Rng::new(41);
    let split = count / 16;
    let changed = std::iter::repeat_with(|| variants(&base(&mut rng, 3), FILE_PLACES)).flatten();
    let mut names: Vec<String> = changed.take(count - split).collect();
    names.extend(splits(split));
    names.iter_mut().for_each(|name| *name = format!("{name}.{zone}"));
    names
}

/// Labels of the greatest length, in which each octet of the change's is a letter that it makes a digit.
fn base(rng: &mut Rng, labels: usize) -> Vec<u8> {
    let mut wire = vec![LABEL_MAX as u8; labels * (LABEL_MAX + 1)];
    for (at, octet) in wire.iter_mut().enumerate().filter(|(at, _)| at % (LABEL_MAX + 1) != 0) {
        let (first, letters) = if at % WORD == 3 || at % WORD == 7 { (b'p', 10) } else { (b'a', 15) };
        *octet = first + rng.below(letters) as u8;
    }
    wire
}

/// The name with the change at each of `places` words or not.
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

/// A name whose first label has 63 octets, with one where the labels end at its hyphen and its digit 1: 31, 13 and 17 octets, and
/// so on for the second label.
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

/// Labels on the wire, without the final zero, as text.
fn text(mut wire: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((len, rest)) = wire.split_first() {
        let (label, rest) = rest.split_at(usize::from(*len));
        labels.push(str::from_utf8(label).expect("ASCII"));
        wire = rest;
    }
    labels.join(".")
}
