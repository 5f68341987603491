// What is used everywhere to put things into the page. All text reaches it as
// text: topics, identities and messages are anybody's.

export const byId = (id) => document.getElementById(id);

// el makes an element with properties and children; what is null is left out.
export function el(tag, properties = {}, ...children) {
  const { data, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// setText changes a text only where it differs, so that selections and screen
// readers are left alone.
export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

// keyed makes the children of parent those of list, in its order. What was there
// for the same key is kept, and with it the focus: make(item) makes an element,
// update(element, item) fills it.
export function keyed(parent, list, keyOf, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of list) {
    const key = String(keyOf(item));
    let child = old.get(key);
    old.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
    update(child, item);
  }
  for (const child of old.values()) child.remove();
}

// row makes a table row of empty cells: one class name for each.
export const row = (...classes) => el("tr", {}, ...classes.map((className) => el("td", { className })));
