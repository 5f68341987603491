/** What a page tells of its network and of being seen. Outside of pages nothing ever does. */
export interface Surroundings {
  _online(): void;
  _offline(): void;
  _visible(): void;
  _hidden(): void;
}

/** Watches until the returned function is called. */
export function watchPage(s: Surroundings): () => void {
  if (typeof document === "undefined") return () => {};
  const seen = () => (document.hidden ? s._hidden() : s._visible());
  const online = () => s._online();
  const offline = () => s._offline();
  addEventListener("online", online);
  addEventListener("offline", offline);
  document.addEventListener("visibilitychange", seen);
  if (document.hidden) s._hidden();
  return () => {
    removeEventListener("online", online);
    removeEventListener("offline", offline);
    document.removeEventListener("visibilitychange", seen);
  };
}
