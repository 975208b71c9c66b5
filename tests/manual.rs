//! The manual is complete and its links work, in the repository and in the package.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use edns::config::Config;
use glob::Pattern;

/// Folder of the manual in the package.
const DOC: &str = "usr/share/doc/edns/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// All pages, as paths from the root.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "benches"] {
        for file in fs::read_dir(root().join(folder)).unwrap() {
            let file = Path::new(folder).join(file.unwrap().file_name());
            if file.extension().is_some_and(|e| e == "md") {
                pages.push(file);
            }
        }
    }
    assert!(pages.len() > 12, "{pages:?}");
    pages
}

/// Relative links of a page: the file, as a path from the root, and the anchor, if any.
fn links(page: &Path) -> Vec<(PathBuf, Option<String>)> {
    let text = read(page);
    let links = text.split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0);
    let relative = links.filter(|link| !link.contains("://"));
    relative
        .map(|link| {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(f, a)| (f, Some(a.to_owned())));
            let file = if file.is_empty() { page.to_owned() } else { page.with_file_name(file) };
            let mut path = PathBuf::new();
            for component in file.components() {
                if component == Component::ParentDir { assert!(path.pop(), "{link}") } else { path.push(component) }
            }
            (path, anchor)
        })
        .collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &Path) -> HashSet<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    read(page).lines().filter(|l| l.starts_with('#')).map(anchor).collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    for page in pages() {
        for (file, anchor) in links(&page) {
            let (from, to) = (page.display(), file.display());
            assert!(root().join(&file).exists(), "{from}: {to} does not exist");
            if let Some(anchor) = anchor {
                assert!(anchors(&file).contains(&anchor), "{from}: {to} has no heading {anchor}");
            }
        }
    }
}

#[test]
fn every_relative_link_of_the_package_leads_to_a_file_in_the_package() {
    let cargo = read(Path::new("Cargo.toml"));
    let asset = |line: &str| {
        let mut parts = line.trim().strip_prefix("[\"")?.split('"');
        let (source, folder) = (parts.next()?, parts.nth(1)?);
        Some((Pattern::new(source).ok()?, folder.to_owned()))
    };
    let assets: Vec<_> = cargo.lines().filter_map(asset).collect();
    let is_packaged = |file: &Path| {
        let parent = file.parent().unwrap().display().to_string();
        let folder = if parent.is_empty() { DOC.to_owned() } else { format!("{DOC}{parent}/") };
        assets.iter().any(|(source, to)| source.matches_path(file) && *to == folder)
    };
    let packaged: Vec<_> = pages().into_iter().filter(|page| is_packaged(page)).collect();
    assert!(packaged.len() > 12, "{packaged:?}");
    for page in packaged {
        for (file, _) in links(&page) {
            assert!(is_packaged(&file), "{}: {} is not in the package", page.display(), file.display());
        }
    }
}

#[test]
fn every_config_key_is_documented() {
    let error = Config::parse(Path::new("config.yaml"), "Nope: 1\n").unwrap_err().to_string();
    let (_, keys) = error.split_once("expected one of ").unwrap_or_else(|| panic!("{error}"));
    let keys: Vec<&str> = keys.split(", ").collect();
    assert!(keys.len() > 12 && keys.contains(&"ExtBTF"), "{error}");
    let text = read(Path::new("docs/configuration.md"));
    for key in keys {
        assert!(text.contains(&format!("\n| `{key}` | ")), "{key}");
    }
}
