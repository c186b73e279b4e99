//! The words of a note, in every language of the product.

use std::time::{Duration, UNIX_EPOCH};

use schemas::{Language, ObjectionKind};

/// Labels and words of a note.
pub(super) struct Words {
    pub call: &'static str,
    pub rep: &'static str,
    pub customer: &'static str,
    pub began: &'static str,
    pub lasted: &'static str,
    pub outcome: &'static str,
    pub objections: &'static str,
    pub answered: &'static str,
    pub open: &'static str,
    pub none: &'static str,
    pub sentiment: &'static str,
    pub negative: &'static str,
    pub neutral: &'static str,
    pub positive: &'static str,
    pub talk: &'static str,
    pub next_step: &'static str,
    pub yes: &'static str,
    pub no: &'static str,
    pub tips: &'static str,
    pub used: &'static str,
    pub dismissed: &'static str,
    pub shown: &'static str,
    pub unseen: &'static str,
    pub kinds: [&'static str; 8],
}

const EN: Words = Words {
    call: "Sales call",
    rep: "Rep",
    customer: "Customer",
    began: "Began",
    lasted: "Length",
    outcome: "Outcome",
    objections: "Objections",
    answered: "answered",
    open: "open",
    none: "none",
    sentiment: "Sentiment",
    negative: "negative",
    neutral: "neutral",
    positive: "positive",
    talk: "Rep's share of speech",
    next_step: "Next step agreed",
    yes: "yes",
    no: "no",
    tips: "Tips",
    used: "used",
    dismissed: "dismissed",
    shown: "shown",
    unseen: "not shown",
    kinds: [
        "price",
        "timing",
        "authority",
        "need",
        "competitor",
        "trust",
        "fit",
        "stall",
    ],
};

const ES: Words = Words {
    call: "Llamada de ventas",
    rep: "Comercial",
    customer: "Cliente",
    began: "Inicio",
    lasted: "Duración",
    outcome: "Resultado",
    objections: "Objeciones",
    answered: "respondida",
    open: "abierta",
    none: "ninguna",
    sentiment: "Sentimiento",
    negative: "negativo",
    neutral: "neutro",
    positive: "positivo",
    talk: "Parte hablada por el comercial",
    next_step: "Siguiente paso acordado",
    yes: "sí",
    no: "no",
    tips: "Consejos",
    used: "usado",
    dismissed: "descartado",
    shown: "mostrado",
    unseen: "no mostrado",
    kinds: [
        "precio",
        "momento",
        "autoridad",
        "necesidad",
        "competencia",
        "confianza",
        "encaje",
        "evasiva",
    ],
};

const FR: Words = Words {
    call: "Appel commercial",
    rep: "Commercial",
    customer: "Client",
    began: "Début",
    lasted: "Durée",
    outcome: "Résultat",
    objections: "Objections",
    answered: "traitée",
    open: "ouverte",
    none: "aucune",
    sentiment: "Sentiment",
    negative: "négatif",
    neutral: "neutre",
    positive: "positif",
    talk: "Temps de parole du commercial",
    next_step: "Prochaine étape convenue",
    yes: "oui",
    no: "non",
    tips: "Conseils",
    used: "utilisé",
    dismissed: "écarté",
    shown: "montré",
    unseen: "non montré",
    kinds: [
        "prix",
        "calendrier",
        "décideur",
        "besoin",
        "concurrence",
        "confiance",
        "adéquation",
        "esquive",
    ],
};

const ZH: Words = Words {
    call: "销售通话",
    rep: "销售",
    customer: "客户",
    began: "开始",
    lasted: "时长",
    outcome: "结果",
    objections: "异议",
    answered: "已回应",
    open: "未解决",
    none: "无",
    sentiment: "情绪",
    negative: "负面",
    neutral: "中性",
    positive: "正面",
    talk: "销售发言占比",
    next_step: "已约定下一步",
    yes: "是",
    no: "否",
    tips: "提示",
    used: "已采用",
    dismissed: "已忽略",
    shown: "已显示",
    unseen: "未显示",
    kinds: [
        "价格",
        "时机",
        "决策权",
        "需求",
        "竞争对手",
        "信任",
        "适配",
        "推托",
    ],
};

impl Words {
    /// The words of a language.
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &EN,
            Language::Es => &ES,
            Language::Fr => &FR,
            Language::Zh => &ZH,
        }
    }

    /// The word for a kind of objection.
    pub(super) fn kind(&self, kind: ObjectionKind) -> &'static str {
        let at = ObjectionKind::ALL.iter().position(|known| *known == kind);
        at.and_then(|at| self.kinds.get(at))
            .copied()
            .unwrap_or(kind.as_str())
    }
}

/// A time as `2026-11-25T09:00:00Z`.
pub(super) fn iso(ms: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(ms.max(0).unsigned_abs());
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A length as `12:05`.
pub(super) fn length(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
