//! Under which address a listener is reached, also if it listens on every interface.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// Addresses that stand for the whole network: documentation examples, which no packet is ever sent to.
const SOMEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The URL for other nodes and for people elsewhere. For a listener on every interface it names the interface by which
/// this machine reaches the network, or the loopback one where there is no network.
pub fn from_elsewhere(bound: SocketAddr) -> String {
    url(bound, outward)
}

/// The URL for processes on this machine.
pub fn from_here(bound: SocketAddr) -> String {
    url(bound, |_| None)
}

fn url(bound: SocketAddr, outward: impl FnOnce(IpAddr) -> Option<IpAddr>) -> String {
    let ip = match bound.ip() {
        ip if ip.is_unspecified() => outward(ip).unwrap_or_else(|| loopback(ip)),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, bound.port()))
}

fn loopback(unspecified: IpAddr) -> IpAddr {
    match unspecified {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The address that packets to the network leave from. A listener on `::` takes IPv4 as well.
fn outward(unspecified: IpAddr) -> Option<IpAddr> {
    let taken = SOMEWHERE.into_iter().filter(|far| far.is_ipv4() || unspecified.is_ipv6());
    taken.filter_map(|far| route_to(far).ok()).find(|ip| !ip.is_unspecified())
}

/// Connecting a UDP socket looks the route up and sends nothing.
fn route_to(far: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((far, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_was_chosen_is_published_as_it_is() {
        for address in ["127.0.0.1:5000", "192.168.7.9:80", "[::1]:5000"] {
            let expected = format!("http://{address}");
            assert_eq!((from_here(bound(address)), from_elsewhere(bound(address))), (expected.clone(), expected));
        }
    }

    #[test]
    fn of_every_interface_processes_here_take_the_loopback_one_and_others_one_they_may_reach() {
        assert_eq!(from_here(bound("0.0.0.0:5000")), "http://127.0.0.1:5000");
        assert_eq!(from_here(bound("[::]:5000")), "http://[::1]:5000");
        for every in ["0.0.0.0:5000", "[::]:5000"] {
            let url = from_elsewhere(bound(every));
            let address = bound(url.strip_prefix("http://").unwrap());
            assert!(!address.ip().is_unspecified() && address.port() == 5000, "{url}");
        }
        let outward = |_| Some(IpAddr::from([10, 1, 2, 3]));
        assert_eq!(url(bound("0.0.0.0:5000"), outward), "http://10.1.2.3:5000");
        assert_eq!(url(bound("[::]:5000"), |_| None), "http://[::1]:5000");
    }
}
