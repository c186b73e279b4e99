// What the panel knows of the rep's current call, built from the gateway's events alone.

/** A screen that knows nothing yet. */
export function fresh() {
  return {
    callId: null, state: "waiting", rep: null, customer: null, language: null, startedAt: null,
    summary: null, utterances: [], insights: new Map(), tips: new Map(),
    // What was done with each tip; may come before the tip itself.
    done: new Map(),
  };
}

/** The story after one event of the stream. */
export function take(story, name, data) {
  switch (name) {
    case "snapshot": return fresh();
    case "call": return call(story, data);
    case "utterance": return utterance(story, data);
    case "insight": story.insights.set(data.utterance_id, data); return story;
    case "tip": return tip(story, data);
    case "feedback": return feedback(story, data);
    case "tip-expired": return expire(story, data);
    default: return story;
  }
}

function call(story, data) {
  const next = data.call_id === story.callId ? story : fresh();
  next.callId = data.call_id;
  if (data.state === "ended") return Object.assign(next, { state: "ended", summary: data.summary });
  const { rep, customer, language, started_at: startedAt } = data;
  // On a resume the start may come again, after the end.
  const state = next.state === "ended" ? "ended" : "running";
  return Object.assign(next, { state, rep, customer, language, startedAt });
}

function utterance(story, data) {
  const { utterances } = story;
  if (utterances.some((known) => known.id === data.id)) return story;
  let at = utterances.length;
  while (at > 0 && utterances[at - 1].start_ms > data.start_ms) at -= 1;
  utterances.splice(at, 0, data);
  return story;
}

function tip(story, data) {
  const { shown, done } = story.done.get(data.id) ?? { shown: false, done: null };
  if (!story.tips.has(data.id)) story.tips.set(data.id, { ...data, shown, done });
  return story;
}

function feedback(story, { tip_id: id, action }) {
  const known = story.done.get(id);
  const told = { shown: true, done: action === "shown" ? known?.done ?? null : action };
  story.done.set(id, told);
  const tip = story.tips.get(id);
  // What the rep did here goes before an older word of it.
  if (tip) Object.assign(tip, { shown: true, done: told.done ?? tip.done });
  return story;
}

function expire(story, { id }) {
  const tip = story.tips.get(id);
  if (tip) tip.expires_at = 0;
  return story;
}

/** Tips that may be on the screen now, the one to show first: the most urgent, then the newest. */
export function active(story, now) {
  if (story.state !== "running") return [];
  return [...story.tips.values()]
    .filter((tip) => !tip.done && tip.expires_at > now)
    .sort((a, b) => a.priority - b.priority || b.spoken_at - a.spoken_at);
}

/** Tips that were on the screen before, newest first. */
export function earlier(story, now) {
  const current = new Set(active(story, now));
  return [...story.tips.values()]
    .filter((tip) => tip.shown && !current.has(tip))
    .sort((a, b) => b.spoken_at - a.spoken_at);
}

/** How the customer felt, in call order: `{time, polarity, label, objections}`. */
export function mood(story) {
  return [...story.insights.values()]
    .filter((insight) => insight.speaker === "customer")
    .sort((a, b) => a.end_ms - b.end_ms)
    .map((insight) => ({
      time: insight.end_ms,
      polarity: insight.sentiment.polarity,
      label: insight.sentiment.label,
      trend: insight.conversation.sentiment_trend,
      objections: insight.objections.map((objection) => objection.kind),
    }));
}

/** The language of the call: what was told, else what is spoken. */
export function language(story) {
  const told = story.language === "auto" ? null : story.language;
  return told ?? story.utterances[0]?.language ?? null;
}

/** Milliseconds as a clock: `1:05`, `1:02:05`. */
export function clock(millis) {
  const seconds = Math.max(0, Math.floor(millis / 1000));
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
