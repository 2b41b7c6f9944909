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

// A form that takes long says so, and is sent once.
for (const form of document.querySelectorAll("form[data-working]")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    form.querySelector("[role=status]").textContent = form.dataset.working;
  });
}
