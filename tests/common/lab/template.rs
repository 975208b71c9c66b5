//! Files with placeholders of the form `@NAME@`.

use std::fmt::Display;

/// Replaces every placeholder of a template.
///
/// # Panics
/// If the template lacks a placeholder that `values` names, or has another one.
pub fn fill(template: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        let placeholder = format!("@{name}@");
        assert!(text.contains(&placeholder), "no {placeholder} in {template}");
        text = text.replace(&placeholder, &value.to_string());
    }
    let is_name = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let words: Vec<&str> = text.split('@').collect();
    let inner = words.get(1..words.len() - 1).unwrap_or_default();
    assert!(!inner.iter().any(|word| is_name(word)), "a placeholder without a value: {text}");
    text
}
