//! Replaces the parts of a tokenizer that its tokenizer class replaces in transformers 4 and 5.
//!
//! Version 4 loads `tokenizer.json` and then changes single fields. In version 5, most classes use only the vocabulary
//! of `tokenizer.json`, and build the normalizer, the pre-tokenizer and the post-processor from their own rules. A
//! class that this module does not list uses all parts of `tokenizer.json`.

use serde_json::{Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{
    ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer as Inner,
};

use super::{BesideFiles, Components, Outline, TransformersVersion};
use crate::error::Error;

/// The tokenizer classes with the normalizer of BERT.
const BERT: [&str; 4] =
    ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"];

/// The regular expression with which Qwen2's tokenizer splits texts in transformers 5.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokens that a tokenizer class of transformers 4 adds at the beginning and the end of a text.
struct Ends {
    bos: &'static str,
    eos: &'static str,
    /// The default of `add_bos_token` for this class. The default of `add_eos_token` is false for every class.
    adds_bos: bool,
}

/// The text of a token in a post-processor's template, and its token type.
type TemplateToken<'a> = (&'a str, u32);

impl BesideFiles {
    pub(super) fn parts(
        &self,
        version: TransformersVersion,
        of_file: Components,
        tokenizer: &Inner,
        outline: &Outline,
    ) -> Result<Components, Error> {
        match version {
            TransformersVersion::V4 => self.version4(of_file, tokenizer),
            TransformersVersion::V5 => self.version5(of_file, tokenizer, outline),
        }
    }

    /// Returns the name of the tokenizer class. If the files name no class, it is `BertTokenizer` for a WordPiece
    /// tokenizer, and `None` for other tokenizers.
    fn class_of(&self, tokenizer: &Inner) -> Option<&str> {
        let word_piece = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_));
        self.class.as_deref().or(word_piece.then_some("BertTokenizer"))
    }

    fn version4(&self, mut parts: Components, tokenizer: &Inner) -> Result<Components, Error> {
        let class = self.class_of(tokenizer);
        if let (Some(NormalizerWrapper::BertNormalizer(normalizer)), true) =
            (&mut parts.normalizer, class.is_some_and(|class| BERT.contains(&class)))
        {
            let (lower, accents) =
                (self.flag("do_lower_case", true)?, self.settings.bool("strip_accents")?);
            // The class `MPNetTokenizer` uses the flag `handle_chinese_chars` of tokenizer.json.
            let chinese = match class {
                Some("MPNetTokenizer") => normalizer.handle_chinese_chars,
                _ => self.flag("tokenize_chinese_chars", true)?,
            };
            *normalizer = BertNormalizer::new(normalizer.clean_text, chinese, accents, lower);
        }
        if let Some(PreTokenizerWrapper::ByteLevel(bytes)) = &mut parts.pre_tokenizer {
            bytes.add_prefix_space = self.flag("add_prefix_space", false)?;
        }
        if let Some(ends) = self.ends4(class) {
            parts.post_processor = Some(self.around(tokenizer, &ends)?);
        }
        Ok(parts)
    }

    /// Returns the special tokens, by role, that a tokenizer class of transformers 4 adds if the vocabulary does not
    /// have them.
    pub(super) fn defaults4(&self) -> &'static [(&'static str, &'static str)] {
        match (self.version, self.class.as_deref()) {
            (TransformersVersion::V4, Some("LlamaTokenizer")) => {
                &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")]
            }
            _ => &[],
        }
    }

    /// Returns the begin and end tokens that the tokenizer class adds; `None` if it adds none. If no file names a
    /// class, the fields `add_bos_token` and `add_eos_token` decide.
    fn ends4(&self, class: Option<&str>) -> Option<Ends> {
        let named = self.settings.has("add_bos_token") || self.settings.has("add_eos_token");
        match class {
            Some("LlamaTokenizer" | "CodeLlamaTokenizer") => {
                Some(Ends { bos: "<s>", eos: "</s>", adds_bos: true })
            }
            Some("GemmaTokenizer") => Some(Ends { bos: "<bos>", eos: "<eos>", adds_bos: true }),
            Some("CohereTokenizer") => {
                Some(Ends { bos: "<BOS_TOKEN>", eos: "<|END_OF_TURN_TOKEN|>", adds_bos: true })
            }
            Some("GPTNeoXTokenizer") => {
                Some(Ends { bos: "<|endoftext|>", eos: "<|endoftext|>", adds_bos: false })
            }
            None if named => Some(Ends { bos: "<s>", eos: "</s>", adds_bos: true }),
            _ => None,
        }
    }

    fn version5(
        &self,
        mut parts: Components,
        tokenizer: &Inner,
        outline: &Outline,
    ) -> Result<Components, Error> {
        let class = self.class_of(tokenizer).unwrap_or_default();
        let prefix = self.flag("add_prefix_space", false)?;
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true});
        let role = |name: &str, default: &'static str| self.role(name, default);
        match class {
            class if BERT.contains(&class) => {
                let (lower, accents) =
                    (self.flag("do_lower_case", true)?, self.settings.bool("strip_accents")?);
                let chinese = self.flag("tokenize_chinese_chars", true)?;
                parts.normalizer = Some(BertNormalizer::new(true, chinese, accents, lower).into());
                parts.pre_tokenizer = self.part(json!({"type": "BertPreTokenizer"}))?;
                parts.post_processor = Some(match class {
                    "MPNetTokenizer" => self.roberta(
                        tokenizer,
                        role("sep_token", "</s>"),
                        role("cls_token", "<s>"),
                        false,
                    )?,
                    _ => self.bert(
                        tokenizer,
                        role("cls_token", "[CLS]"),
                        role("sep_token", "[SEP]"),
                    )?,
                });
            }
            "RobertaTokenizer" => {
                parts.normalizer = None;
                parts.pre_tokenizer = self.part(bytes)?;
                let (sep, cls) = (role("sep_token", "</s>"), role("cls_token", "<s>"));
                parts.post_processor = Some(self.roberta(tokenizer, sep, cls, prefix)?);
            }
            "GPT2Tokenizer" => {
                parts.normalizer = None;
                parts.pre_tokenizer = self.part(bytes)?;
            }
            "GPTNeoXTokenizer" => {
                parts.normalizer = self.part(json!({"type": "NFC"}))?;
                parts.pre_tokenizer = self.part(bytes)?;
                parts.post_processor = Some(self.template(tokenizer, &[A], &[A, B])?);
            }
            "DebertaTokenizer" => {
                parts.normalizer = None;
                parts.pre_tokenizer = self.part(bytes)?;
                let (cls, sep) = ((role("cls_token", "[CLS]"), 0), (role("sep_token", "[SEP]"), 0));
                let template =
                    self.template(tokenizer, &[cls, A, sep], &[cls, A, sep, sep, (B.0, 0), sep])?;
                parts.post_processor = Some(template);
            }
            "Qwen2Tokenizer" => {
                parts.normalizer = self.part(json!({"type": "NFC"}))?;
                let bytes = json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": false});
                let split = json!({"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false});
                parts.pre_tokenizer =
                    self.part(json!({"type": "Sequence", "pretokenizers": [split, bytes]}))?;
            }
            "XLMRobertaTokenizer" | "CamembertTokenizer" => {
                self.unigram(&mut parts, outline, self.flag("add_prefix_space", true)?)?;
                let (bos, eos) = ((role("bos_token", "<s>"), 0), (role("eos_token", "</s>"), 0));
                let pair = [bos, A, eos, eos, (B.0, 0), eos];
                parts.post_processor = Some(self.template(tokenizer, &[bos, A, eos], &pair)?);
            }
            "T5Tokenizer" => {
                self.unigram(&mut parts, outline, true)?;
                let eos = (role("eos_token", "</s>"), 0);
                parts.post_processor =
                    Some(self.template(tokenizer, &[A, eos], &[A, eos, (B.0, 0), eos])?);
            }
            "AlbertTokenizer" => {
                self.unigram(&mut parts, outline, self.flag("add_prefix_space", true)?)?;
                let replace = |text: &str| json!({"type": "Replace", "pattern": {"String": text}, "content": "\""});
                let mut steps = vec![replace("``"), replace("''")];
                if !self.flag("keep_accents", false)? {
                    steps.extend([json!({"type": "NFKD"}), json!({"type": "StripAccents"})]);
                }
                if self.flag("do_lower_case", true)? {
                    steps.push(json!({"type": "Lowercase"}));
                }
                steps.extend(precompiled(outline));
                parts.normalizer = self.part(json!({"type": "Sequence", "normalizers": steps}))?;
                let (cls, sep) = (role("cls_token", "[CLS]"), role("sep_token", "[SEP]"));
                parts.post_processor = Some(self.bert(tokenizer, cls, sep)?);
            }
            "DebertaV2Tokenizer" => {
                let spaces = json!({"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "});
                let strip = json!({"type": "Strip", "strip_left": false, "strip_right": true});
                let mut steps = vec![spaces, json!({"type": "NFC"}), strip];
                if self.flag("do_lower_case", false)? {
                    steps.insert(0, json!({"type": "Lowercase"}));
                }
                parts.normalizer = self.part(json!({"type": "Sequence", "normalizers": steps}))?;
                let scheme = if self.flag("add_prefix_space", true)? { "always" } else { "first" };
                let mut steps = vec![metaspace(scheme)];
                if self.flag("split_by_punct", false)? {
                    steps.insert(0, json!({"type": "Punctuation", "behavior": "Isolated"}));
                }
                parts.pre_tokenizer =
                    self.part(json!({"type": "Sequence", "pretokenizers": steps}))?;
                let (cls, sep) = (role("cls_token", "[CLS]"), role("sep_token", "[SEP]"));
                parts.post_processor = Some(self.bert(tokenizer, cls, sep)?);
            }
            _ if self.passes_ends => {
                let ends = Ends { bos: "<s>", eos: "</s>", adds_bos: false };
                parts.post_processor = Some(self.around(tokenizer, &ends)?);
            }
            _ => {}
        }
        Ok(parts)
    }

    /// Returns a post-processor that adds begin and end tokens around each text, if the settings request these tokens.
    fn around(&self, tokenizer: &Inner, ends: &Ends) -> Result<PostProcessorWrapper, Error> {
        let bos =
            self.flag("add_bos_token", ends.adds_bos)?.then(|| self.role("bos_token", ends.bos));
        let eos = self.flag("add_eos_token", false)?.then(|| self.role("eos_token", ends.eos));
        let around = |kind: u32, text: TemplateToken<'static>| -> Vec<TemplateToken<'_>> {
            let before = bos.map(|bos| (bos, kind));
            before.into_iter().chain([text]).chain(eos.map(|eos| (eos, kind))).collect()
        };
        let (a, b) = (around(0, A), around(1, B));
        self.template(tokenizer, &a, &[&a[..], &b[..]].concat())
    }

    /// Sets the normalizer and the pre-tokenizer for tokenizer classes with a Unigram model.
    fn unigram(
        &self,
        parts: &mut Components,
        outline: &Outline,
        prefix: bool,
    ) -> Result<(), Error> {
        parts.normalizer = precompiled(outline).map(|map| self.part(map)).transpose()?;
        let scheme = if prefix { "always" } else { "never" };
        let steps = json!([{"type": "WhitespaceSplit"}, metaspace(scheme)]);
        parts.pre_tokenizer = self.part(json!({"type": "Sequence", "pretokenizers": steps}))?;
        Ok(())
    }

    fn bert(&self, tokenizer: &Inner, cls: &str, sep: &str) -> Result<PostProcessorWrapper, Error> {
        let pair = [(cls, 0), A, (sep, 0), B, (sep, 1)];
        self.template(tokenizer, &[(cls, 0), A, (sep, 0)], &pair)
    }

    fn roberta(
        &self,
        tokenizer: &Inner,
        sep: &str,
        cls: &str,
        prefix: bool,
    ) -> Result<PostProcessorWrapper, Error> {
        self.part(json!({
            "type": "RobertaProcessing",
            "sep": [sep, self.id(tokenizer, sep)?],
            "cls": [cls, self.id(tokenizer, cls)?],
            "trim_offsets": true,
            "add_prefix_space": prefix,
        }))
    }

    fn template(
        &self,
        tokenizer: &Inner,
        single: &[TemplateToken],
        pair: &[TemplateToken],
    ) -> Result<PostProcessorWrapper, Error> {
        let mut special = serde_json::Map::new();
        let mut list = |pieces: &[TemplateToken]| -> Result<Vec<Value>, Error> {
            let mut list = Vec::new();
            for (text, kind) in pieces {
                if [A.0, B.0].contains(text) {
                    let id = &text[1..];
                    list.push(json!({"Sequence": {"id": id, "type_id": kind}}));
                    continue;
                }
                let entry =
                    json!({"id": text, "ids": [self.id(tokenizer, text)?], "tokens": [text]});
                special.insert((*text).to_owned(), entry);
                list.push(json!({"SpecialToken": {"id": text, "type_id": kind}}));
            }
            Ok(list)
        };
        let (single, pair) = (list(single)?, list(pair)?);
        self.part(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}))
    }

    fn id(&self, tokenizer: &Inner, token: &str) -> Result<u32, Error> {
        tokenizer.token_to_id(token).ok_or_else(|| {
            let class = self.class.as_deref().unwrap_or("its class");
            let problem = format!(
                "{class} adds the token {token:?} to every text, but the vocabulary does not have it; download the model again"
            );
            Error::tokenizer(&self.settings.name, problem)
        })
    }
}

/// The placeholder for the first text in the template of a post-processor. The constant `B` is the placeholder for the
/// second text.
const A: TemplateToken<'static> = ("$A", 0);
const B: TemplateToken<'static> = ("$B", 1);

fn metaspace(scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true})
}

/// Returns the step of the normalizer that holds the character map compiled by sentencepiece.
fn precompiled(outline: &Outline) -> Option<Value> {
    let normalizer = outline.normalizer.as_ref()?;
    let is = |step: &&Value| step.get("type").and_then(Value::as_str) == Some("Precompiled");
    match normalizer.get("normalizers").and_then(Value::as_array) {
        Some(steps) => steps.iter().find(is).cloned(),
        None => Some(normalizer).filter(is).cloned(),
    }
}
