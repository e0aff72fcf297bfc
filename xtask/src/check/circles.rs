//! The files of a crate that import each other in a circle: one module with several names.

use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The files that a crate's largest circle may have.
const LARGEST: usize = 5;

/// Crates of which a circle may have fewer or more files: the broker's threads are to know message types only, and not
/// each other. The numbers are today's where the aim (none in the broker, [`LARGEST`] elsewhere) is not reached; lower
/// them with the circles, and never raise one.
const OTHERS: [(&str, usize); 2] = [("broker", 8), ("storage", 12)];

/// The modules that each module imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Circles that are too large.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let crates = workspace.root.join("crates");
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&crates).with_context(|| format!("{} can't be listed", crates.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut sources = BTreeMap::new();
        read_sources(&entry.path().join("src"), "", &mut sources)?;
        let most = OTHERS.iter().find(|(other, _)| *other == name);
        let most = most.map_or(LARGEST, |(_, most)| *most);
        wrong.extend(too_large(&name, &circles(&imports(&sources)), most));
    }
    Ok(wrong)
}

fn too_large(name: &str, circles: &[BTreeSet<String>], most: usize) -> Vec<String> {
    let large = circles.iter().filter(|circle| circle.len() > most);
    let say = |circle: &BTreeSet<String>| {
        let files: Vec<&str> = circle.iter().map(String::as_str).collect();
        format!(
            "crates/{name}: {} files import each other in a circle, and {most} may at most: move the types that they \
             exchange into a module that imports none of them ({})",
            circle.len(),
            files.join(", ")
        )
    };
    large.map(say).collect()
}

/// Every module of a folder with its text, but for tests.
fn read_sources(folder: &Path, prefix: &str, to: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} can't be listed", folder.display()))? {
        let path = entry?.path();
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        if stem == "tests" {
            continue;
        }
        let module = format!("{prefix}{stem}");
        if path.is_dir() {
            read_sources(&path, &format!("{module}::"), to)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
            to.insert(module, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn imports(sources: &BTreeMap<String, String>) -> Imports {
    let imports_of = |(module, text): (&String, &String)| {
        let modules = paths(text).iter().filter_map(|path| module_of(path, sources)).collect();
        (module.clone(), modules)
    };
    let mut imports: Imports = sources.iter().map(imports_of).collect();
    for (module, of) in &mut imports {
        of.remove(module);
    }
    imports
}

/// The longest part of a path that is a module's.
fn module_of(path: &str, sources: &BTreeMap<String, String>) -> Option<String> {
    let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
    let prefixes: Vec<&str> = ends.map(|end| &path[..end]).collect();
    let longest = prefixes.into_iter().rev().find(|prefix| sources.contains_key(*prefix));
    longest.map(str::to_owned)
}

/// The paths behind `crate::` of all `use crate::…;` before the tests.
fn paths(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut paths = Vec::new();
    for line_and_rest in text.split("use crate::").skip(1) {
        let tree = line_and_rest.split(';').next().unwrap_or_default();
        let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &tree, &mut paths);
    }
    paths
}

/// The paths of a tree of imports.
fn expand(prefix: &str, tree: &str, to: &mut Vec<String>) {
    let Some((head, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return to.push(format!("{prefix}{}", path.trim()));
    };
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let prefix = format!("{prefix}{}", head.trim());
    let (mut depth, mut begin) = (0, 0);
    for (at, character) in list.char_indices().chain([(list.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &list[begin..at], to);
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// Modules that all import each other, directly or through others.
fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|module| (module, reach(module, imports))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (module, others) in &reached {
        let back = others.iter().filter(|other| reached[**other].contains(module));
        let circle: BTreeSet<String> = back.map(|other| (*other).clone()).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// The modules that a module imports, directly or through others.
fn reach<'a>(module: &'a String, imports: &'a Imports) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![module];
    while let Some(module) = next.pop() {
        for import in &imports[module] {
            if reached.insert(import) {
                next.push(import);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn imports_are_read_from_use_lines() {
        let text = "use crate::a::{self, b::{C, D}, e};\npub(crate) use crate::f as g;\nuse std::fmt;\n\
                    #[cfg(test)]\nmod tests {\n    use crate::h;\n}\n";
        assert_eq!(paths(text), ["a::self", "a::b::C", "a::b::D", "a::e", "f"]);
        let sources = sources(&[("lib", ""), ("a", ""), ("a::b", ""), ("x", text)]);
        let modules: Vec<String> = imports(&sources)["x"].iter().cloned().collect();
        assert_eq!(modules, ["a", "a::b"]);
    }

    #[test]
    fn a_circle_is_found_however_long_its_way() {
        let files = sources(&[
            ("a", "use crate::b::B;"),
            ("b", "use crate::c::C;"),
            ("c", "use crate::{a::A, d};"),
            ("d", "use crate::d::itself;"),
        ]);
        let circles = circles(&imports(&files));
        assert_eq!(circles, [["a", "b", "c"].map(str::to_owned).into()]);
        assert!(too_large("x", &circles, 3).is_empty());
        assert!(too_large("x", &circles, 2)[0].contains("(a, b, c)"));
    }
}
