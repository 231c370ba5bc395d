//! The configuration described: as a JSON schema for editors, and as a page.

use serde_json::{Map, Value as Json, json};

use super::file::KEYS;
use super::setting::Key;

/// The JSON schema of the configuration file.
pub fn schema() -> Json {
    let mut root = table();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("sidecarbon.toml");
    for key in KEYS {
        let mut table_of_key = &mut root;
        let (tables, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        for part in tables.split('.') {
            let properties = &mut table_of_key["properties"];
            if properties[part].is_null() {
                properties[part] = table();
            }
            table_of_key = &mut properties[part];
        }
        let mut described = (key.schema)();
        described["description"] = json!(text_of(key));
        described["default"] = default_of(key, &described);
        table_of_key["properties"][name] = described;
    }
    root
}

/// The page of all keys: what each is for, its default, and its variable.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration reference\n\n\
         Made from `src/config/file.rs`; `sidecarbon schema` prints the same as a JSON schema.\n\
         Durations have a unit (`ms`, `s`, `m`, `h`, `d`), sizes too (`B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`).\n\
         In a variable, commas separate the items of a list.\n",
    );
    let mut table = "";
    for key in KEYS {
        let (this_table, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if this_table != table {
            page += &format!(
                "\n## `[{this_table}]`\n\n| key | default | variable | meaning |\n|---|---|---|---|\n"
            );
            table = this_table;
        }
        let default = default_of(key, &(key.schema)()).to_string();
        let (variable, text) = (key.env_name(), text_of(key));
        page += &format!("| `{name}` | `{default}` | `{variable}` | {text} |\n");
    }
    page
}

fn table() -> Json {
    json!({"type": "object", "additionalProperties": false, "properties": Map::new()})
}

fn text_of(key: &Key) -> String {
    key.doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The default as JSON, by the type of the key.
fn default_of(key: &Key, schema: &Json) -> Json {
    let number = |text: &str| {
        text.parse::<i64>()
            .map_or(json!(text), |number| json!(number))
    };
    match schema["type"].as_str() {
        Some("array") => {
            let items = key.default.split(',').filter(|item| !item.is_empty());
            if schema["items"]["type"] == "number" {
                items.map(number).collect()
            } else {
                items.map(|item| json!(item)).collect()
            }
        }
        Some("integer") => number(key.default),
        _ => json!(key.default),
    }
}
