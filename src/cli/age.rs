//! Ages as people read them: two units at most.

/// Returns a length of time: `0.3 s`, `42 s`, `3m 5s`, `2h 10m`, `5d 3h`.
pub(super) fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |large: u64, unit: &str, small: u64, rest: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{rest}"),
    };
    match seconds {
        0..10 => format!("{seconds}.{} s", ms % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_have_two_units_at_most() {
        for (ms, text) in [
            (0, "0.0 s"),
            (349, "0.3 s"),
            (9_999, "9.9 s"),
            (42_000, "42 s"),
            (60_000, "1m"),
            (185_000, "3m 5s"),
            (7_800_000, "2h 10m"),
            (442_800_000, "5d 3h"),
        ] {
            assert_eq!(age(ms), text);
        }
    }
}
