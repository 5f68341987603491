export class PushdError extends Error {
  readonly code: string;
  constructor(code: string, message?: string) {
    super(message || code);
    this.name = "PushdError";
    this.code = code;
  }
}
