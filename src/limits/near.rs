//! The meters of guests that a worker has met, so that each of their requests need not look for its own in what all
//! workers lock (`meters.rs`). A verified caller's is remembered with its identity.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::limits::meter::Meter;
use crate::limits::meters::network;

/// Some meters of guests, each in the one place where it may be. A worker's own.
#[derive(Debug)]
pub struct Near(RefCell<Box<[Option<Kept>]>>);

#[derive(Debug)]
struct Kept {
    network: Option<u128>,
    bucket: Arc<str>,
    /// Not forgotten elsewhere for as long as it is here.
    meter: Arc<Meter>,
}

impl Default for Near {
    fn default() -> Self {
        Self(RefCell::new((0..PLACES).map(|_| None).collect()))
    }
}

impl Near {
    /// The meter of a client in the bucket of this name. Where it is not known here it is found by `find`, and takes the
    /// place of another.
    pub fn obtain(
        &self,
        client: Option<IpAddr>,
        bucket: &Arc<str>,
        find: impl FnOnce() -> Arc<Meter>,
    ) -> Arc<Meter> {
        let network = client.map(network);
        let mut places = self.0.borrow_mut();
        let place = &mut places[place_of(network)];
        if let Some(kept) = place
            && kept.network == network
            && kept.bucket == *bucket
        {
            return Arc::clone(&kept.meter);
        }
        let meter = find();
        *place = Some(Kept {
            network,
            bucket: Arc::clone(bucket),
            meter: Arc::clone(&meter),
        });
        meter
    }
}

/// Who shares a place with many is looked for each time, as if there were no places.
fn place_of(network: Option<u128>) -> usize {
    let network = network.unwrap_or_default();
    let folded = (network >> 64) as u64 ^ network as u64;
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % PLACES
}

const PLACES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_is_looked_for_once_and_never_anothers() {
        let near = Near::default();
        let (all, own): (Arc<str>, Arc<str>) = ("".into(), "route".into());
        let clients: Vec<Option<IpAddr>> = (0..1000_u32)
            .map(|number| Some(IpAddr::from((0x0a00_0000 + number).to_be_bytes())))
            .chain([None, "2001:db8:0:1::1".parse().ok()])
            .collect();
        let meters: Vec<_> = clients.iter().map(|_| Arc::<Meter>::default()).collect();
        for bucket in [&all, &own] {
            for (client, meter) in clients.iter().zip(&meters) {
                let found = near.obtain(*client, bucket, || Arc::clone(meter));
                assert!(Arc::ptr_eq(&found, meter), "{client:?}");
                let again = near.obtain(*client, bucket, || unreachable!("it is known"));
                assert!(Arc::ptr_eq(&again, meter), "{client:?}");
            }
        }
        // Another bucket is another meter, also where nothing lay between.
        near.obtain(None, &all, || Arc::clone(&meters[0]));
        let other = near.obtain(None, &own, || Arc::clone(&meters[1]));
        assert!(Arc::ptr_eq(&other, &meters[1]));
    }
}
