// Payloads that are no text travel as base64.

export const decode = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

export const encode = (bytes: Uint8Array) => btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
