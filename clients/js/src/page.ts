/**
 * Tells when there may be a reason to connect, or to look whether the connection
 * is still there: at first, when the network has changed, when the page is seen again;
 * and, with false, that it has been hidden for pauseHidden ms. Until the signal is aborted.
 */
export function watchPage(look: (visible: boolean) => void, signal: AbortSignal, pauseHidden: boolean | number = false): void {
  const page = globalThis.document as Document | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const changed = () => {
    clearTimeout(timer);
    if (page?.hidden && pauseHidden !== false) timer = setTimeout(look, +pauseHidden, false);
    else look(true);
  };
  for (const event of ["online", "offline", "visibilitychange"]) if (page) addEventListener(event, changed, { signal });
  changed();
}
