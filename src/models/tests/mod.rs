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
