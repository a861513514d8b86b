//! Address filter for webhooks: only public internet addresses are allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is forbidden; `None` if it is public.
pub fn address_refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => ipv4_refusal(address),
        IpAddr::V6(address) => ipv6_refusal(address),
    }
}

fn ipv4_refusal(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("an unspecified address"),
        [127, ..] => Some("a loopback address"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Some("a private address"),
        [169, 254, ..] => Some("a link-local address"),
        [100, 64..=127, ..] => Some("a shared address (CGNAT)"),
        [224..=239, ..] => Some("a multicast address"),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => {
            Some("a reserved address")
        }
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("a documentation address"),
        _ => None,
    }
}

fn ipv6_refusal(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        // IPv4-compatible and IPv4-mapped: never on the wire, but an OS may connect to the embedded
        // IPv4 address.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => {
            Some(ipv4_refusal(embedded_ipv4(high, low)).unwrap_or("an IPv4 address in IPv6"))
        }
        // NAT64 and 6to4 route to the embedded IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => ipv4_refusal(embedded_ipv4(high, low)),
        [0x2002, high, low, ..] => ipv4_refusal(embedded_ipv4(high, low)),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff, ..] | [0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a documentation address"),
        // Teredo, benchmarking, ORCHID and other IANA special-purpose blocks.
        [0x2001, 0..=0x1ff, ..] => Some("a reserved address"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved address"),
    }
}

/// The IPv4 address in two segments of an IPv6 address.
fn embedded_ipv4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_table() {
        for bad in [
            "127.0.0.1",
            "127.255.0.3",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:a00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "fe80::1",
            "fd00::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(address_refusal(bad.parse().unwrap()).is_some(), "{bad}");
        }
        for good in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::",
        ] {
            assert_eq!(address_refusal(good.parse().unwrap()), None, "{good}");
        }
    }
}
