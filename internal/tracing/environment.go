package tracing

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Variables of OpenTelemetry that are obeyed, besides those of the resource,
// which the SDK reads. Each may be of traces alone, which is the stronger one.
const (
	envDisabled    = "OTEL_SDK_DISABLED"
	envHeaders     = "HEADERS"
	envTimeout     = "TIMEOUT"
	envCertificate = "CERTIFICATE"
	envPrefix      = "OTEL_EXPORTER_OTLP_"
	envTraces      = "TRACES_"
)

func disabled() bool { return strings.EqualFold(os.Getenv(envDisabled), "true") }

// fromEnv returns a variable of the exporter, and its name.
func fromEnv(what string) (name, value string) {
	name = envPrefix + envTraces + what
	if value = os.Getenv(name); value == "" {
		name = envPrefix + what
		value = os.Getenv(name)
	}
	return name, value
}

// headersFromEnv reads "name=value,name=value", with values as in a URL.
func headersFromEnv() (http.Header, error) {
	headers := make(http.Header)
	name, list := fromEnv(envHeaders)
	for pair := range strings.SplitSeq(list, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !found || key == "" || err != nil {
			return nil, fmt.Errorf("%s must be NAME=VALUE,NAME=VALUE with values escaped as in a URL", name) // the value may be a secret
		}
		headers.Add(key, plain)
	}
	return headers, nil
}

func timeoutFromEnv(otherwise time.Duration) (time.Duration, error) {
	name, value := fromEnv(envTimeout)
	if value == "" {
		return otherwise, nil
	}
	ms, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s is %q, but must be a number of milliseconds", name, value)
	}
	return cmp.Or(time.Duration(ms)*time.Millisecond, otherwise), nil
}

// tlsFromEnv trusts the authorities of a file instead of the system's, where there is one.
func tlsFromEnv() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	name, file := fromEnv(envCertificate)
	if file == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s has no certificate in PEM", name, file)
	}
	return cfg, nil
}
