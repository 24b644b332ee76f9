// The page: asks for a report, follows it, shows it. Everything that it knows comes from the API beside it.

const KEY = "api-key";
const TASK = "task";
const SHOWN_LANGUAGES = 12;
// Milliseconds between two tries to follow a task, and tries before the page gives up.
const RETRY_AFTER = 1000;
const TRIES = 60;
// What each stage counts, and how much of the whole bar it takes.
const STAGES = { fetch: ["pages fetched", 0, 80], write: ["rows written", 80, 20] };
const PERIODS = { day: "The day", week: "The week", month: "The month" };

const $ = (id) => document.getElementById(id);

/** What the server refused, with its own words. */
class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.task = problem.task;
  }
}

// --- The API -----------------------------------------------------------------------------------------------------

/** An answer that is fine; asks for a key, as often as one is wanted. Throws Refused. */
async function call(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...options, headers });
    if (response.ok) return response;
    if (response.status !== 401) throw new Refused(response.status, await response.json().catch(() => ({})));
    await askForKey(key);
  }
}

const get = async (path) => (await call(path)).json();

const post = (path, body) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

let asking = null;

/** Waits until the reader has given another key than `refused`; whoever asks meanwhile waits for the same. */
function askForKey(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return Promise.resolve();
  asking ??= new Promise((given) => {
    const dialog = $("ask-key");
    $("key-why").textContent = refused
      ? "This key is not valid. Try another one."
      : "This server wants a key. It is kept until you close this tab.";
    $("key").value = "";
    // Escape closes a dialog, but without a key there is nothing to go back to.
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => {
      sessionStorage.setItem(KEY, $("key").value.trim());
      asking = null;
      given();
    };
    dialog.showModal();
  });
  return asking;
}

/** The events of a stream, each with its name and data. `EventSource` could not send the key. */
async function* events(path) {
  const response = await call(path, { headers: { Accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const field = (name) => block.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1];
      const data = field("data");
      if (data) yield { name: field("event") ?? "message", data: JSON.parse(data) };
    }
  }
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// --- A new report ------------------------------------------------------------------------------------------------

async function generate(event) {
  event.preventDefault();
  if (busy()) return;
  showProgress("Handing it in …");
  try {
    const submitted = await (await post("/reports", Object.fromEntries(new FormData($("generate"))))).json();
    await follow(submitted.links.events);
  } catch (error) {
    fail(error);
  }
}

/** Follow a task until it has an answer, over broken connections too, and after the page was loaded anew. */
async function follow(path) {
  sessionStorage.setItem(TASK, path);
  for (let tries = 0; tries < TRIES; tries++) {
    try {
      for await (const { name, data } of events(path)) {
        tries = 0;
        if (name === "unavailable") showProgress("The result store does not answer; the report goes on …");
        if (name === "gone") throw new Refused(404, { detail: "The server knows nothing of this report any more." });
        if (name === "state") {
          show(data);
          if (data.final) return;
        }
      }
    } catch (error) {
      // Something in between is away, and comes back; all else will be refused again.
      if (error instanceof Refused && ![404, 502, 503, 504].includes(error.status)) throw error;
      if (error instanceof Refused && error.status === 404 && tries >= 3) throw error;
      if (!(error instanceof Refused) && !(error instanceof TypeError)) throw error;
      showProgress("The connection is lost; trying again …");
    }
    await pause(RETRY_AFTER);
  }
  throw new Error("The server cannot be reached. Load the page again to go on.");
}

function show(state) {
  if (!state.final) {
    const { stage, done, total } = state.progress ?? {};
    const [what, from, share] = STAGES[stage] ?? [];
    if (what) showProgress(`${done} of ${total} ${what}`, from + (total ? (share * done) / total : 0));
    else showProgress(state.error ? `Trying again: ${state.error.message}` : "Waiting for a worker …");
    return;
  }
  sessionStorage.removeItem(TASK);
  if (!state.report) throw new Error(state.error?.message ?? "The report was given up.");
  $("progress").hidden = true;
  $("generate").querySelector("button").removeAttribute("aria-disabled");
  say(state.report.reused ? "Done: this report was there already." : `Done in ${state.report.seconds.toFixed(1)} s.`);
  showReport(state.report);
  listReports().catch(fail);
}

const busy = () => $("generate").querySelector("button").getAttribute("aria-disabled") === "true";

function showProgress(text, percent) {
  // Not `disabled`: that would take the focus away from whoever pressed it with the keyboard.
  $("generate").querySelector("button").setAttribute("aria-disabled", "true");
  $("progress").hidden = false;
  if (percent === undefined) $("bar").removeAttribute("value");
  else $("bar").value = percent;
  say(text);
}

function say(text, failed = false) {
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").classList.toggle("failed", failed);
}

function fail(error) {
  sessionStorage.removeItem(TASK);
  $("progress").hidden = true;
  $("generate").querySelector("button").removeAttribute("aria-disabled");
  say(error instanceof TypeError ? "The server cannot be reached. Try again." : error.message, true);
}

// --- A report ----------------------------------------------------------------------------------------------------

// A day is the same everywhere: it is shown as it was meant, in UTC.
const day = (date) => new Date(date).toLocaleDateString([], { dateStyle: "medium", timeZone: "UTC" });

const title = ({ question }) =>
  question.period ? `${PERIODS[question.period]} before ${day(question.ref_date)}` : `Since ${day(question.since)}`;

const number = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

function showReport(report) {
  const languages = Object.entries(report.languages);
  $("result").hidden = false;
  $("result-title").textContent = title(report);
  $("summary").textContent =
    `${number(report.repositories, "repository", "repositories")} in ` +
    `${number(languages.length, "language", "languages")}, grouped by ${report.question.group_by}, ${size(report)}.`;
  $("warnings").replaceChildren(...report.warnings.map((warning) => element("li", warning)));
  offer($("download"), report);
  const button = $("all-languages");
  const draw = (all) => {
    drawChart(languages, all ? languages.length : SHOWN_LANGUAGES);
    button.setAttribute("aria-expanded", all);
    button.textContent = all ? "Show fewer languages" : `Show all ${languages.length} languages`;
  };
  button.hidden = languages.length <= SHOWN_LANGUAGES;
  button.onclick = () => draw(button.getAttribute("aria-expanded") === "false");
  draw(false);
}

/** Bars beside their numbers. It is a table, so that it can be read aloud. */
function drawChart(languages, shown) {
  const most = Math.max(...languages.map(([, count]) => count), 1);
  const rows = languages.slice(0, shown).map(([language, count]) => {
    const bar = element("i");
    bar.style.width = `${(count / most) * 100}%`;
    const measure = element("div");
    measure.className = "measure";
    measure.append(bar, element("span", count));
    const head = element("th", language);
    head.scope = "row";
    const cell = element("td");
    cell.append(measure);
    const row = element("tr");
    row.append(head, cell);
    return row;
  });
  $("chart").querySelector("tbody").replaceChildren(...rows);
}

const size = ({ bytes }) => (bytes < 1024 ? `${bytes} bytes` : `${Math.round(bytes / 1024)} KB`);

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/** Let a link fetch a report. With a key, which a link cannot send, the page fetches it and hands it over. */
function offer(link, report) {
  link.href = report.url;
  link.download = report.file_name;
  link.onclick = async (event) => {
    if (!sessionStorage.getItem(KEY)) return;
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await (await call(report.url)).blob());
      Object.assign(document.createElement("a"), { href: url, download: report.file_name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      fail(error);
    }
  };
}

// --- Earlier reports ---------------------------------------------------------------------------------------------

async function listReports(path = "/reports?limit=5") {
  const page = await get(path);
  const items = page.reports.map((report) => {
    const item = $("report").content.cloneNode(true);
    const written = new Date(report.written).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    item.querySelector("strong").textContent = title(report);
    item.querySelector("span").textContent =
      `by ${report.question.group_by}${report.question.layout === "table" ? ", as a table" : ""}` +
      `${report.question.per_language ? ", a file each" : ""} · ${size(report)} · written ${written}`;
    const show = item.querySelector(".show");
    show.setAttribute("aria-label", `Languages: ${title(report)}, by ${report.question.group_by}`);
    show.onclick = () => {
      showReport(report);
      $("result-title").focus();
    };
    const link = item.querySelector(".download");
    link.setAttribute("aria-label", `Download: ${title(report)}, by ${report.question.group_by}`);
    offer(link, report);
    return item;
  });
  if (path.includes("offset=")) $("earlier").append(...items);
  else $("earlier").replaceChildren(...items);
  $("none").hidden = page.total > 0;
  $("more").hidden = !page.next;
  $("more").onclick = () => listReports(page.next).catch(fail);
}

// --- Errors on purpose -------------------------------------------------------------------------------------------

async function breakSomething() {
  let text;
  try {
    await post("/break", {});
    text = "Nothing broke.";
  } catch (error) {
    if (error.status !== 500) text = error instanceof TypeError ? "The server cannot be reached." : error.message;
    else text = $("inbox").hidden ? "It broke. The error is in the server's log." : "It broke. Its report is on its way to the inbox.";
  }
  // Said again when it happens again.
  $("broken").textContent = "";
  requestAnimationFrame(() => ($("broken").textContent = text));
}

// --- Begin -------------------------------------------------------------------------------------------------------

async function start() {
  $("generate").onsubmit = generate;
  $("break").onclick = breakSomething;
  const unfinished = sessionStorage.getItem(TASK);
  if (unfinished) follow(unfinished).catch(fail);
  const settings = await get("/page-settings");
  if (settings.mail_catcher_url) {
    $("inbox").href = settings.mail_catcher_url;
    $("inbox").hidden = false;
  }
  await listReports();
}

start().catch(fail);
