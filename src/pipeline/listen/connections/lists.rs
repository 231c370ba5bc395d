//! Doubly linked lists through one vector: each change takes constant time.
//!
//! A node can be in one list of each kind. A list is a circle through a node that is its head;
//! a node that is in no list of a kind is a circle of its own.

/// A place in the vector.
pub type Node = u32;

/// The neighbours of a node in one list.
#[derive(Debug, Clone, Copy)]
struct Links {
    previous: Node,
    next: Node,
}

/// Nodes, each with its neighbours in `KINDS` lists.
#[derive(Debug, Default)]
pub struct Lists<const KINDS: usize> {
    nodes: Vec<[Links; KINDS]>,
    free: Vec<Node>,
}

impl<const KINDS: usize> Lists<KINDS> {
    /// A node that is in no list.
    pub fn add(&mut self) -> Node {
        let node = self.free.pop().unwrap_or_else(|| {
            let node = Node::try_from(self.nodes.len()).unwrap_or(Node::MAX);
            let alone = Links {
                previous: node,
                next: node,
            };
            self.nodes.push([alone; KINDS]);
            node
        });
        debug_assert!((0..KINDS).all(|kind| self.next(kind, node) == node));
        node
    }

    /// Takes a node out of all lists. Its number is used again.
    pub fn remove(&mut self, node: Node) {
        for kind in 0..KINDS {
            self.unlink(kind, node);
        }
        self.free.push(node);
    }

    /// The first node of a list, by the list's head.
    pub fn first(&self, kind: usize, head: Node) -> Option<Node> {
        let first = self.next(kind, head);
        (first != head).then_some(first)
    }

    /// Moves a node to the end of a list.
    pub fn move_to_end(&mut self, kind: usize, head: Node, node: Node) {
        self.unlink(kind, node);
        let last = self.links(kind, head).previous;
        *self.links(kind, node) = Links {
            previous: last,
            next: head,
        };
        self.links(kind, last).next = node;
        self.links(kind, head).previous = node;
    }

    /// Takes a node out of its list, if it is in one.
    pub fn unlink(&mut self, kind: usize, node: Node) {
        let Links { previous, next } = *self.links(kind, node);
        self.links(kind, previous).next = next;
        self.links(kind, next).previous = previous;
        *self.links(kind, node) = Links {
            previous: node,
            next: node,
        };
    }

    fn next(&self, kind: usize, node: Node) -> Node {
        self.nodes[node as usize][kind].next
    }

    fn links(&mut self, kind: usize, node: Node) -> &mut Links {
        &mut self.nodes[node as usize][kind]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn listed(lists: &Lists<2>, kind: usize, head: Node) -> Vec<Node> {
        let mut at = head;
        let next = || {
            at = lists.next(kind, at);
            (at != head).then_some(at)
        };
        std::iter::from_fn(next).collect()
    }

    proptest! {
        #[test]
        fn lists_hold_what_plain_ones_hold(
            steps in proptest::collection::vec((0..4_u8, 0..2_usize, 0..3_usize, 0..12_usize), 0..200)
        ) {
            let mut lists = Lists::<2>::default();
            let heads: Vec<Node> = (0..3).map(|_| lists.add()).collect();
            let mut nodes: Vec<Node> = (0..8).map(|_| lists.add()).collect();
            let mut plain = vec![vec![VecDeque::new(); 3]; 2];
            for (step, kind, head, node) in steps {
                let number = node % nodes.len();
                let node = nodes[number];
                match step {
                    0 | 1 => {
                        lists.move_to_end(kind, heads[head], node);
                        plain[kind].iter_mut().for_each(|list| list.retain(|other| *other != node));
                        plain[kind][head].push_back(node);
                    }
                    2 => {
                        lists.unlink(kind, node);
                        plain[kind].iter_mut().for_each(|list| list.retain(|other| *other != node));
                    }
                    _ => {
                        lists.remove(node);
                        plain.iter_mut().flatten().for_each(|list| list.retain(|other| *other != node));
                        nodes[number] = lists.add();
                    }
                }
                for (kind, expected) in plain.iter().enumerate() {
                    for (head, expected) in heads.iter().zip(expected) {
                        prop_assert_eq!(lists.first(kind, *head), expected.front().copied());
                        prop_assert_eq!(listed(&lists, kind, *head), expected.iter().copied().collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}
