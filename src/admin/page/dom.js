// The document is patched, never replaced: what has not changed stays, with its
// focus and its selection. Texts from outside are only ever set as text.

const at = (id) => document.getElementById(id);

const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const show = (element, visible) => {
  if (element.hidden === visible) element.hidden = !visible;
};

// Elements by a short notation: make("dd", { class: "long" }, "text", child).
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

const drawn = (tag, attributes = {}) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  change(element, attributes);
  return element;
};

const change = (element, attributes) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
};

// Keeps one child for each item, in the order of the items, and patches it.
const list = (parent, items, { key, create, patch }) => {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = known.get(name);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = name;
    }
    known.delete(name);
    if (child === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(child, place);
    }
    patch?.(child, item);
  }
  for (const child of known.values()) child.remove();
};
