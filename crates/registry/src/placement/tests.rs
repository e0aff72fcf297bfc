use super::*;

/// Brokers 1.. without load, in as many racks (none for zero).
fn brokers(count: usize, racks: usize) -> Vec<Candidate> {
    let rack = |n: usize| (racks > 0).then(|| format!("rack-{}", n % racks));
    (0..count)
        .map(|n| Candidate {
            id: BrokerId(n as i32 + 1),
            rack: rack(n),
            replicas: 0,
            leaders: 0,
        })
        .collect()
}

/// Adds what was placed to the brokers' load.
fn settle(candidates: &mut [Candidate], placed: &[Vec<BrokerId>]) {
    for replicas in placed {
        for (place, id) in replicas.iter().enumerate() {
            let broker = candidates.iter_mut().find(|c| c.id == *id).unwrap();
            broker.replicas += 1;
            broker.leaders += usize::from(place == 0);
        }
    }
}

fn spread(values: impl Iterator<Item = usize> + Clone) -> usize {
    values.clone().max().unwrap() - values.min().unwrap()
}

fn replica_spread(candidates: &[Candidate]) -> usize {
    spread(candidates.iter().map(|c| c.replicas))
}

fn leader_spread(candidates: &[Candidate]) -> usize {
    spread(candidates.iter().map(|c| c.leaders))
}

/// What must always hold: so many partitions, so many distinct replicas each, over as many racks as possible.
fn check(candidates: &[Candidate], partitions: usize, factor: usize) -> Vec<Vec<BrokerId>> {
    let placed = place(candidates, partitions, factor).unwrap();
    assert_eq!(placed.len(), partitions);
    let rack_of = |id: &BrokerId| {
        let broker = candidates.iter().find(|c| c.id == *id).unwrap();
        broker.rack.clone().unwrap_or_else(|| format!("own-{id}"))
    };
    let racks: std::collections::BTreeSet<String> = candidates.iter().map(|c| rack_of(&c.id)).collect();
    for replicas in &placed {
        let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
        assert_eq!(distinct.len(), factor);
        let used: std::collections::BTreeSet<String> = replicas.iter().map(rack_of).collect();
        assert_eq!(used.len(), factor.min(racks.len()), "{replicas:?}");
    }
    assert_eq!(
        placed,
        place(candidates, partitions, factor).unwrap(),
        "the same input, the same result"
    );
    placed
}

#[test]
fn ten_partitions_with_three_replicas_on_six_brokers() {
    let mut candidates = brokers(6, 0);
    let placed = check(&candidates, 10, 3);
    settle(&mut candidates, &placed);
    assert!(candidates.iter().all(|c| c.replicas == 5), "{candidates:?}");
    assert!(leader_spread(&candidates) <= 1, "{candidates:?}");
}

#[test]
fn even_for_every_shape_without_racks() {
    for count in 1..=9 {
        for factor in 1..=count.min(limits::REPLICATION_FACTOR) {
            for partitions in [1, 2, 3, 5, 7, 10, 16, 33, 100] {
                let mut candidates = brokers(count, 0);
                let placed = check(&candidates, partitions, factor);
                settle(&mut candidates, &placed);
                assert!(
                    replica_spread(&candidates) <= 1,
                    "{count} {factor} {partitions}: {candidates:?}"
                );
                assert!(
                    leader_spread(&candidates) <= 1,
                    "{count} {factor} {partitions}: {candidates:?}"
                );
            }
        }
    }
}

#[test]
fn even_for_every_shape_with_racks_of_one_size() {
    for (racks, per_rack) in [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3), (4, 2)] {
        for factor in 1..=(racks * per_rack).min(limits::REPLICATION_FACTOR) {
            for partitions in [1, 2, 3, 5, 7, 10, 16, 33, 100] {
                let mut candidates = brokers(racks * per_rack, racks);
                let placed = check(&candidates, partitions, factor);
                settle(&mut candidates, &placed);
                assert!(
                    replica_spread(&candidates) <= 1,
                    "{racks}x{per_rack} {factor} {partitions}: {candidates:?}"
                );
                assert!(
                    leader_spread(&candidates) <= 1,
                    "{racks}x{per_rack} {factor} {partitions}: {candidates:?}"
                );
            }
        }
    }
}

#[test]
fn random_clusters_keep_their_racks_apart() {
    let mut seed = 7;
    let mut below = |limit: usize| {
        seed = scramble(seed);
        (seed % limit as u64) as usize
    };
    for _ in 0..300 {
        let count = 1 + below(12);
        let racks = below(5);
        let candidates: Vec<Candidate> = (0..count)
            .map(|n| Candidate {
                id: BrokerId(n as i32 * 3),
                rack: (racks > 0).then(|| format!("r{}", below(racks))),
                replicas: below(20),
                leaders: below(8),
            })
            .collect();
        let factor = 1 + below(count.min(limits::REPLICATION_FACTOR));
        check(&candidates, below(40), factor);
    }
}

#[test]
fn topics_one_after_the_other_stay_even() {
    let mut candidates = brokers(6, 0);
    for topic in 0..100 {
        let placed = check(&candidates, 1 + topic % 3, 3);
        settle(&mut candidates, &placed);
        assert!(replica_spread(&candidates) <= 1, "{topic}: {candidates:?}");
        assert!(leader_spread(&candidates) <= 2, "{topic}: {candidates:?}");
    }
}

#[test]
fn a_new_broker_is_filled_first() {
    let mut candidates = brokers(4, 0);
    for broker in &mut candidates[..3] {
        broker.replicas = 30;
        broker.leaders = 10;
    }
    let placed = check(&candidates, 6, 3);
    settle(&mut candidates, &placed);
    assert_eq!(candidates[3].replicas, 6, "it is in every new partition");
    assert_eq!(candidates[3].leaders, 6, "and leads them all");
}

#[test]
fn a_lost_brokers_partitions_fall_on_many() {
    let placed = check(&brokers(6, 0), 60, 3);
    let heirs: std::collections::BTreeSet<_> = placed
        .iter()
        .filter(|replicas| replicas[0] == BrokerId(1))
        .map(|replicas| replicas[1])
        .collect();
    assert!(heirs.len() >= 4, "{heirs:?}");
}

#[test]
fn more_replicas_than_brokers_are_refused() {
    for factor in [0, 4] {
        assert_eq!(
            place(&brokers(3, 0), 1, factor),
            Err(CatalogError::InvalidReplicationFactor {
                asked: factor as i32,
                available: 3
            })
        );
    }
    assert!(place(&[], 1, 1).is_err());
    assert_eq!(place(&brokers(3, 0), 0, 1), Ok(vec![]));
}

#[test]
fn the_largest_topic_is_placed_in_reasonable_time() {
    let mut candidates = brokers(30, 3);
    let placed = check(&candidates, limits::PARTITIONS_PER_TOPIC, 3);
    settle(&mut candidates, &placed);
    assert!(replica_spread(&candidates) <= 1);
    assert!(leader_spread(&candidates) <= 1);
}
