// While a round runs, the rounds on the page are replaced whenever the server sends them anew; without this the
// page's link loads them again.
"use strict";

const place = document.getElementById("rounds");
const FOCUSABLE = "a, summary, [tabindex]";

function show(html) {
  const open = [...place.querySelectorAll("details")].map((one) => one.open);
  const focused = [...place.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  place.innerHTML = html; // made by the server's templates, which escape what comes from data
  place.querySelectorAll("details").forEach((one, number) => {
    one.open = number < open.length ? open[number] : one.open;
  });
  place.querySelectorAll(FOCUSABLE)[focused]?.focus();
}

if (place && window.EventSource) {
  const source = new EventSource("/learning/events");
  source.addEventListener("rounds", (event) => show(event.data));
  source.addEventListener("over", () => {
    source.close();
    location.reload();
  });
}
