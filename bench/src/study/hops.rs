//! How many links a message has crossed, as far as that can be known from outside. Pure.

use std::collections::VecDeque;

use fastrand::Rng;

/// Who is connected with whom: for each node its neighbours.
pub(super) type Graph = Vec<Vec<usize>>;

/// The least number of links from each node to each: nothing can have crossed fewer. `None` where no way leads.
pub(super) fn distances(graph: &Graph) -> Vec<Vec<Option<u32>>> {
    let from = |node: usize| {
        let mut distances = vec![None; graph.len()];
        distances[node] = Some(0);
        let mut queue = VecDeque::from([(node, 0)]);
        while let Some((at, distance)) = queue.pop_front() {
            for next in &graph[at] {
                if distances[*next].is_none() {
                    distances[*next] = Some(distance + 1);
                    queue.push_back((*next, distance + 1));
                }
            }
        }
        distances
    };
    (0..graph.len()).map(from).collect()
}

/// Mean links from each node to each over meshes as gossipsub makes them: of its neighbours each node has so many in its
/// mesh, at random. Nobody tells which, and the mean hardly depends on it.
pub(super) fn over_mesh(graph: &Graph, degrees: &[usize], seed: u64) -> f64 {
    const MESHES: usize = 8;
    let mut lots = Rng::with_seed(seed);
    let (mut sum, mut ways) = (0.0, 0.0);
    for _ in 0..MESHES {
        for distance in
            distances(&mesh(graph, degrees, &mut lots)).iter().flatten().flatten().filter(|d| **d > 0)
        {
            sum += f64::from(*distance);
            ways += 1.0;
        }
    }
    sum / ways
}

/// Links at random, as long as both ends have places left.
fn mesh(graph: &Graph, degrees: &[usize], lots: &mut Rng) -> Graph {
    let links =
        graph.iter().enumerate().flat_map(|(node, others)| others.iter().map(move |other| (node, *other)));
    let mut links: Vec<(usize, usize)> = links.filter(|(from, to)| from < to).collect();
    lots.shuffle(&mut links);
    let mut mesh: Graph = vec![Vec::new(); graph.len()];
    for (from, to) in links {
        if mesh[from].len() < degrees[from] && mesh[to].len() < degrees[to] {
            mesh[from].push(to);
            mesh[to].push(from);
        }
    }
    mesh
}

/// The links that one message has crossed to each node, by the times at which it arrived (ms since it was said, 0 at its
/// author): it came from the neighbour who had it for closest to one link's delay (ms). `None` where it did not arrive.
pub(super) fn by_arrival(graph: &Graph, arrived: &[Option<f64>], delay: f64) -> Vec<Option<u32>> {
    let mut order: Vec<usize> = (0..graph.len()).filter(|node| arrived[*node].is_some()).collect();
    order.sort_by(|a, b| arrived[*a].partial_cmp(&arrived[*b]).unwrap_or(std::cmp::Ordering::Equal));
    let mut hops: Vec<Option<u32>> = vec![None; graph.len()];
    let Some((author, others)) = order.split_first() else { return hops };
    hops[*author] = Some(0);
    for node in others {
        let misfit = |neighbour: &usize| -> Option<(f64, u32)> {
            let span = arrived[*node]? - arrived[*neighbour]?;
            Some(((span - delay).abs(), hops[*neighbour]?))
        };
        let best = graph[*node].iter().filter_map(misfit).min_by(|a, b| a.0.total_cmp(&b.0));
        hops[*node] = best.map(|(_, hops)| hops + 1);
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 - 1 - 2 - 3, and 4 alone.
    fn line() -> Graph {
        vec![vec![1], vec![0, 2], vec![1, 3], vec![2], vec![]]
    }

    #[test]
    fn distances_are_the_shortest_ways() {
        let distances = distances(&line());
        assert_eq!(distances[0], [Some(0), Some(1), Some(2), Some(3), None]);
        assert_eq!(distances[2][0], Some(2));
    }

    #[test]
    fn a_mesh_makes_ways_longer() {
        let everybody = |node: usize| (0..16).filter(|other| *other != node).collect();
        let graph: Graph = (0..16).map(everybody).collect();
        assert_eq!(over_mesh(&graph, &[15; 16], 1), 1.0);
        let hops = over_mesh(&graph, &[6; 16], 1);
        assert!((1.5..1.8).contains(&hops), "{hops}");
        assert_eq!(hops, over_mesh(&graph, &[6; 16], 1));
    }

    #[test]
    fn the_way_is_the_one_whose_links_took_their_delay() {
        // 2 is a neighbour of 0, too, but had it from 1.
        let graph = vec![vec![1, 2], vec![0, 2], vec![0, 1]];
        let arrived = [Some(0.0), Some(44.0), Some(93.0)];
        assert_eq!(by_arrival(&graph, &arrived, 45.0), [Some(0), Some(1), Some(2)]);
        assert_eq!(by_arrival(&graph, &[Some(0.0), None, Some(47.0)], 45.0), [Some(0), None, Some(1)]);
    }
}
