//! Kubernetes quantities, as exact as Kubernetes keeps them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO_DIGITS: u32 = 9;
const NANOS: i128 = 1_000_000_000;

/// Returns a quantity in billionths of its unit; smaller parts are rounded away from zero.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let text = text.trim();
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (exponent, binary_power) = scale_of(suffix)?;
    let scaled = digits.checked_mul(1024_i128.checked_pow(binary_power)?)?;
    let decimals = i32::try_from(fraction.len()).ok()?;
    let places = i32::try_from(NANO_DIGITS)
        .ok()?
        .checked_add(exponent)?
        .checked_sub(decimals)?;
    let factor = 10_i128.checked_pow(places.unsigned_abs())?;
    let amount = if places >= 0 {
        scaled.checked_mul(factor)?
    } else {
        div_up(scaled, factor)
    };
    Some(if is_negative { -amount } else { amount })
}

/// Returns a suffix as a power of ten and a power of 1024.
fn scale_of(suffix: &str) -> Option<(i32, u32)> {
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(place) = decimal.iter().position(|&known| known == suffix) {
        return Some((i32::try_from(place).ok()? * 3 - 9, 0));
    }
    if let Some(place) = binary.iter().position(|&known| known == suffix) {
        return Some((0, u32::try_from(place).ok()? + 1));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((exponent, 0))
}

fn div_up(dividend: i128, divisor: i128) -> i128 {
    dividend / divisor + i128::from(dividend % divisor != 0)
}

/// Returns a quantity as the whole number that `ray start` gets: rounded away from zero.
pub(super) fn rounded(quantity: &Quantity) -> Option<i64> {
    let nanos = nanos(&quantity.0)?;
    let whole = div_up(nanos.abs(), NANOS) * nanos.signum();
    Some(i64::try_from(whole).unwrap_or(if whole > 0 { i64::MAX } else { i64::MIN }))
}

/// Writes a sum of processors, accelerators and the like.
pub(super) fn decimal(nanos: i128) -> String {
    let millis = div_up(nanos, NANOS / 1000);
    if millis % 1000 == 0 {
        (millis / 1000).to_string()
    } else {
        format!("{millis}m")
    }
}

/// Writes a sum of memory with the largest binary unit that leaves it whole.
pub(super) fn binary(nanos: i128) -> String {
    let mut amount = div_up(nanos, NANOS);
    let mut unit = "";
    for larger in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if amount == 0 || amount % 1024 != 0 {
            break;
        }
        amount /= 1024;
        unit = larger;
    }
    format!("{amount}{unit}")
}

#[cfg(test)]
mod tests {
    use super::{binary, decimal, nanos, rounded};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    #[test]
    fn quantities_round_away_from_zero_to_whole_numbers() {
        let cases = [
            ("500m", 1),
            ("1500m", 2),
            ("2.5", 3),
            ("2.0", 2),
            ("1e3", 1000),
            ("1k", 1000),
            ("1000100u", 2),
            ("0.1Gi", 107_374_183),
            ("129e6", 129_000_000),
            ("7Ei", 8_070_450_532_247_928_832),
            ("10Ei", i64::MAX),
            ("-1", -1),
            ("0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(
                rounded(&Quantity(text.to_owned())),
                Some(expected),
                "{text}"
            );
        }
        for text in ["", "Gi", "1Q", "1.2.3", "1e"] {
            assert_eq!(rounded(&Quantity(text.to_owned())), None, "{text}");
        }
    }

    #[test]
    fn sums_are_written_as_kubernetes_writes_them() {
        let sum = nanos("1").unwrap() + nanos("500m").unwrap();
        assert_eq!(decimal(sum), "1500m");
        assert_eq!(decimal(sum * 2), "3");
        let sum = nanos("1Gi").unwrap() + nanos("512Mi").unwrap();
        assert_eq!(binary(sum), "1536Mi");
        assert_eq!(binary(0), "0");
    }
}
