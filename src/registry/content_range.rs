//! Which part of a blob an answer holds.

use http::header::CONTENT_RANGE;

use super::reply::Reply;

/// The `Content-Range` of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) total: Option<u64>,
}

/// Returns the range that an answer names, if it makes sense.
pub(super) fn content_range(reply: &Reply) -> Option<ContentRange> {
    parse_range(reply.header(CONTENT_RANGE.as_str())?)
}

fn parse_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    let range = ContentRange {
        first: first.trim().parse().ok()?,
        last: last.trim().parse().ok()?,
        total,
    };
    let sane = range.first <= range.last && range.total.is_none_or(|t| range.last < t);
    sane.then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(parse_range("bytes 0-0/5"), range(0, 0, Some(5)));
        assert_eq!(parse_range("bytes 3-9/*"), range(3, 9, None));
        for bad in [
            "",
            "bytes */5",
            "bytes 5-3/9",
            "bytes 0-9/9",
            "items 0-1/2",
            "bytes a-b/c",
        ] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
