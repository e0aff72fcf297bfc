//! The content of the faulty file system: bytes and names as programs see them, and what a crash would leave of both.

use super::{Fault, Misread, Mode, Operation};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;

/// A file, whatever its names.
pub(super) type NodeId = u64;

pub(super) struct Disk {
    random: u64,
    /// Crashes so far.
    pub(super) epoch: u64,
    pub(super) down: bool,
    pub(super) crash_at: Option<u64>,
    pub(super) operations: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) capacity: Option<u64>,
    pub(super) lying: bool,
    /// Milliseconds since 1970.
    pub(super) now_ms: i64,
    flips: Vec<Flip>,
    pub(super) misreads: Vec<Misread>,
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    /// Names as programs see them.
    names: BTreeMap<PathBuf, NodeId>,
    /// Names as a crash would leave them if it lost all that is pending.
    durable_names: BTreeMap<PathBuf, NodeId>,
    /// Changes of names since the folder's last sync.
    pending: BTreeMap<PathBuf, Vec<NameChange>>,
    dirs: BTreeSet<PathBuf>,
    /// Folders that have a holder.
    locks: BTreeSet<PathBuf>,
}

/// A bit that reads return flipped.
struct Flip {
    path: PathBuf,
    position: u64,
    bit: u8,
    lasts: Lasts,
}

/// How long it does.
enum Lasts {
    /// So many reads.
    Reads(u64),
    /// Until what is cached is forgotten.
    Cached,
}

enum NameChange {
    Link(PathBuf, NodeId),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
    UnlinkTree(PathBuf),
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, NodeId>) {
        match self {
            NameChange::Link(path, node) => {
                names.insert(path, node);
            }
            NameChange::Rename(from, to) => {
                if let Some(node) = names.remove(&from) {
                    names.insert(to, node);
                }
            }
            NameChange::Unlink(path) => {
                names.remove(&path);
            }
            NameChange::UnlinkTree(dir) => names.retain(|path, _| !path.starts_with(&dir)),
        }
    }
}

/// A file's bytes, and what they were at its last sync where they have changed since.
#[derive(Default)]
struct Node {
    data: Vec<u8>,
    synced_len: usize,
    /// Sectors that were written since the last sync, as they were then (shorter at the end of the file).
    before: BTreeMap<usize, Vec<u8>>,
    open: u64,
    modified_ms: i64,
}

impl Node {
    /// Remembers the sectors of a range before they change.
    fn touch(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            let data = &self.data;
            self.before.entry(sector).or_insert_with(|| {
                let start = (sector * SECTOR).min(data.len());
                data[start..(start + SECTOR).min(data.len())].to_vec()
            });
        }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        self.touch(at.min(self.data.len()), end);
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[at..end].copy_from_slice(bytes);
    }

    fn set_len(&mut self, len: usize) {
        self.touch(len.min(self.data.len()), len.max(self.data.len()));
        self.data.resize(len, 0);
    }

    fn sync(&mut self) {
        self.before.clear();
        self.synced_len = self.data.len();
    }

    /// Keeps some of what was not synced.
    fn crash(&mut self, random: &mut u64) {
        let how = next(random) % 4;
        let kept_sectors = next(random) as usize % (self.before.len() + 1);
        let new_len = self.data.len();
        let mut kept_end = 0;
        for (number, (sector, before)) in std::mem::take(&mut self.before).into_iter().enumerate() {
            let keep = match how {
                0 => false,
                1 => true,
                2 => number < kept_sectors,
                _ => next(random).is_multiple_of(2),
            };
            let start = sector * SECTOR;
            if keep {
                kept_end = kept_end.max((start + SECTOR).min(new_len));
            } else {
                self.revert(start, &before);
            }
        }
        // The length is what the kept sectors need, or a bit more; a file that was cut may have its old length again.
        let len = match how {
            0 => self.synced_len,
            1 => new_len,
            _ if new_len < self.synced_len => {
                if next(random).is_multiple_of(2) {
                    new_len
                } else {
                    self.synced_len
                }
            }
            _ if next(random).is_multiple_of(4) => new_len,
            _ => kept_end.max(self.synced_len),
        };
        self.data.resize(len, 0);
        self.sync();
    }

    fn revert(&mut self, start: usize, before: &[u8]) {
        let end = start + before.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[start..end].copy_from_slice(before);
        let sector_end = (start + SECTOR).min(self.data.len());
        self.data[end..sector_end].fill(0);
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

impl Disk {
    /// See [`super::FaultyFs::copy`].
    pub(super) fn copy(&self, seed: u64) -> Disk {
        let mut copy = Disk::new(seed);
        copy.dirs.clone_from(&self.dirs);
        for (path, node) in &self.names {
            let mut node = Node {
                data: self.nodes.get(node).map_or_else(Vec::new, |node| node.data.clone()),
                ..Node::default()
            };
            node.sync();
            copy.nodes.insert(copy.next_node, node);
            copy.names.insert(path.clone(), copy.next_node);
            copy.durable_names.insert(path.clone(), copy.next_node);
            copy.next_node += 1;
        }
        copy
    }

    pub(super) fn new(seed: u64) -> Disk {
        Disk {
            random: seed,
            epoch: 0,
            down: false,
            crash_at: None,
            operations: 0,
            faults: Vec::new(),
            capacity: None,
            lying: false,
            now_ms: 0,
            flips: Vec::new(),
            misreads: Vec::new(),
            nodes: BTreeMap::new(),
            next_node: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: BTreeMap::new(),
            dirs: BTreeSet::new(),
            locks: BTreeSet::new(),
        }
    }

    pub(super) fn crash(&mut self) {
        for (_, changes) in std::mem::take(&mut self.pending) {
            let kept = next(&mut self.random) as usize % (changes.len() + 1);
            for change in changes.into_iter().take(kept) {
                change.apply(&mut self.durable_names);
            }
        }
        for node in self.nodes.values_mut() {
            node.crash(&mut self.random);
        }
        self.names = self.durable_names.clone();
        self.restart();
    }

    pub(super) fn kill(&mut self) {
        self.restart();
    }

    fn restart(&mut self) {
        self.epoch += 1;
        self.down = false;
        self.crash_at = None;
        self.locks.clear();
        self.nodes.values_mut().for_each(|node| node.open = 0);
        self.drop_unnamed();
    }

    pub(super) fn heal(&mut self) {
        self.faults.clear();
        self.flips.clear();
        self.capacity = None;
        self.lying = false;
    }

    /// Forgets files without a name now or after a crash, unless they are open.
    fn drop_unnamed(&mut self) {
        let pending = self.pending.values().flatten().filter_map(|change| match change {
            NameChange::Link(_, node) => Some(*node),
            _ => None,
        });
        let named: BTreeSet<NodeId> = self
            .names
            .values()
            .chain(self.durable_names.values())
            .copied()
            .chain(pending)
            .collect();
        self.nodes.retain(|id, node| node.open > 0 || named.contains(id));
    }

    /// Counts an operation that changes something. True if it is the one at which everything goes down.
    fn count(&mut self) -> io::Result<bool> {
        self.check_up()?;
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            self.down = true;
        }
        Ok(self.down)
    }

    fn check_up(&self) -> io::Result<()> {
        if self.down {
            Err(io::Error::other("the machine crashed"))
        } else {
            Ok(())
        }
    }

    fn check_faults(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        let path = path.to_string_lossy();
        for fault in &mut self.faults {
            if fault.operation != operation || fault.times == 0 || !path.contains(&fault.path_contains) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times -= 1;
            return Err(io::Error::new(fault.kind, "planned fault"));
        }
        Ok(())
    }

    fn node(&mut self, node: NodeId) -> io::Result<&mut Node> {
        self.nodes
            .get_mut(&node)
            .ok_or_else(|| io::Error::other("no such file"))
    }

    /// Changes a name, pending until the folder's sync.
    fn change(&mut self, dir: &Path, change: NameChange, seen: NameChange) {
        seen.apply(&mut self.names);
        self.pending.entry(dir.to_owned()).or_default().push(change);
    }

    pub(super) fn open(&mut self, path: &Path, mode: Mode) -> io::Result<(NodeId, u64)> {
        self.check_up()?;
        self.check_faults(Operation::Open, path)?;
        let id = match self.names.get(path) {
            Some(id) => *id,
            None if mode == Mode::Create => self.create(path)?,
            None => return Err(not_found(path)),
        };
        self.node(id)?.open += 1;
        Ok((id, self.epoch))
    }

    fn create(&mut self, path: &Path) -> io::Result<NodeId> {
        let dir = parent(path);
        if !self.dirs.contains(&dir) {
            return Err(not_found(&dir));
        }
        self.check_faults(Operation::Name, path)?;
        if self.count()? {
            return Err(io::Error::other("the machine crashed"));
        }
        let id = self.next_node;
        self.next_node += 1;
        let modified_ms = self.now_ms;
        let node = Node {
            modified_ms,
            ..Node::default()
        };
        self.nodes.insert(id, node);
        self.change(
            &dir,
            NameChange::Link(path.to_owned(), id),
            NameChange::Link(path.to_owned(), id),
        );
        Ok(id)
    }

    pub(super) fn close(&mut self, node: NodeId, epoch: u64) {
        if epoch != self.epoch {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&node) {
            node.open = node.open.saturating_sub(1);
        }
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.check_up()?;
        self.check_faults(Operation::Name, path)?;
        self.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    pub(super) fn list(&mut self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.check_up()?;
        self.check_faults(Operation::Read, dir)?;
        if !self.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let all = self.names.keys().chain(self.dirs.iter());
        let inside: BTreeSet<&PathBuf> = all.filter(|path| path.parent() == Some(dir)).collect();
        Ok(inside.into_iter().cloned().collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_faults(Operation::Name, from)?;
        if !self.names.contains_key(from) {
            self.check_up()?;
            return Err(not_found(from));
        }
        if self.count()? {
            return Err(io::Error::other("the machine crashed"));
        }
        let change = || NameChange::Rename(from.to_owned(), to.to_owned());
        self.change(&parent(to), change(), change());
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.check_faults(Operation::Name, path)?;
        if !self.names.contains_key(path) {
            self.check_up()?;
            return Err(not_found(path));
        }
        if self.count()? {
            return Err(io::Error::other("the machine crashed"));
        }
        self.change(
            &parent(path),
            NameChange::Unlink(path.to_owned()),
            NameChange::Unlink(path.to_owned()),
        );
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.check_faults(Operation::Name, path)?;
        if !self.dirs.contains(path) {
            self.check_up()?;
            return Err(not_found(path));
        }
        if self.count()? {
            return Err(io::Error::other("the machine crashed"));
        }
        let change = || NameChange::UnlinkTree(path.to_owned());
        self.change(&parent(path), change(), change());
        self.pending.retain(|dir, _| !dir.starts_with(path));
        self.dirs.retain(|dir| !dir.starts_with(path));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.check_faults(Operation::Sync, dir)?;
        if self.count()? {
            return Err(io::Error::other("the machine crashed"));
        }
        if self.lying {
            return Ok(());
        }
        for change in self.pending.remove(dir).into_iter().flatten() {
            change.apply(&mut self.durable_names);
        }
        self.drop_unnamed();
        Ok(())
    }

    pub(super) fn lock_dir(&mut self, dir: &Path) -> io::Result<u64> {
        self.check_up()?;
        if !self.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        match self.locks.insert(dir.to_owned()) {
            true => Ok(self.epoch),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn unlock_dir(&mut self, dir: &Path, epoch: u64) {
        if epoch == self.epoch {
            self.locks.remove(dir);
        }
    }

    pub(super) fn read(&mut self, path: &Path, node: NodeId, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_up()?;
        self.check_faults(Operation::Read, path)?;
        let data = &self.node(node)?.data;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let read = buf.len().min(data.len() - start);
        buf[..read].copy_from_slice(&data[start..start + read]);
        let within = offset..offset + read as u64;
        let hit = |flip: &&mut Flip| flip.path == path && within.contains(&flip.position);
        for flip in self.flips.iter_mut().filter(hit) {
            buf[(flip.position - offset) as usize] ^= 1 << flip.bit;
            if let Lasts::Reads(times) = &mut flip.lasts {
                *times -= 1;
            }
        }
        self.flips.retain(|flip| !matches!(flip.lasts, Lasts::Reads(0)));
        Ok(read)
    }

    pub(super) fn write(&mut self, path: &Path, node: NodeId, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.check_faults(Operation::Write, path)?;
        let down = self.count()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let wanted = bytes.len();
        bytes.truncate(self.room(node, offset, wanted)?);
        if !bytes.is_empty() {
            let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let modified_ms = self.now_ms;
            let node = self.node(node)?;
            node.write(&bytes, at);
            node.modified_ms = modified_ms;
        }
        match (down, bytes.len() < wanted) {
            (true, _) => Err(io::Error::other("the machine crashed")),
            (false, true) => Err(io::ErrorKind::StorageFull.into()),
            (false, false) => Ok(()),
        }
    }

    /// How many of `wanted` bytes the capacity lets a write have.
    fn room(&mut self, node: NodeId, offset: u64, wanted: usize) -> io::Result<usize> {
        let Some(capacity) = self.capacity else {
            return Ok(wanted);
        };
        let used: u64 = self.nodes.values().map(|node| node.data.len() as u64).sum();
        let len = self.node(node)?.data.len() as u64;
        let end = len + capacity.saturating_sub(used);
        Ok(wanted.min(usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX)))
    }

    pub(super) fn sync_data(&mut self, path: &Path, node: NodeId) -> io::Result<()> {
        self.check_faults(Operation::Sync, path)?;
        if self.count()? {
            return Err(io::Error::other("the machine crashed"));
        }
        if !self.lying {
            self.node(node)?.sync();
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, path: &Path, node: NodeId, len: u64) -> io::Result<()> {
        self.check_faults(Operation::Write, path)?;
        let down = self.count()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let modified_ms = self.now_ms;
        let node = self.node(node)?;
        node.set_len(len);
        node.modified_ms = modified_ms;
        if down {
            Err(io::Error::other("the machine crashed"))
        } else {
            Ok(())
        }
    }

    pub(super) fn modified_ms(&mut self, node: NodeId) -> io::Result<i64> {
        self.check_up()?;
        Ok(self.node(node)?.modified_ms)
    }

    pub(super) fn len(&mut self, node: NodeId) -> io::Result<u64> {
        self.check_up()?;
        Ok(self.node(node)?.data.len() as u64)
    }

    pub(super) fn corrupt(&mut self, path: &Path, position: u64) -> bool {
        let bit = next(&mut self.random) % 8;
        let Some(node) = self.names.get(path).and_then(|id| self.nodes.get_mut(id)) else {
            return false;
        };
        let Some(byte) = usize::try_from(position).ok().and_then(|at| node.data.get_mut(at)) else {
            return false;
        };
        *byte ^= 1 << bit;
        true
    }

    pub(super) fn corrupt_reads(&mut self, path: &Path, position: u64, times: u64) {
        if times > 0 {
            self.flip(path, position, Lasts::Reads(times));
        }
    }

    pub(super) fn corrupt_cached(&mut self, path: &Path, position: u64) {
        self.flip(path, position, Lasts::Cached);
    }

    fn flip(&mut self, path: &Path, position: u64, lasts: Lasts) {
        let bit = (next(&mut self.random) % 8) as u8;
        let path = path.to_owned();
        self.flips.push(Flip {
            path,
            position,
            bit,
            lasts,
        });
    }

    pub(super) fn forget_cached(&mut self, path: &Path, offset: u64, len: u64) {
        let within = offset..offset.saturating_add(len);
        let is_cached = |flip: &Flip| matches!(flip.lasts, Lasts::Cached) && flip.path == path;
        self.flips
            .retain(|flip| !(is_cached(flip) && within.contains(&flip.position)));
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, u64)> {
        let len = |id| self.nodes.get(id).map_or(0, |node| node.data.len() as u64);
        self.names.iter().map(|(path, id)| (path.clone(), len(id))).collect()
    }

    pub(super) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.nodes.get(self.names.get(path)?)?.data.clone())
    }
}
