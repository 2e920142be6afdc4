//! Changes of bytes that know nothing of what they mean, but for how protobuf writes numbers.

use super::random::Random;

/// Longer replies only take longer.
const LENGTH_MAX: usize = 16 * 1024;

/// Varints and doubles at the edges of their ranges.
const TOKENS: [&[u8]; 8] = [
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0, 0, 0, 0, 0, 0, 0xf0, 0x7f],
    &[0, 0, 0, 0, 0, 0, 0xf8, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0x7f],
    &[0, 0, 0, 0, 0, 0, 0xf0, 0xbf],
    &[1, 0, 0, 0, 0, 0, 0, 0],
];

/// Changes `bytes` in one to four places; `other` is where foreign pieces come from.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        mutate_once(bytes, other, random);
    }
    bytes.truncate(LENGTH_MAX);
}

fn mutate_once(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
        2 if !bytes.is_empty() => {
            let by = u8::try_from(random.below(4) + 1).unwrap();
            bytes[at] = bytes[at].wrapping_sub(by);
        }
        3 => {
            let end = (at + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        4 => bytes.truncate(at),
        5 => {
            let end = (at + random.below(256)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            insert(bytes, &piece, random);
        }
        6 => {
            let from = random.below(other.len());
            let end = (from + random.below(256)).min(other.len());
            insert(bytes, &other[from..end], random);
        }
        _ => {
            let token = random.pick(&TOKENS);
            let end = (at + token.len()).min(bytes.len());
            bytes.splice(at..end, token.iter().copied());
        }
    }
}

fn insert(bytes: &mut Vec<u8>, piece: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    bytes.splice(at..at, piece.iter().copied());
}
