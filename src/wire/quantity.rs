//! Kubernetes quantities (`500m`, `1.5Gi`, `129e6`), read and rounded as the operator's library does.
//!
//! Why in decimal digits: the rules are exact decimals, rounded away from zero. `0.1Gi` is
//! 107374182.4 byte and counts 107374183; a double would decide such cases by accident.

/// Decimal digits after the point that a quantity keeps; what is smaller counts as one of them.
const NANO_DIGITS: i64 = 9;
/// One whole, in nano.
const NANO: i128 = 1_000_000_000;
/// One thousandth, in nano.
const MILLI: i128 = 1_000_000;
/// The largest quantity, 2^63 - 1 whole; more is cut to it.
const WHOLE_MAX: i64 = i64::MAX;
/// Digits beyond which a number is larger than the cap whatever they are.
const DIGITS_MAX: i64 = 36;

/// Holds an amount in 1/1 000 000 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubeQuantity {
    nanos: i128,
}

impl KubeQuantity {
    /// Returns the amount that `text` stands for; `None` when Kubernetes would not take it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return None;
        }
        let (exponent, doublings) = scale(suffix)?;
        let mut digits: Vec<u8> = whole
            .bytes()
            .chain(fraction.bytes())
            .map(|b| b - b'0')
            .collect();
        let leading_zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..leading_zeros);
        for _ in 0..doublings {
            double(&mut digits);
        }
        let fraction_len = i64::try_from(fraction.len()).ok()?;
        let shift = exponent
            .saturating_sub(fraction_len)
            .saturating_add(NANO_DIGITS);
        let nanos = shifted(&digits, shift).min(i128::from(WHOLE_MAX) * NANO);
        Some(Self {
            nanos: if is_negative { -nanos } else { nanos },
        })
    }

    /// Returns whether the amount is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Returns the amount as a whole number, rounded away from zero.
    #[must_use]
    pub fn whole(self) -> i64 {
        self.in_parts_of(NANO)
    }

    /// Returns the amount in 1/1000, rounded away from zero.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.in_parts_of(MILLI)
    }

    fn in_parts_of(self, part: i128) -> i64 {
        let rest = self.nanos % part;
        let count = self.nanos / part + rest.signum();
        i64::try_from(count).unwrap_or(if count < 0 { i64::MIN } else { i64::MAX })
    }

    /// Returns the double nearest to the amount.
    #[must_use]
    pub fn nearest_f64(self) -> f64 {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let (whole, nanos) = (
            self.nanos.unsigned_abs() / NANO.unsigned_abs(),
            self.nanos.unsigned_abs() % NANO.unsigned_abs(),
        );
        format!("{sign}{whole}.{nanos:09}").parse().unwrap_or(0.0)
    }
}

/// Returns the power of ten and the power of two of a suffix.
fn scale(suffix: &str) -> Option<(i64, u32)> {
    let scale = match suffix {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => (suffix.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    };
    Some(scale)
}

/// Doubles a decimal number.
fn double(digits: &mut Vec<u8>) {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        let twice = *digit * 2 + carry;
        (*digit, carry) = (twice % 10, twice / 10);
    }
    if carry > 0 {
        digits.insert(0, carry);
    }
}

/// Returns `digits` times ten to the `shift`, rounded up; capped far above every quantity.
fn shifted(digits: &[u8], shift: i64) -> i128 {
    if digits.is_empty() {
        return 0;
    }
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let whole_count = count.saturating_add(shift);
    if whole_count > DIGITS_MAX {
        return i128::MAX;
    }
    let whole_count = usize::try_from(whole_count).unwrap_or(0);
    let digit_at = |at: usize| i128::from(digits.get(at).copied().unwrap_or(0));
    let whole = (0..whole_count).fold(0_i128, |sum, at| sum * 10 + digit_at(at));
    let has_rest = digits.iter().skip(whole_count).any(|digit| *digit != 0);
    whole + i128::from(has_rest)
}

#[cfg(test)]
mod tests {
    use super::KubeQuantity;

    #[test]
    fn quantities_round_away_from_zero_and_stop_at_int64() {
        let cases = [
            ("0", 0),
            ("1", 1),
            ("+1", 1),
            ("-1", -1),
            ("1m", 1),
            ("-1m", -1),
            ("1500m", 2),
            ("-1500m", -2),
            ("2.0", 2),
            ("2.5", 3),
            (".5", 1),
            ("5.", 5),
            ("1000100u", 2),
            ("1n", 1),
            ("0.1n", 1),
            ("1e-400", 1),
            ("0e400", 0),
            ("1e400", i64::MAX),
            ("-1e400", -i64::MAX),
            ("1k", 1000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1e+3", 1000),
            ("5e-1", 1),
            ("2E", 2_000_000_000_000_000_000),
            ("0.1Gi", 107_374_183),
            ("1.5Gi", 1_610_612_736),
            ("1Ki", 1024),
            ("3Mi", 3_145_728),
            ("7Ei", 8_070_450_532_247_928_832),
            ("8Ei", i64::MAX),
            ("10Ei", i64::MAX),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("9223372036854775806.5", i64::MAX),
            ("0000000000000000000000000000000000000000000000012", 12),
            ("0.00000000000000000000000000000000000000000000000001Ei", 1),
            ("4.000000000000000000000000000000000000000000000001", 5),
        ];
        for (text, expected) in cases {
            let read = KubeQuantity::parse(text).map(KubeQuantity::whole);
            assert_eq!(read, Some(expected), "{text}");
        }
    }

    #[test]
    fn thousandths_round_away_from_zero_too() {
        for (text, expected) in [("500m", 500), ("2", 2_000), ("1.0001", 1_001), ("-1n", -1)] {
            let read = KubeQuantity::parse(text).map(KubeQuantity::millis);
            assert_eq!(read, Some(expected), "{text}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for text in [
            "", ".", "-", "lots", "1 ", " 1", "1K", "1ki", "1KiB", "1.2.3", "e3", "1e", "1e1.5",
            "--1", "1Gi ", "0x10", "NaN", "١",
        ] {
            assert_eq!(KubeQuantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_nearest_double_is_exact_where_it_can_be() {
        for (text, expected) in [
            ("500m", 0.5),
            ("0.1", 0.1),
            ("2Gi", 2_147_483_648.0),
            ("-2", -2.0),
            ("1e3", 1000.0),
            ("10Ei", 9_223_372_036_854_775_807.0),
        ] {
            assert_eq!(
                KubeQuantity::parse(text).unwrap().nearest_f64().to_bits(),
                f64::to_bits(expected),
                "{text}"
            );
        }
    }
}
