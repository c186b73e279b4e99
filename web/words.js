// The panel's words in the four languages it coaches in.

const WORDS = {
  en: {
    connecting: "Connecting", waiting: "Ready", running: "On call", ended: "Call ended", locked: "Locked",
    online: "Connected", offline: "Reconnecting",
    tip: "Tip", say: "Say", ask: "Ask", use: "Used", dismiss: "Dismiss",
    mood: "Customer sentiment", negative: "Negative", neutral: "Neutral", positive: "Positive",
    falling: "falling", steady: "steady", rising: "rising",
    transcript: "Transcript", latest: "Latest", rep: "You", customer: "Customer",
    earlier: "Earlier tips", used: "Used", dismissed: "Dismissed", expired: "Not used",
    summary: "Summary", duration: "Duration", share: "Talk time", words: "Your pace", perMinute: "words/min",
    monologue: "Longest monologue", interruptions: "Interruptions", nextStep: "Next step",
    agreed: "Agreed", missing: "None agreed", tipsUsed: "Tips used",
    answered: "Answered", open: "Still open", of: "of",
    more: (n) => `+ ${n}`,
    seconds: (n) => `${n} s`, left: (n) => `${n} seconds left`,
    at: (time) => `Customer at ${time}`,
    listening: "Listening", listeningText: "A tip appears here when it can help.",
    noCall: "No call yet", noCallText: "The next call appears here by itself.",
    lockedTitle: "Open the panel from your softphone", lockedText: "Your link has expired or is incomplete.",
    erased: "Words erased", delivery: "Delivery",
    price: "Price", timing: "Timing", authority: "Decision maker", need: "Need",
    competitor: "Competitor", trust: "Trust", fit: "Fit", stall: "Brush-off",
  },
  es: {
    connecting: "Conectando", waiting: "Listo", running: "En llamada", ended: "Llamada finalizada", locked: "Bloqueado",
    online: "Conectado", offline: "Reconectando",
    tip: "Consejo", say: "Diga", ask: "Pregunte", use: "Usado", dismiss: "Descartar",
    mood: "Ánimo del cliente", negative: "Negativo", neutral: "Neutro", positive: "Positivo",
    falling: "a la baja", steady: "estable", rising: "al alza",
    transcript: "Transcripción", latest: "Lo último", rep: "Usted", customer: "Cliente",
    earlier: "Consejos anteriores", used: "Usado", dismissed: "Descartado", expired: "Sin usar",
    summary: "Resumen", duration: "Duración", share: "Tiempo de palabra", words: "Su ritmo", perMinute: "palabras/min",
    monologue: "Monólogo más largo", interruptions: "Interrupciones", nextStep: "Próximo paso",
    agreed: "Acordado", missing: "Sin acordar", tipsUsed: "Consejos usados",
    answered: "Respondida", open: "Pendiente", of: "de",
    more: (n) => `+ ${n}`,
    seconds: (n) => `${n} s`, left: (n) => `quedan ${n} segundos`,
    at: (time) => `Cliente, ${time}`,
    listening: "Escuchando", listeningText: "Aquí aparece un consejo cuando puede ayudar.",
    noCall: "Sin llamada", noCallText: "La próxima llamada aparece aquí por sí sola.",
    lockedTitle: "Abra el panel desde su softphone", lockedText: "Su enlace ha caducado o está incompleto.",
    erased: "Palabras borradas", delivery: "Conversación",
    price: "Precio", timing: "Momento", authority: "Quién decide", need: "Necesidad",
    competitor: "Competencia", trust: "Confianza", fit: "Encaje", stall: "Evasiva",
  },
  fr: {
    connecting: "Connexion", waiting: "Prêt", running: "En appel", ended: "Appel terminé", locked: "Verrouillé",
    online: "Connecté", offline: "Reconnexion",
    tip: "Conseil", say: "Dites", ask: "Demandez", use: "Utilisé", dismiss: "Écarter",
    mood: "Humeur du client", negative: "Négative", neutral: "Neutre", positive: "Positive",
    falling: "en baisse", steady: "stable", rising: "en hausse",
    transcript: "Transcription", latest: "Dernier échange", rep: "Vous", customer: "Client",
    earlier: "Conseils précédents", used: "Utilisé", dismissed: "Écarté", expired: "Non utilisé",
    summary: "Bilan", duration: "Durée", share: "Temps de parole", words: "Votre débit", perMinute: "mots/min",
    monologue: "Plus long monologue", interruptions: "Interruptions", nextStep: "Prochaine étape",
    agreed: "Convenue", missing: "Non convenue", tipsUsed: "Conseils utilisés",
    answered: "Traitée", open: "En suspens", of: "sur",
    more: (n) => `+ ${n}`,
    seconds: (n) => `${n} s`, left: (n) => `encore ${n} secondes`,
    at: (time) => `Client à ${time}`,
    listening: "À l’écoute", listeningText: "Un conseil s’affiche ici quand il peut aider.",
    noCall: "Aucun appel", noCallText: "Le prochain appel s’affichera ici de lui-même.",
    lockedTitle: "Ouvrez le panneau depuis votre softphone", lockedText: "Votre lien a expiré ou est incomplet.",
    erased: "Paroles effacées", delivery: "Échange",
    price: "Prix", timing: "Moment", authority: "Décideur", need: "Besoin",
    competitor: "Concurrent", trust: "Confiance", fit: "Adéquation", stall: "Esquive",
  },
  zh: {
    connecting: "连接中", waiting: "就绪", running: "通话中", ended: "通话结束", locked: "已锁定",
    online: "已连接", offline: "重新连接中",
    tip: "提示", say: "这样说", ask: "这样问", use: "已采用", dismiss: "忽略",
    mood: "客户情绪", negative: "消极", neutral: "平和", positive: "积极",
    falling: "走低", steady: "平稳", rising: "走高",
    transcript: "对话", latest: "最新", rep: "您", customer: "客户",
    earlier: "之前的提示", used: "已采用", dismissed: "已忽略", expired: "未采用",
    summary: "小结", duration: "时长", share: "说话占比", words: "您的语速", perMinute: "字/分钟",
    monologue: "最长独白", interruptions: "打断次数", nextStep: "下一步",
    agreed: "已约定", missing: "未约定", tipsUsed: "采用的提示",
    answered: "已回应", open: "待回应", of: "/",
    more: (n) => `+ ${n}`,
    seconds: (n) => `${n} 秒`, left: (n) => `剩余 ${n} 秒`,
    at: (time) => `客户 ${time}`,
    listening: "聆听中", listeningText: "有用的提示会出现在这里。",
    noCall: "暂无通话", noCallText: "下一通电话会自动出现在这里。",
    lockedTitle: "请从软电话打开此面板", lockedText: "您的链接已过期或不完整。",
    erased: "内容已清除", delivery: "沟通方式",
    price: "价格", timing: "时机", authority: "决策人", need: "需求",
    competitor: "竞争对手", trust: "信任", fit: "适配", stall: "推脱",
  },
};

const known = (code) => (code && code.slice(0, 2).toLowerCase() in WORDS ? code.slice(0, 2).toLowerCase() : null);

/** The first of these language codes that has words; the browser's, else English, when none has. */
export function pick(...codes) {
  return [...codes, ...(navigator.languages ?? [])].map(known).find(Boolean) ?? "en";
}

/** The words of a language. */
export function words(language) {
  return WORDS[language] ?? WORDS.en;
}
