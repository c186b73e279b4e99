//! How a tenant wants words written: names of its own, and the Chinese script.

use schemas::Language;
use serde::{Deserialize, Serialize};

use super::names::Names;
use super::text;
use super::vocabulary::Vocabulary;
use crate::script::{Script, in_script};

/// What the configuration says of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// Script in which Mandarin is written down.
    pub script: Script,
    /// Names of products and competitors that are raised in recognition.
    pub vocabulary: Vocabulary,
}

/// The same, ready for use.
#[derive(Clone, Debug, Default)]
pub struct Spelling {
    /// Script in which Mandarin is written down.
    pub script: Script,
    /// Names to look for.
    pub names: Names,
    /// Chinese names that the script's conversion would spell otherwise than the tenant: how it
    /// spells them, and how they are to be.
    respelled: Vec<(String, String)>,
}

impl Spelling {
    /// The text as the tenant wants it.
    pub fn spell(&self, text: &str, language: Language) -> String {
        let mut text = text::normalise(text, language, self.script);
        for (converted, name) in &self.respelled {
            text = text.replace(converted, name);
        }
        text
    }
}

impl From<&TenantSettings> for Spelling {
    fn from(settings: &TenantSettings) -> Self {
        let names = settings.vocabulary.names().iter();
        let respelled = names.map(|name| (in_script(name, settings.script), name.clone()));
        Self {
            script: settings.script,
            respelled: respelled
                .filter(|(converted, name)| converted != name)
                .collect(),
            names: Names::new(&settings.vocabulary),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_as_the_tenant_spells_it_in_either_script() {
        let settings = |script| TenantSettings {
            script,
            vocabulary: Vocabulary::new(["台灣大哥大".to_owned(), "飞书".to_owned()]).unwrap(),
        };
        let spell = |script, text| Spelling::from(&settings(script)).spell(text, Language::Zh);
        assert_eq!(
            spell(Script::Simplified, "我們用台灣大哥大和飛書"),
            "我们用台灣大哥大和飞书"
        );
        assert_eq!(
            spell(Script::Traditional, "我们用台湾大哥大和飞书"),
            "我們用台灣大哥大和飞书"
        );
    }
}
