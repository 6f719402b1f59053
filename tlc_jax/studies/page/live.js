// In a page that is served: loads it again when its file has changed.
"use strict";
let version;
setInterval(async () => {
  try {
    const now = (await fetch("/", {method: "HEAD", cache: "no-store"})).headers.get("ETag");
    if (version !== undefined && now !== version) location.reload();
    version = now;
  } catch { /* the server has ended: the page stays as it is */ }
}, 2000);
