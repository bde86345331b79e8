// Keeps an open page up to date: the server hints that something changed, and the page asks for itself anew. What
// stayed the same is left alone, so neither focus nor a selection is lost. Without this script a reload does the same.
"use strict";

const POLL = 15000; // ms between two looks where there is no stream
const OLD = 30000; // ms after which the page says that it is old
const connection = document.getElementById("connection");
let stream = null;
let updated = Date.now();
let fetching = false;
let again = false;

function same(from, to) {
  return from.nodeType === to.nodeType && from.nodeName === to.nodeName;
}

function sync(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.isEqualNode(to)) return;
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  const before = [...from.childNodes];
  const after = [...to.childNodes];
  after.forEach((child, place) => {
    if (place >= before.length) from.append(child);
    else if (same(before[place], child)) sync(before[place], child);
    else before[place].replaceWith(child);
  });
  before.slice(after.length).forEach((child) => child.remove());
}

function say(text, lost) {
  if (connection.textContent !== text) connection.textContent = text;
  connection.classList.toggle("lost", lost);
}

async function update() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !page.getElementById("main")) throw new Error(answer.statusText);
    document.title = page.title;
    for (const id of ["main", "as-of"]) sync(document.getElementById(id), page.getElementById(id));
    const icon = document.querySelector("link[rel=icon]");
    icon.href = page.querySelector("link[rel=icon]").getAttribute("href");
    updated = Date.now();
    say("Live.", false);
    if (!page.body.dataset.live) rest();
  } catch {
    say("Not connected: what you see is old.", true);
  } finally {
    fetching = false;
    if (again) {
      again = false;
      update();
    }
  }
}

function close() {
  if (stream) stream.close();
  stream = null;
}

// An incident that is over changes no more.
function rest() {
  close();
  delete document.body.dataset.live;
  say("", false);
}

function open() {
  if (stream || document.hidden || !document.body.dataset.live) return;
  stream = new EventSource(document.body.dataset.live);
  stream.addEventListener("changed", update);
  stream.addEventListener("open", update);
  stream.addEventListener("error", () => {
    if (stream && stream.readyState === EventSource.CLOSED) stream = null; // as many as may are told already
    update();
  });
}

if (document.body.dataset.live) {
  open();
  // A tab that nobody looks at holds no connection.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  setInterval(() => {
    if (document.hidden || !document.body.dataset.live) return;
    if (!stream) {
      update();
      open();
    }
    if (Date.now() - updated > OLD) say("Not connected: what you see is old.", true);
  }, POLL);
}
