// In a page that is served: loads it again when the server has another one.
"use strict";
const version = document.querySelector("meta[name=version]").content;
setInterval(async () => {
  try {
    const now = (await fetch("/", {method: "HEAD", cache: "no-store"})).headers.get("ETag");
    if (now !== `"${version}"`) location.reload();
  } catch { /* the server has ended: the page stays as it is */ }
}, 2000);
