// The console works without this script, except for the search for a leaked token, which must not leave the browser.

// A region with data-refresh is replaced every so many seconds, unless the page is in the background or in use.
for (const region of document.querySelectorAll("[data-refresh]")) {
  const again = async () => {
    const now = document.querySelector("[data-refresh]");
    if (document.hidden || now.contains(document.activeElement) || String(document.getSelection())) return;
    const response = await fetch(location.href).catch(() => null);
    if (response === null || !response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.querySelector("[data-refresh]");
    if (fresh && !now.contains(document.activeElement)) now.replaceWith(document.adoptNode(fresh));
  };
  setInterval(again, 1000 * Number(region.dataset.refresh));
}

// Parts of a page that take longer than the page.
for (const part of document.querySelectorAll("[data-load]")) {
  part.textContent = "Reading the audit log …";
  fetch(part.dataset.load)
    .then(async (response) => {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      part.replaceChildren(...(response.ok ? page.body : page.querySelector("main")).childNodes);
    })
    .catch(() => (part.textContent = "The console did not respond."));
}

// A form that takes long says so, and is sent once.
for (const form of document.querySelectorAll("form[data-working]")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    form.querySelector("[role=status]").textContent = form.dataset.working;
  });
}

// A leaked token stays in this field. Its token_id is the first 16 hex digits of its SHA-256.
const find = document.getElementById("find");
if (find) {
  find.addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = document.getElementById("leaked-token");
    const text = field.value.trim().replace(/^Bearer\s+/i, "");
    if (!text) return field.focus();
    let tokenId = text;
    if (!/^[0-9a-f]{16}$/.test(text)) {
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
      tokenId = [...digest.slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    }
    field.value = "";
    document.getElementById("token-id").value = tokenId;
    find.querySelector("[role=status]").textContent = "Searching the live tokens and the audit log …";
    find.submit();
  });
}

// Narrows a list while its name is typed.
for (const input of document.querySelectorAll("[data-filter]")) {
  const items = document.getElementById(input.dataset.filter).children;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const item of items) item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
  });
}
