//! Renders a pair of texts through a model's chat template, for rerankers that are language models.
//!
//! The messages are the same as in sentence-transformers. The first text is a message with the role `query`, and the
//! second text is a message with the role `document`. A prompt is a message with the role `system` before these two
//! messages.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use serde::Deserialize;

use crate::config::ChatTemplate;
use crate::error::Error;

/// The maximum cost of one rendering. A step of the template costs about one unit, and so do 64 bytes of text. A pair
/// within a model's maximum length costs about a thousandth of this maximum.
const FUEL: u64 = 2_000_000;
const NAME: &str = "chat";
/// Three pairs of texts. The second pair and the third pair each differ from the first pair in one text. If a template
/// renders one of them like the first pair, it ignores the text that differs.
const PROBES: [[&str; 2]; 3] = [["alpha", "bravo"], ["charlie", "bravo"], ["alpha", "foxtrot"]];

/// A chat template that was compiled and checked.
#[derive(Debug)]
pub(super) struct Chat {
    environment: Environment<'static>,
    variables: BTreeMap<String, Value>,
    structured: bool,
    pub restores_end: bool,
    file: String,
}

impl Chat {
    /// Compiles a template. Returns an error if the template is not valid Jinja, or if it does not write both texts of
    /// a pair.
    pub fn new(template: &ChatTemplate) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let failed = |error: minijinja::Error| refused(&template.file, &error);
        environment.set_syntax(syntax.map_err(failed)?);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, template.source.clone()).map_err(failed)?;
        let mut variables: BTreeMap<String, Value> =
            ["tools", "documents"].map(|name| (name.to_owned(), Value::from(()))).into();
        variables.insert("add_generation_prompt".to_owned(), Value::from(false));
        for (name, value) in &template.variables {
            let value = Value::deserialize(value).map_err(|error| {
                let problem =
                    format!("its chat template does not accept the variable {name}: {error}");
                Error::tokenizer(&template.file, problem)
            })?;
            variables.insert(name.clone(), value);
        }
        let chat = Chat {
            environment,
            variables,
            structured: template.structured,
            restores_end: template.restores_end,
            file: template.file.clone(),
        };
        chat.check()?;
        Ok(chat)
    }

    fn check(&self) -> Result<(), Error> {
        let [base, query, document] = PROBES;
        let base = self.render("", base)?;
        for (role, varied) in [("query", query), ("document", document)] {
            if self.render("", varied)? == base {
                let problem = format!(
                    "its chat template leaves out the {role}: it is for conversations, not for pairs of texts; give the model a chat_template.jinja that writes messages of the roles query and document"
                );
                return Err(Error::tokenizer(&self.file, problem));
            }
        }
        Ok(())
    }

    /// Returns the text that the template renders for a prompt and a pair of texts. An empty `prompt` means that there
    /// is no prompt.
    ///
    /// # Errors
    /// Returns [`Error::Tokenizer`] if the template fails or exceeds the maximum cost.
    pub fn render(&self, prompt: &str, pair: [&str; 2]) -> Result<String, Error> {
        let message = |role: &str, text: &str| {
            let content = match self.structured {
                false => Value::from(text),
                true => {
                    Value::from(vec![map([("type", Value::from("text")), ("text", text.into())])])
                }
            };
            map([("role", Value::from(role)), ("content", content)])
        };
        let mut messages = Vec::with_capacity(3);
        if !prompt.is_empty() {
            messages.push(message("system", prompt));
        }
        let [query, document] = pair;
        messages.extend([message("query", query), message("document", document)]);
        let mut context = self.variables.clone();
        context.insert("messages".to_owned(), Value::from(messages));
        let template = self.environment.get_template(NAME);
        let text = template.and_then(|template| template.render(Value::from(context)));
        text.map_err(|error| refused(&self.file, &error))
    }
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries: BTreeMap<String, Value> =
        entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Value::from(entries)
}

fn refused(file: &str, error: &minijinja::Error) -> Error {
    let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
    let detail: String = error.detail().unwrap_or("no details").chars().take(200).collect();
    let detail = detail.replace(char::is_control, " ");
    if error.kind() == ErrorKind::OutOfFuel {
        let problem = "its chat template ran out of fuel: it loops without end, or writes or reads tens of megabytes of text; give the model a simpler chat_template.jinja";
        return Error::tokenizer(file, problem);
    }
    let problem = format!(
        "its chat template cannot be used{line}: {}: {detail}; give the model a chat_template.jinja that writes messages of the roles query and document",
        error.kind()
    );
    Error::tokenizer(file, problem)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn template(source: &str, structured: bool) -> ChatTemplate {
        let variables = match json!({"bos_token": "<s>", "thinks": true}) {
            serde_json::Value::Object(map) => map,
            _ => Map::new(),
        };
        let (file, source) = ("tokenizer_config.json".to_owned(), source.to_owned());
        ChatTemplate { file, source, structured, variables, restores_end: true }
    }

    fn render(source: &str, prompt: &str) -> String {
        Chat::new(&template(source, false)).unwrap().render(prompt, ["Q", " D\n"]).unwrap()
    }

    const PAIR: &str = "{{ messages[-2].content }}|{{ messages[-1].content }}";

    #[test]
    fn templates_render_as_in_python() {
        for (source, expected) in [
            ("{{ bos_token }}{{ messages | length }}", "<s>2"),
            ("{% if thinks %}\n  t\n{% endif %}\n", "  t\n"),
            ("a\n\n", "a\n"),
            ("   {%- if true %} b {%- endif %}", " b"),
            ("{{ messages[0]['content'].strip() + '!' }}", "Q!"),
            (
                "{%- set q = messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first -%}\n[{{ q }}]",
                "[Q]",
            ),
            (
                "{{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first | default('none') }}",
                "none",
            ),
            ("{% for m in messages %}{{ m.role[0] }}{% endfor %}", "qd"),
            (
                "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }}",
                "True True False",
            ),
        ] {
            assert_eq!(render(&format!("{PAIR}:{source}"), ""), format!("Q| D\n:{expected}"));
        }
        let system = "{{ messages[0].role }}={{ messages[0].content }} ";
        assert_eq!(render(&format!("{system}{PAIR}"), "Find it."), "system=Find it. Q| D\n");
    }

    #[test]
    fn structured_content_is_a_list_of_typed_parts() {
        let source =
            "{% for m in messages %}{{ m.content[0].type }} {{ m.content[0].text }};{% endfor %}";
        let chat = Chat::new(&template(source, true)).unwrap();
        assert_eq!(chat.render("", ["Q", "D"]).unwrap(), "text Q;text D;");
    }

    #[test]
    fn templates_that_cannot_be_used_are_refused() {
        for (source, said) in [
            ("{% for m in messages %}", "line 1"),
            ("{{ messages[0].content }}", "leaves out the document"),
            (
                "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
                "leaves out the query",
            ),
            ("{{ raise_exception('only users talk') }}", "only users talk"),
            ("{{ messages[0].content | unheard_of }}", "unheard_of"),
            ("{% include 'other' %}", "include"),
            (
                "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
                "fuel",
            ),
            (
                "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
                "fuel",
            ),
            ("{{ 'a' * 2000000000 }}", "fuel"),
        ] {
            let message = Chat::new(&template(source, false)).unwrap_err().to_string();
            assert!(
                message.contains(said) && message.contains("tokenizer_config.json"),
                "{message}"
            );
        }
    }
}
