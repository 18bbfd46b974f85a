//! Tests of the table of architectures. Configs of published models are in [`published`].

mod published;

use super::*;

fn config(json: &str) -> JsonFile {
    let Ok(Value::Object(map)) = serde_json::from_str(json) else { panic!("{json}") };
    JsonFile::new("config.json", map)
}

#[test]
fn custom_code_is_refused_by_name() {
    let message = |json: &str| architecture(&config(json), None).err().map(|e| e.to_string());
    let of = |map: &str| format!(r#"{{"model_type": "bert", "auto_map": {map}}}"#);
    for harmless in ["null", "{}", r#"{"AutoModelForMaskedLM": "m.Heads", "AutoModel": null}"#] {
        assert_eq!(message(&of(harmless)), None, "{harmless}");
    }
    for (map, field, value) in [
        (r#"{"AutoModel": "m.Model"}"#, "auto_map.AutoModel", "m.Model"),
        (r#"{"AutoConfig": "a/b--c.Config"}"#, "auto_map.AutoConfig", "a/b--c.Config"),
        (r#"{"AutoModel": ["m.Model"]}"#, "auto_map.AutoModel", "m.Model"),
        (r#""m.Model""#, "auto_map", "m.Model"),
    ] {
        let message = message(&of(map)).unwrap();
        for part in ["config.json", field, value] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn a_module_that_comes_with_a_model_belongs_to_its_code() {
    let bert = config(r#"{"model_type": "bert"}"#);
    let error = architecture(&bert, Some("custom_st.Transformer")).err().unwrap().to_string();
    for part in ["modules.json", "[0].type", "custom_st.Transformer", "Python code"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn every_line_can_be_reached() {
    for (at, line) in TABLE.iter().enumerate() {
        let shadowed = TABLE[..at].iter().find(|earlier| {
            earlier.model_type == line.model_type
                && line.code.iter().all(|code| earlier.code.contains(code))
        });
        assert!(shadowed.is_none(), "{} is listed twice", line.model_type);
    }
}

/// At their defaults, all fields of transformers' configuration classes are either read or known to be harmless, for a
/// model of each family.
#[test]
fn fields_of_transformers_configs_are_known() {
    let path = |name: &str| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let defaults = std::fs::read(path("config_defaults.json")).unwrap();
    let defaults: Value = serde_json::from_slice(&defaults).unwrap();
    let mut families: Vec<_> = std::fs::read_dir(path("families")).unwrap().flatten().collect();
    families.sort_by_key(std::fs::DirEntry::path);
    let (mut unknown, mut tried) = (Vec::new(), std::collections::BTreeSet::new());
    for family in families {
        let files = crate::files::ModelFiles::from_directory(family.path()).unwrap();
        let Some(config) = JsonFile::load(&files, "config.json").unwrap() else { continue };
        let model_type = config.str("model_type").unwrap().unwrap_or_default().to_owned();
        let Some(fields) = defaults[&model_type].as_object() else { continue };
        // This config has the fields of the code on the Hub, whose names differ from those of transformers.
        if config.has("n_embd") {
            continue;
        }
        let weights = WeightFiles::open(&files, "").unwrap();
        for (field, value) in fields.iter().filter(|(field, _)| !config.map.contains_key(*field)) {
            let mut map = config.map.clone();
            map.insert(field.clone(), value.clone());
            let changed = JsonFile::new("config.json", map);
            // A default size may not fit the fixture; only an unknown field counts here.
            if let Err(error) = read(&changed, &weights, None)
                && error.to_string().contains("could change the vectors")
            {
                unknown.push(format!("{}: {error}", family.path().display()));
            }
            tried.insert((model_type.clone(), field.clone()));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    assert!(tried.len() > 400, "{}", tried.len());
}
