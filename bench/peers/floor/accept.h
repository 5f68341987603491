/* Sec-WebSocket-Accept (RFC 6455, section 4.2.2): the base64 form of the SHA-1 sum of the 24 characters of key and a fixed GUID. */
void accept_key(const char *key, char out[29]);
