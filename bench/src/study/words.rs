//! Words of the command line: spans of time and shares.

use std::str::FromStr;
use std::time::Duration;

/// `45ms`, `1.5s`, `10m` or `24h`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span(pub(super) Duration);

/// `1%` or `0.01`, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share(pub(super) f64);

impl FromStr for Span {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &word[digits.len()..] {
            "ms" => Some(0.001),
            "" | "s" => Some(1.0),
            "m" => Some(60.0),
            "h" => Some(3600.0),
            _ => None,
        };
        let seconds = digits.parse::<f64>().ok().zip(unit).map(|(number, unit)| number * unit);
        // A week: nobody waits longer, and no sum of times overflows.
        let seconds = seconds.filter(|seconds| (0.0..=604_800.0).contains(seconds));
        let seconds =
            seconds.ok_or_else(|| format!("`{word}` is no time: write it as 45ms, 60s, 10m or 24h"))?;
        Ok(Span(Duration::from_secs_f64(seconds)))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let share = match word.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
            None => word.parse::<f64>(),
        };
        let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
        share.map(Share).ok_or_else(|| format!("`{word}` is no share: write it as 1% or 0.01"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_read_with_their_units() {
        let ms = |word: &str| word.parse::<Span>().map(|span| span.0.as_millis());
        assert_eq!(
            [ms("45ms"), ms("1.5s"), ms("2m"), ms("24h")],
            [Ok(45), Ok(1500), Ok(120_000), Ok(86_400_000)]
        );
        assert!(["", "ms", "-1s", "3d", "1e9h", "NaNs"].iter().all(|word| word.parse::<Span>().is_err()));
        assert_eq!("1%".parse(), Ok(Share(0.01)));
        assert_eq!("0.5".parse(), Ok(Share(0.5)));
        assert!(["101%", "-0.1", "x", "NaN"].iter().all(|word| word.parse::<Share>().is_err()));
    }
}
