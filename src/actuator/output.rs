//! What a target said, cut to what the ledger keeps.

use std::collections::VecDeque;

/// What the ledger keeps of a target's answer: a screenful, and 256 outcomes still fit a message of 1 MiB.
pub const OUTPUT_BYTES_MAX: usize = 3_584;

/// The end of a stream of bytes. A program's last words say why it failed; its first are banners.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: VecDeque<u8>,
    left_out: u64,
}

impl Tail {
    /// Room for the line before it, which says how it ended.
    const BYTES_MAX: usize = OUTPUT_BYTES_MAX - 256;

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(Self::BYTES_MAX)..];
        let surplus = (self.kept.len() + fresh.len()).saturating_sub(Self::BYTES_MAX);
        self.kept.drain(..surplus);
        self.kept.extend(fresh);
        self.left_out += (bytes.len() - fresh.len() + surplus) as u64;
    }

    /// The text, with a first line that counts what is missing, where something is.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        // A byte that is no text becomes three, so the text is cut once more.
        let text = last(&text, Self::BYTES_MAX);
        match self.left_out {
            0 => text.to_owned(),
            left_out => format!("[{left_out} bytes before this are left out]\n{text}"),
        }
    }
}

/// The first `max` bytes of a text, or a few less: characters stay whole.
pub(super) fn head(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn last(text: &str, max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(max))..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_kept_whole_across_pushes() {
        let mut tail = Tail::default();
        "grüße".as_bytes().chunks(1).for_each(|byte| tail.push(byte));
        assert_eq!(tail.text(), "grüße");
    }

    #[test]
    fn of_a_long_text_the_end_is_kept_and_the_rest_counted() {
        for chunk in [1, 7, 4_000, 100_000] {
            let mut tail = Tail::default();
            let text: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).map(|b| b'a' + b % 26).collect();
            text.chunks(chunk).for_each(|bytes| tail.push(bytes));
            let (first, rest) =
                tail.text().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert_eq!(first, format!("[{} bytes before this are left out]", 80_000 - Tail::BYTES_MAX));
            assert_eq!(rest.as_bytes(), &text[text.len() - Tail::BYTES_MAX..]);
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_limit() {
        let mut tail = Tail::default();
        tail.push(&vec![0xff; 50_000]);
        assert!(tail.text().len() <= OUTPUT_BYTES_MAX);
        assert!(tail.text().ends_with('\u{fffd}'));
    }

    #[test]
    fn characters_are_not_cut() {
        assert_eq!(head("aßb", 2), "a");
        assert_eq!(head("aßb", 9), "aßb");
        assert_eq!(last("aßb", 2), "b");
    }
}
