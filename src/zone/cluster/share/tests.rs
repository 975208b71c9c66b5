use super::*;
use crate::zone::cluster::tests::Random;

fn sizes(random: &mut Random) -> Sizes {
    NameGroup::ALL.map(|_| {
        let names = random.below(6);
        Size { names, units: names * (1 + random.below(4)) }
    })
}

/// A decision that remains valid while a namespace does not change equals a new one.
#[test]
fn decisions_that_remain_valid_equal_new_ones() {
    let (mut stood, mut decided) = (0, 0);
    for seed in 1..=40 {
        let mut random = Random(seed);
        let (mut shares, mut anew) = (Shares::new(), Shares::new());
        let keys: Vec<Arc<Key>> =
            (0..60).map(|i| Arc::new(Key::new(&format!("ns{}", i % (1 + i % 5)), &format!("s{i}")))).collect();
        let mut now = vec![Sizes::default(); keys.len()];
        for round in 0..200 {
            if random.below(8) == 0 {
                let capacity = Size { names: 100 + random.below(500), units: 300 + random.below(1500) };
                shares.set_capacity(capacity);
                anew.set_capacity(capacity);
            }
            for _ in 0..random.below(3) {
                let i = random.below(keys.len());
                let new = if random.below(4) == 0 { Sizes::default() } else { sizes(&mut random) };
                shares.count(&keys[i], now[i], new);
                anew.count(&keys[i], now[i], new);
                now[i] = new;
            }
            let settled = shares.namespaces.values().filter(|n| n.settled.is_some()).count();
            stood += settled;
            decided += shares.namespaces.len() - settled;
            anew.namespaces.values_mut().for_each(|n| n.settled = None);
            let (got, wanted) = (shares.decide(), anew.decide());
            assert!(
                got.services == wanted.services && got.namespaces.len() == wanted.namespaces.len(),
                "{seed} {round}"
            );
            assert_eq!(shares.largest_namespaces(9), anew.largest_namespaces(9), "seed {seed}, round {round}");
            for key in &keys {
                assert_eq!(shares.withheld(key), anew.withheld(key), "seed {seed}, round {round}: {}", key.name);
            }
            assert_eq!(
                (shares.held(), shares.withheld_names()),
                (anew.held(), anew.withheld_names()),
                "seed {seed}, round {round}"
            );
        }
    }
    assert!(stood > 1000 && decided > 1000, "{stood} {decided}");
}
