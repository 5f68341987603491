// Who the operator is to the server: the admin token, where one is needed, and
// requests that carry it. It lies in the session storage of this tab alone.

import { byId } from "./dom.js";

const key = "pushd-admin-token";

const token = () => sessionStorage.getItem(key) ?? "";

// protocols is what a WebSocket offers. Its entries have fewer characters than a
// token may have, so it is in base64url.
export function protocols() {
  const bytes = new TextEncoder().encode(token());
  const text = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return text ? ["pushd.v1.json", `pushd.token.${text}`] : ["pushd.v1.json"];
}

// Refused is an answer that is an error.
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// request asks the admin listener for JSON, and for the token if that is wanted.
export async function request(path, method = "GET") {
  for (;;) {
    const shown = token();
    const response = await fetch(path, { method, cache: "no-store", headers: shown ? { Authorization: `Bearer ${shown}` } : {} });
    if (response.status !== 401) {
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Refused(response.status, answer.message ?? `the server answered ${response.status}`);
      return answer;
    }
    await login(shown);
  }
}

let asking = null; // one dialog for all that wait for it

function login(refused) {
  if (token() !== refused) return Promise.resolve(); // another has asked meanwhile
  return (asking ??= ask(refused).finally(() => { asking = null; }));
}

function ask(refused) {
  const dialog = byId("login");
  const input = dialog.querySelector("input");
  byId("login-result").textContent = refused ? "The server does not know this token." : "";
  input.value = "";
  dialog.oncancel = (event) => event.preventDefault(); // there is nothing behind it
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = () => {
      sessionStorage.setItem(key, input.value.trim());
      input.value = "";
      resolve();
    };
  });
}
