//! Files with placeholders of the form `@NAME@`.

use std::fmt::Display;

/// Replaces every placeholder of a template.
///
/// # Panics
/// If the template lacks a placeholder that `values` names, or has one that `values` does not name.
pub fn fill(template: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        let placeholder = format!("@{name}@");
        assert!(text.contains(&placeholder), "no {placeholder} in {template}");
        text = text.replace(&placeholder, &value.to_string());
    }
    let is_name = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    if let Some(name) =
        template.split('@').skip(1).step_by(2).find(|word| is_name(word) && !values.iter().any(|v| v.0 == *word))
    {
        panic!("no value for @{name}@");
    }
    text
}
