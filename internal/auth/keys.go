package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"os"
)

// The algorithms of tokens, and no other.
const (
	algorithmHS256 = "HS256"
	algorithmRS256 = "RS256"
	algorithmES256 = "ES256"
	algorithmEdDSA = "EdDSA" // with Ed25519
)

var algorithms = []string{algorithmHS256, algorithmRS256, algorithmES256, algorithmEdDSA}

const (
	leastSecret  = 32   // bytes; RFC 7518 section 3.2: at least the size of the hash
	leastModulus = 2048 // bits; RFC 7518 section 3.3
	mostModulus  = 8192 // bits: what it takes to verify grows with their square
)

// maxTried bounds the keys with which one token is tried, for each of which
// anybody who sends garbage has a signature verified.
const maxTried = 4

// maxKeyFile bounds a file of keys, and a key set, in bytes.
const maxKeyFile = 1 << 20

// key verifies the signatures of one algorithm, which is never taken from a
// token: so a public key cannot be made the secret of HS256.
type key struct {
	id        string // kid; "": it has none
	algorithm string
	value     any // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

func named(id string) func(key) bool { return func(k key) bool { return k.id == id } }

// readKeys makes all keys that are there without a network. read is for each file.
func readKeys(secret, secretFile string, files []string, read func(path string) ([]byte, error)) ([]key, error) {
	var keys []key
	if secret != "" {
		k, err := secretKey([]byte(secret))
		if err != nil {
			return nil, describe("PUSHD_TOKEN_SECRET", err)
		}
		keys = append(keys, k)
	}
	if secretFile != "" {
		text, err := read(secretFile)
		if err != nil {
			return nil, describe("--token-secret-file", err)
		}
		k, err := secretKey(bytes.TrimRight(text, "\r\n")) // which editors add
		if err != nil {
			return nil, describe("--token-secret-file "+secretFile, err)
		}
		keys = append(keys, k)
	}
	for _, file := range files {
		text, err := read(file)
		if err != nil {
			return nil, describe("--token-key", err)
		}
		more, err := parseKeys(text)
		if err != nil {
			return nil, describe("--token-key "+file, err)
		}
		keys = append(keys, more...)
	}
	unnamed := make(map[string]int)
	for _, k := range keys {
		if k.id == "" {
			unnamed[k.algorithm]++
		}
		if unnamed[k.algorithm] > maxTried {
			return nil, fmt.Errorf("--token-key: more than %d keys for %s have no ID (kid), and a token is tried with each: put them into a JWK set, where they have one", maxTried, k.algorithm)
		}
	}
	return keys, nil
}

// describe puts what a person has to look at in front of an error.
func describe(setting string, err error) error { return fmt.Errorf("%s: %w", setting, err) }

func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s has %d bytes, of at most %d", path, info.Size(), maxKeyFile)
	}
	return os.ReadFile(path)
}

func secretKey(secret []byte) (key, error) {
	if bytes.Contains(secret, []byte("-----BEGIN ")) {
		return key{}, errors.New("is PEM, and a public key is no secret: give it with --token-key")
	}
	if len(secret) < leastSecret {
		return key{}, fmt.Errorf("has %d bytes, but a secret for HS256 must have at least %d that nobody can guess: make one with openssl rand -hex 32", len(secret), leastSecret)
	}
	return key{algorithm: algorithmHS256, value: secret}, nil
}

// parseKeys reads a file of public keys: a JWK set, or blocks of PEM.
func parseKeys(text []byte) ([]key, error) {
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		return parseKeySet(trimmed)
	}
	var keys []key
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		public, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		k, err := publicKey(public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("has neither PEM (BEGIN PUBLIC KEY) nor a JWK set; a secret for HS256 goes into --token-secret-file")
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		return nil, fmt.Errorf("has a %s, which belongs to the issuer of tokens alone: give the public key (openssl pkey -pubout)", block.Type)
	}
	return nil, fmt.Errorf("has a block %q, but must have PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", block.Type)
}

// publicKey binds a public key to its one algorithm, and refuses what is too
// weak, or costs too much to verify with.
func publicKey(public any) (key, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < leastModulus || bits > mostModulus {
			return key{}, fmt.Errorf("has an RSA key of %d bits, but must have %d to %d", bits, leastModulus, mostModulus)
		}
		if public.E < 3 || public.E > math.MaxInt32 || public.E%2 == 0 || public.N.Bit(0) == 0 {
			return key{}, errors.New("has an RSA key that is none: its modulus and its exponent must be odd, and the exponent 3 to 2147483647")
		}
		return key{algorithm: algorithmRS256, value: public}, nil
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return key{}, fmt.Errorf("has a key on curve %s, but ES256 needs P-256", public.Curve.Params().Name)
		}
		if _, err := public.ECDH(); err != nil { // the point may be none of the curve
			return key{}, fmt.Errorf("has an EC key that is none: %w", err)
		}
		return key{algorithm: algorithmES256, value: public}, nil
	case ed25519.PublicKey:
		return key{algorithm: algorithmEdDSA, value: public}, nil
	}
	return key{}, fmt.Errorf("has a key of type %T, but must have RSA, EC or Ed25519", public)
}
