// A login leaves the app and comes back to its first page. What this tab was asked to open is kept
// in it meanwhile, and opened once somebody is in.
const KEY = "fusionlens-return";

export default function ({ data }) {
  const here = location.pathname + location.search;
  if (data.entered) {
    const asked = sessionStorage.getItem(KEY);
    sessionStorage.removeItem(KEY);
    // A path of this site and nothing else.
    if (asked && /^\/(?![/\\])/.test(asked) && asked !== here) location.replace(asked);
  } else if (location.pathname.endsWith("/")) {
    // The first page: a login returns to it by itself.
    sessionStorage.removeItem(KEY);
  } else {
    sessionStorage.setItem(KEY, here);
  }
}
