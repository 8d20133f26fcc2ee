// Lists tasks and streams what happens to them: one list at the start, then one EventSource for everything.
// Text from the server is only ever set as text, never as markup.

const ROWS_MAX = 200;
const LOG_MAX = 500;
const RECALLED = 3;
const ICONS = { pending: "◌", running: "▶", succeeded: "✔", failed: "✖", cancelled: "■" };

const element = (id) => document.getElementById(id);
const tasks = new Map();
let lastId = null;
let source = null;

function make(tag, { text, className, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  node.append(...children);
  return node;
}

async function call(method, path, body) {
  const headers = { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) };
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(answer?.detail ?? `${method} ${path}: ${response.status}`);
  return answer;
}

function notice(text) {
  element("notice").textContent = text;
  element("notice").hidden = !text;
}

async function attempt(work) {
  try {
    await work();
    notice("");
  } catch (error) {
    notice(error.message);
  }
}

// ---- the table ---------------------------------------------------------------------------------------------------

const percent = (share) => (share ? `${(100 * share).toFixed(2)} %` : "–");
const fixed = (number) => (number ? number.toFixed(4) : "–");

function cells(task) {
  const { progress, metrics, state } = task;
  const share = progress.steps ? progress.step / progress.steps : state === "succeeded" ? 1 : 0;
  const bar = make("progress", { value: share, max: 1, ariaLabel: `progress of ${task.spec.model}` });
  const eta = state === "running" && progress.eta_seconds ? `, ${Math.ceil(progress.eta_seconds)} s left` : "";
  const model = make("td", { text: task.spec.model.toUpperCase() }, make("small", { text: task.name ?? task.id.slice(-8), title: task.id }));
  const used = task.dataset;
  if (used?.instead_of) {
    element("stand-in").textContent = `Not trained on ${task.spec.dataset} but on the built-in ${used.name}: ${used.instead_of}`;
    element("stand-in").hidden = false;
    model.append(make("small", { className: "stand-in", text: `${used.name} instead of ${task.spec.dataset}!`, title: used.instead_of }));
  }
  const actions = make("td");
  if (state === "pending" || state === "running") {
    const cancel = make("button", { type: "button", text: "Cancel", ariaLabel: `cancel ${task.spec.model} ${task.id}` });
    cancel.addEventListener("click", () => attempt(async () => {
      cancel.disabled = true;
      show(await call("POST", `/api/v1/tasks/${task.id}/cancel`));
    }));
    actions.append(cancel);
  } else if (state === "succeeded") {
    actions.append(make("a", { text: "model", href: `/api/v1/tasks/${task.id}/model`, ariaLabel: `download the model of ${task.id}` }));
  }
  const number = (text) => make("td", { text, className: "number" });
  return [
    make("td", { text: `${ICONS[state] ?? ""} ${state}`, className: `state ${state}` }),
    model,
    make("td", {}, bar, make("small", { text: `epoch ${progress.epoch} of ${progress.epochs}${eta}` })),
    number(fixed(metrics.last.loss)),
    number(percent(metrics.last.accuracy)),
    number(percent(metrics.best.val_accuracy)),
    number(progress.samples_per_second ? Math.round(progress.samples_per_second).toLocaleString("en") : "–"),
    make("td", { text: task.why }, ...(task.attempt > 1 ? [make("small", { text: `attempt ${task.attempt}` })] : [])),
    actions,
  ];
}

function show(task) {
  tasks.set(task.id, task);
  let row = element(`task-${task.id}`);
  if (!row) {
    row = make("tr", { id: `task-${task.id}` });
    const later = [...element("rows").children].find((other) => tasks.get(other.id.slice(5)).created_at < task.created_at);
    element("rows").insertBefore(row, later ?? null);
    while (element("rows").children.length > ROWS_MAX) {
      tasks.delete(element("rows").lastElementChild.id.slice(5));
      element("rows").lastElementChild.remove();
    }
  }
  const focused = row.contains(document.activeElement);
  row.replaceChildren(...cells(task));
  if (focused) row.querySelector("button, a")?.focus();
  element("empty").hidden = true;
}

// A task is read again when its state changes; between, events alone move it. One request a task at a time.
const reading = new Map();
async function refresh(id) {
  if (reading.has(id)) {
    reading.set(id, true);
    return;
  }
  reading.set(id, false);
  try {
    show(await call("GET", `/api/v1/tasks/${id}`));
  } catch (error) {
    console.warn(error);
  }
  const again = reading.get(id);
  reading.delete(id);
  if (again) refresh(id);
}

// ---- the log -----------------------------------------------------------------------------------------------------

function log(at, text, className) {
  const list = element("log");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const time = make("time", { text: new Date(at).toLocaleTimeString(), dateTime: at });
  list.append(make("li", { className }, time, text));
  while (list.children.length > LOG_MAX) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

const WORDS = {
  queued: () => "queued",
  claimed: (event) => `attempt ${event.attempt} on ${event.worker_id}`,
  resumed: (event) => `goes on from step ${event.from_step}`,
  epoch_finished: (event) => `epoch ${event.epoch}: loss ${fixed(event.loss)}, accuracy ${percent(event.accuracy)}, validation ${percent(event.val_accuracy)}`,
  checkpoint_saved: (event) => `checkpoint at step ${event.step}`,
  log: (event) => event.message,
  attempt_failed: (event) => `attempt ${event.attempt} failed: ${event.failure.message}`,
  cancel_requested: () => "is being cancelled",
  succeeded: (event) => `succeeded: ${percent(event.test_accuracy)} on the test set, weights ${event.weights_sha256.slice(0, 12)}`,
  failed: (event) => `failed: ${event.failure.message}`,
  cancelled: () => "cancelled",
};
const BAD = new Set(["attempt_failed", "failed"]);

function tell(event) {
  const task = tasks.get(event.task_id);
  const name = event.task_id ? `${task?.spec.model ?? "task"} ${event.task_id.slice(-8)}: ` : "";
  const bad = BAD.has(event.kind) || event.level === "warn";
  log(event.at, name + WORDS[event.kind](event), bad ? "bad" : event.kind === "succeeded" ? "good" : "");
}

function heard(message) {
  lastId = message.lastEventId || lastId;
  const event = JSON.parse(message.data);
  const task = tasks.get(event.task_id);
  if (event.kind === "progress") {
    if (task) show({ ...task, progress: event });
    return;
  }
  tell(event);
  if (event.task_id) refresh(event.task_id);
}

// What the newest tasks have been through; the stream goes on from there.
async function recall() {
  const newest = [...tasks.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1)).slice(0, RECALLED);
  const pages = newest.map((task) => call("GET", `/api/v1/tasks/${task.id}/events`));
  const events = (await Promise.all(pages)).flatMap((page) => page.items);
  events.sort((a, b) => (a.at < b.at ? -1 : 1));
  events.filter((event) => event.kind !== "progress").forEach(tell);
}

// ---- the stream --------------------------------------------------------------------------------------------------

function connection(text, live) {
  element("connection").textContent = text;
  element("connection").classList.toggle("live", live);
}

function connect() {
  source?.close();
  source = new EventSource(lastId ? `/api/v1/events?after=${encodeURIComponent(lastId)}` : "/api/v1/events");
  source.onopen = () => {
    connection("live", true);
    list();
  };
  source.onerror = () => {
    connection("reconnecting …", false);
    // The browser tries again by itself, unless the server turned it away.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
  for (const kind of ["progress", ...Object.keys(WORDS)]) source.addEventListener(kind, heard);
  source.addEventListener("gap", (message) => log(new Date().toISOString(), JSON.parse(message.data).reason, "bad"));
  source.addEventListener("bye", () => connection("the server is shutting down …", false));
}

async function list() {
  await attempt(async () => {
    const { items } = await call("GET", `/api/v1/tasks?limit=${ROWS_MAX}`);
    items.reverse().forEach(show);
    element("empty").hidden = items.length > 0;
  });
}

// A button for each model that the server knows, and one for all of them.
async function offer() {
  const models = (await call("GET", "/api/v1/catalogue")).models.map((model) => model.name);
  const choices = [...models.map((model) => [model.toUpperCase(), [model]]), ["All", models]];
  for (const [text, chosen] of choices) {
    const button = make("button", { type: "button", text });
    button.addEventListener("click", () => attempt(async () => {
      for (const model of chosen) show(await call("POST", "/api/v1/tasks", { model }));
    }));
    element("models").append(button);
  }
}
element("origin").textContent = location.origin;
await attempt(offer);
await list();
await attempt(recall);
connect();
