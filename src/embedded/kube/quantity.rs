//! Amounts of resources, written the one way that the API server writes them.

/// Billionths: the finest that Kubernetes keeps.
const NANO: i128 = 1_000_000_000;

const BINARY: [(&str, u32); 7] = [
    ("Ei", 60),
    ("Pi", 50),
    ("Ti", 40),
    ("Gi", 30),
    ("Mi", 20),
    ("Ki", 10),
    ("", 0),
];

/// Powers of ten, in billionths.
const DECIMAL: [(&str, u32); 10] = [
    ("E", 27),
    ("P", 24),
    ("T", 21),
    ("G", 18),
    ("M", 15),
    ("k", 12),
    ("", 9),
    ("m", 6),
    ("u", 3),
    ("n", 0),
];

/// An amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantity {
    nanos: i128,
    is_binary: bool,
}

impl Quantity {
    /// Returns none for what is no amount, and for the form with an exponent, which nobody here writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let nanos = nanos(number)?;
        if let Some((_, bits)) = BINARY
            .iter()
            .find(|(unit, bits)| *unit == suffix && *bits > 0)
        {
            let nanos = nanos.checked_mul(1 << bits)?;
            return Some(Self {
                nanos,
                is_binary: true,
            });
        }
        let (_, zeros) = DECIMAL.iter().find(|(unit, _)| *unit == suffix)?;
        let unit = 10_i128.pow(*zeros);
        let nanos = nanos.checked_mul(unit)? / NANO;
        Some(Self {
            nanos,
            is_binary: false,
        })
    }

    pub(super) const fn nanos(self) -> i128 {
        self.nanos
    }

    /// Returns the amount with the largest unit that leaves a whole number.
    pub(super) fn to_text(self) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let whole = self.nanos / NANO;
        if self.is_binary && self.nanos % NANO == 0 && whole.abs() >= 1024 {
            let fits = |(_, bits): &&(&str, u32)| whole % (1_i128 << bits) == 0;
            if let Some((unit, bits)) = BINARY.iter().find(fits) {
                return format!("{}{unit}", whole >> bits);
            }
        }
        let fits = |(_, zeros): &&(&str, u32)| self.nanos % 10_i128.pow(*zeros) == 0;
        match DECIMAL.iter().find(fits) {
            Some((unit, zeros)) => format!("{}{unit}", self.nanos / 10_i128.pow(*zeros)),
            None => format!("{}n", self.nanos),
        }
    }
}

fn nanos(number: &str) -> Option<i128> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i128 = format!("0{whole}{part}").parse().ok()?;
    Some(nanos * sign)
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn amounts_are_written_as_the_api_server_does() {
        let rows = [
            ("1", "1"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100Ti", "100Ti"),
            ("100000", "100k"),
            ("1000k", "1M"),
            ("0", "0"),
            ("1500", "1500"),
            ("2048", "2048"),
            ("512Ki", "512Ki"),
            ("-2", "-2"),
        ];
        for (text, expected) in rows {
            assert_eq!(Quantity::parse(text).unwrap().to_text(), expected, "{text}");
        }
        for wrong in ["", "x", "1x", "Gi", "."] {
            assert_eq!(Quantity::parse(wrong), None, "{wrong}");
        }
    }
}
